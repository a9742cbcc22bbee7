"""Metering: the counters of a server whose metrics are on, and their reading."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol, get_args

from socketcluster.errors import UsageError
from socketcluster.history.numbers import Numbers
from socketcluster.literals import ActionType
from socketcluster.metrics.calls import CallTimes
from socketcluster.metrics.durations import Durations
from socketcluster.metrics.options import Metrics
from socketcluster.metrics.reading import OTHER, Reading
from socketcluster.nodes.messages import NodeMessages
from socketcluster.pubsub.traffic import Traffic
from socketcluster.server.background import BackgroundFunction
from socketcluster.server.context import SocketContext
from socketcluster.server.hub import Hub
from socketcluster.server.parts.stored_channels import RESULTS
from socketcluster.server.parts.tokens import REASONS
from socketcluster.server.survey import Survey
from socketcluster.sockets.flusher import CountingFlusher

if TYPE_CHECKING:
    from socketcluster.metrics.service import ServerMetrics

COLLECT_VARIABLE = "SOCKETCLUSTER_COLLECT_METRICS"
"""The environment variable by which `serve --metrics-port` turns on the metrics of a server that
does not have the option."""

Measure = Callable[[], tuple[int, float | None]]
"""`MeasuredBroker.measure`."""


class MeteredLifecycle(Protocol):
    """The lifecycle of a server."""

    def add_background(self, function: BackgroundFunction) -> None:
        """Have a function run while the server does."""


class MeteredPresence(Protocol):
    """The members of a server's channels."""

    def members_here(self) -> Mapping[str, int]: ...


class MeteredServer(Protocol):
    """The server, as its metering sees it."""

    @property
    def hub(self) -> Hub: ...
    @property
    def lifecycle(self) -> MeteredLifecycle: ...
    @property
    def node_messages(self) -> NodeMessages | None: ...
    @property
    def presence(self) -> MeteredPresence: ...


