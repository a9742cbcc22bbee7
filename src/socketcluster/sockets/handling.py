"""Handling: carries out a peer's messages by the handlers that an application has declared.

A plain handler runs in the read callback: no task, no future, no wake-up. An async one has a `Line`
for each socket that uses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Coroutine, Mapping
from functools import partial
from typing import Any, Protocol

from socketcluster.handlers.dependencies import Invocation, Provider, ScopedValues
from socketcluster.handlers.handler import Handler
from socketcluster.handlers.line import Backpressure, Line
from socketcluster.handlers.plan import Plan, Source, get_data
from socketcluster.handlers.tables import HandlerTables
from socketcluster.runtime.reporting import Reporter, clean
from socketcluster.sockets.handler_tasks import HandlerTasks
from socketcluster.sockets.runners import (
    DirectProcedure,
    DirectReceiver,
    EventRunner,
    LinedProcedure,
    LinedReceiver,
)


class SocketHandling:
    """The waiting messages and provided values of one socket; made on first use.

    Attributes:
        lines: from an async handler's runner to the messages that wait for it.
        values: the values of providers with scope 'socket'; None once the socket has left.
    """

    __slots__ = ("lines", "values")

    def __init__(self, values: ScopedValues | None) -> None:
        self.lines: dict[Any, Line] = {}
        self.values: ScopedValues | None = values


_LEFT = SocketHandling(None)
"""The handling of a socket that has left: a value lives for a message, as nothing ends later."""


class Gauged(Protocol):
    """The streams of a socket, with the gauge of its waiting messages."""

    @property
    def gauge(self) -> Backpressure: ...


class HandledSocket(Protocol):
    """A socket, as handling sees it."""

    handling: SocketHandling | None

    @property
    def streams(self) -> Gauged: ...


class Handling:
    """The handlers of one server or client, ready to run.

    Attributes:
        tables: all that the application has declared.
        procedures, receivers: from the name to the runner.
        events: from the event's name to its handlers.
        on_resolved: called after the handlers were prepared.
        latest: the plain handler that ran last; the watchdog resets it.
        tasks: those of the async handlers.
        is_open: whether messages may come; then a new handler is prepared at once.
    """

    __slots__ = (
        "_on_invalid",
        "_server_values",
        "events",
        "is_open",
        "latest",
        "on_resolved",
        "overrides",
        "procedures",
        "receivers",
        "reporter",
        "sources",
        "tables",
        "tasks",
    )

    def __init__(
        self,
        tables: HandlerTables,
        sources: Mapping[str, Source],
        reporter: Reporter,
        on_invalid: Callable[[Any, Exception], None],
    ) -> None:
        """Prepare; `on_invalid(socket, error)` receives data of a wrong type."""
        self.tables: HandlerTables = tables
        self.sources: Mapping[str, Source] = sources
        self._on_invalid = on_invalid
        self._server_values = ScopedValues()
        self.reporter: Reporter = reporter
        self.on_resolved: Callable[[], None] = lambda: None
        self.overrides: dict[Any, Provider] = {}
        self.procedures: dict[str, DirectProcedure | LinedProcedure] = {}
        self.receivers: dict[str, DirectReceiver | LinedReceiver] = {}
        self.events: dict[str, list[EventRunner]] = {}
        self.latest: Handler | None = None
        self.tasks: HandlerTasks = HandlerTasks()
        self.is_open: bool = False

    def open(self) -> None:
        """Prepare all handlers for a server or client that starts, maybe in another loop.

        Raises:
            UsageError: as `resolve`.
        """
        self.resolve()
        self.tasks.open()
        self.is_open = True

    def resolve(self) -> None:
        """Prepare all handlers to run, with the providers there are now.

        Raises:
            UsageError: nothing provides a parameter, or providers need each other in a circle.
        """
        tables = self.tables
        self.procedures, self.receivers, self.events = (
            {name: self._procedure(each) for name, each in tables.procedures.items()},
            {name: self._receiver(each) for name, each in tables.receivers.items()},
            {
                name: [EventRunner(each, self._event_plan(each), self) for each in handlers]
                for name, handlers in tables.events.items()
            },
        )
        self.on_resolved()

    def _procedure(self, handler: Handler) -> DirectProcedure | LinedProcedure:
        plan = self._message_plan(handler)
        return (LinedProcedure if plan.is_async else DirectProcedure)(handler, plan, self)

    def _receiver(self, handler: Handler) -> DirectReceiver | LinedReceiver:
        plan = self._message_plan(handler)
        return (LinedReceiver if plan.is_async else DirectReceiver)(handler, plan, self)

    def _message_plan(self, handler: Handler) -> Plan:
        sources = {**self.sources, "data": Source(None, get_data)}
        return Plan(handler.signature, sources, self, handler.options.thread)

    def _event_plan(self, handler: Handler) -> Plan:
        sources = {**self.sources, "event": Source(None, get_data)}
        return Plan(handler.signature, sources, self)

    # Surroundings of plans, and the context of runners

    @property
    def providers(self) -> Mapping[Any, Provider]:
        """The providers by type, those of tests first."""
        return {**self.tables.providers, **self.overrides}

    def scoped(self, provider: Provider, invocation: Invocation) -> ScopedValues | None:
        """See `Surroundings.scoped`."""
        if provider.scope == "message":
            return None
        if provider.scope == "server":
            return self._server_values
        socket = invocation.socket
        if socket is None:
            raise provider.signature.error("it has scope 'socket', and this event has no socket")
        return _handling_of(socket).values

    def line(self, socket: HandledSocket, runner: Any) -> Line:
        """See `RunnerContext.line`."""
        lines = _handling_of(socket).lines
        line = lines.get(runner)
        if line is None:
            options = runner.handler.options
            line = _taken_over(lines, runner) or Line(
                runner.work,
                options.limit,
                options.order == "latest",
                socket.streams.gauge,
                self.tasks.messages,
            )
            lines[runner] = line
        return line

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """See `RunnerContext.start`."""
        return self.tasks.start(coroutine)

    def invalid(self, socket: HandledSocket, handler: Handler, error: Exception) -> None:
        """See `RunnerContext.invalid`."""
        handler.invalid += 1
        self.reporter.line(
            f"The data for {clean(handler.name)!r} is invalid: {error}",
            logging.DEBUG,
            ("invalid", handler.name),
        )
        self._on_invalid(socket, error)

    # Events

    def emit(self, name: str, event: Any, socket: Any = None) -> list[asyncio.Task[None]]:
        """Have an event handled; return the tasks of async handlers.

        `socket` is for an event that has none of its own.
        """
        tasks = (runner(event, socket) for runner in self.events.get(name, ()))
        return [task for task in tasks if task is not None]

    # Ending

    def busy(self, spared: Container[asyncio.Task[Any]]) -> bool:
        """Return whether an async handler of a message runs, except in the tasks `spared`."""
        return any(task not in spared for task in self.tasks.messages)

    def socket_left(self, socket: HandledSocket, drop_waiting: bool) -> None:
        """End a socket's waiting messages; clean up its provided values when no handler runs."""
        handling = socket.handling or _LEFT
        for runner, line in handling.lines.items():
            if runner.handler.options.cancel_on_disconnect:
                line.cancel()
            elif drop_waiting:
                line.drop_waiting()
        for line in handling.lines.values():
            line.on_idle = partial(self._line_idle, socket)
        self._line_idle(socket)

    def _line_idle(self, socket: HandledSocket) -> None:
        handling = socket.handling or _LEFT
        if not any(line.running for line in handling.lines.values()):
            socket.handling = _LEFT
            self._clean_up(handling.values)

    def connection_lost(self, socket: HandledSocket) -> None:
        """Cancel and clean up after a connection of a socket that may connect again."""
        if socket.handling is not None:
            for runner, line in socket.handling.lines.items():
                if runner.handler.options.cancel_on_disconnect:
                    line.cancel()
            self._clean_up(socket.handling.values)

    def token_changed(self, socket: HandledSocket) -> None:
        """Forget the provided values of a socket: it may have become another user's."""
        if socket.handling is not None:
            self._clean_up(socket.handling.values)

    def _clean_up(self, values: ScopedValues | None) -> None:
        if values is not None and values.used:
            old = values.emptied()  # At once: the next message may be another user's.
            old.cancel()
            self.tasks.start_clean_up(self._close(old))

    async def _close(self, values: ScopedValues) -> None:
        try:
            await values.close()
        except Exception as error:
            self.reporter.fault("The clean-up of a provider failed", error)

    @property
    def used(self) -> bool:
        """Whether a task runs, or there is a provided value of scope 'server'."""
        return bool(self.running(()) or self._server_values.used)

    def running(self, spared: Container[asyncio.Task[Any]]) -> list[asyncio.Task[None]]:
        """All tasks of handlers and of clean-ups, except `spared`."""
        return self.tasks.running(spared)

    async def close(self, spared: Container[asyncio.Task[Any]], seconds: float) -> None:
        """End all handlers as `HandlerTasks.close` does, and clean up after the server."""
        self.is_open = False
        await self.tasks.close(spared, seconds)
        await self.close_values()

    async def close_values(self) -> None:
        """Clean up the provided values of scope 'server'."""
        values = self._server_values.emptied()
        values.cancel()
        await self._close(values)


def _taken_over(lines: dict[Any, Line], runner: Any) -> Line | None:
    """Have a handler's new runner take over the line of the earlier one: the order is kept."""
    for earlier in lines:
        if earlier.handler is runner.handler:
            line = lines.pop(earlier)
            line.use(runner.work)
            return line
    return None


def _handling_of(socket: HandledSocket) -> SocketHandling:
    if socket.handling is None:
        socket.handling = SocketHandling(ScopedValues())
    return socket.handling