class Metering:
    """Counts what a server does.

    A server without metrics has none: it does not time calls, and does not count what it writes.
    """

    __slots__ = (
        "_calls",
        "_context",
        "_lag",
        "_options",
        "_pongs",
        "_reported",
        "_server",
        "_traffic",
    )

    _context: SocketContext
    _server: MeteredServer

    def __init__(self, options: Metrics) -> None:
        self._options = options
        self._traffic = Traffic()
        self._calls = CallTimes()
        self._pongs = Durations()
        self._reported: dict[tuple[str, str], int] = {}
        self._lag = Durations()

    @classmethod
    def of(cls, options: Metrics | None) -> Metering | None:
        """Make the metering of a server with these options; None if its metrics are off."""
        if options is None and COLLECT_VARIABLE in os.environ:
            options = Metrics(path=None)
        return None if options is None else cls(options)

    def settle(self, late: float) -> None:
        """Count a tick that was `late` seconds late, and the durations if many wait."""
        self._lag.add(max(0.0, late))
        self._lag.settle_many()
        self._pongs.settle_many()
        self._calls.settle()

    def serve(self, server: MeteredServer, context: SocketContext) -> ServerMetrics:
        """Have a server's sockets count, and make the metrics that users see.

        Raises:
            UsageError: prometheus-client is not installed.
        """
        try:
            from socketcluster.metrics.service import ServerMetrics  # noqa: PLC0415  Optional.
        except ModuleNotFoundError as error:
            raise UsageError(
                "The metrics option needs the extra 'metrics': pip install 'socketcluster[metrics]'"
            ) from error
        self._server = server
        self._context = context
        traffic = context.exchange.fan_out.traffic = self._traffic
        context.make_flusher = partial(CountingFlusher, traffic.wrote)
        if context.options.request_creator is None:
            context.make_call = self._calls.request_class()
        context.pongs = self._pongs.add
        context.handling.on_procedure = self._calls.time_procedure
        metrics = ServerMetrics(
            self._options, self.read, self.read_in_slices, context.loop_binding, context.reporter
        )
        if metrics.port is not None:
            server.lifecycle.add_background(metrics.port.serve)
        return metrics

    # Reading

    def read(self) -> Reading:
        """Read all numbers at once."""
        survey = self._new_survey()
        survey.look(self._server.hub.sockets())
        return self._reading(survey)

    async def read_in_slices(self) -> Reading:
        """Read all numbers, and let the event loop turn in between."""
        survey = self._new_survey()
        await survey.look_in_slices(self._server.hub.sockets())
        return self._reading(survey)

    def _new_survey(self) -> Survey:
        """Start with the sockets that ended before: one that ends meanwhile is counted once."""
        counts = self._context.counts
        return Survey(counts.received, counts.received_size, counts.sent_size)

    def _reading(self, survey: Survey) -> Reading:
        context, hub, traffic = self._context, self._server.hub, self._traffic
        nodes = self._server.node_messages
        counts, exchange = context.counts, context.exchange
        broker, delivery = exchange.broker, exchange.delivery
        # A broker of the application, or around another one, may have it or not.
        measure: Measure | None = getattr(broker, "measure", None)
        unconfirmed, round_trip = (None, None) if measure is None else measure()
        opened = len(hub.clients) + counts.disconnections.total()
        return Reading(
            clients=len(hub.clients),
            pending_clients=len(hub.pending),
            subscriptions=survey.subscriptions,
            channels=exchange.channels_count,
            connections={
                "opened": opened,
                "aborted": counts.aborted,
                "refused": counts.refused,
            },
            disconnections=dict(counts.disconnections),
            messages_received=survey.received,
            received_bytes=survey.received_size,
            messages_sent=traffic.messages,
            sent_bytes=traffic.size + survey.sent_size,
            calls=self._answered(survey.calls),
            call_durations=self._durations(),
            calls_in_progress=survey.calls.total(),
            publishes={
                "client": delivery.published - delivery.published_here,
                "exchange": delivery.published_here,
                "backend": delivery.received,
            },
            deliveries=traffic.deliveries,
            dropped_publishes=exchange.fan_out.dropped,
            blocked_actions=dict.fromkeys(get_args(ActionType), 0) | counts.blocked,
            inbound_backlog_messages_max=survey.backlog,
            outbound_buffer_bytes_max=survey.buffer,
            consumer_backpressure_max=max(
                survey.backpressure, exchange.get_all_channels_backpressure()
            ),
            paused_sockets=survey.paused,
            pongs=self._pongs,
            broker_up=broker.ready,
            broker_gaps=exchange.gaps.count,
            broker_gap_seconds=exchange.gaps.seconds,
            histories=_histories(exchange.stored.numbers),
            broker_unconfirmed=unconfirmed,
            broker_round_trip=round_trip,
            loop_lag=self._lag,
            auth_failures=dict.fromkeys(REASONS, 0) | context.tokens.failures,
            recoveries=dict.fromkeys(RESULTS, 0) | counts.recoveries,
            sessions={} if context.sessions is None else context.sessions.counts,
            rate_limited=dict(context.rate_limits.limited),
            max_connections=context.options.max_connections,
            node_messages={} if nodes is None else _sent_and_received(nodes),
            node_messages_dropped={} if nodes is None else dict(nodes.dropped),
            presence_members=dict(self._server.presence.members_here()),
            build=_build(),
        )

    def _durations(self) -> dict[str, Durations]:
        return {OTHER: self._calls.others, **self._calls.handlers}

    def _answered(self, waiting: Mapping[str, int]) -> dict[tuple[str, str], int]:
        """The calls by procedure and result; `waiting` are those without an answer."""
        found, handling, counts = {}, self._context.handling, self._context.counts
        procedures, failed = handling.tables.procedures, counts.failed_calls
        running = Counter(line.name for line in list(handling.tasks.messages.values()))
        others = sum(
            count
            for name, count in waiting.items()
            if name not in procedures and not name.startswith("#")
        )
        found[OTHER, "ok"] = self._calls.others.begun - failed - others - counts.abandoned_calls
        found[OTHER, "error"] = failed
        for name, handler in procedures.items():
            times = self._calls.handlers.get(name)
            begun = 0 if times is None else times.begun
            found[name, "ok"] = begun - handler.failed - running[name]
            found[name, "error"] = handler.failed
            found[name, "invalid"] = handler.invalid
        for labels, count in found.items():
            # Calls that go on during a survey must not let a counter fall.
            found[labels] = self._reported[labels] = max(count, self._reported.get(labels, 0))
        return found


def _histories(numbers: Numbers) -> dict[str, int]:
    return {
        "stored_publishes": numbers.published,
        "history_reads": numbers.reads,
        "history_gaps_filled": numbers.filled,
        "history_gaps_unfilled": numbers.unfilled,
    }


def _sent_and_received(nodes: NodeMessages) -> dict[str, int]:
    return {"sent": nodes.sent, "received": nodes.received, "failed": nodes.failed}


def ticking(metering: Metering | None, on_late: Callable[[float], None]) -> Callable[[float], None]:
    """Return a function for the ticker, which calls `on_late` and settles the metering."""
    if metering is None:
        return on_late

    def ticked(late: float) -> None:
        metering.settle(late)
        on_late(late)

    return ticked


def _build() -> dict[str, str]:
    return {"version": version("socketcluster"), "python": platform.python_version()}
