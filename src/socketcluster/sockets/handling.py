"""Handling: carries out a peer's messages by the handlers that an application has declared.

A plain handler runs in the read callback: no task, no future, no wake-up. An async one has a `Line`
for each socket that uses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Coroutine, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from socketcluster.handlers.dependencies import Invocation, Provider, ScopedValues
from socketcluster.handlers.handler import ChannelHandler, Handler
from socketcluster.handlers.line import Backpressure, Line
from socketcluster.handlers.plan import Plan, Source, Surroundings, get_data
from socketcluster.handlers.tables import HandlerTables
from socketcluster.runtime.ending import Ending
from socketcluster.runtime.reporting import Reporter, clean
from socketcluster.sockets.handler_tasks import HandlerTasks
from socketcluster.sockets.overrides import Overrides, ProvidedValues
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
        make_line: makes the line of an async handler and a socket.
        on_procedure, on_resolved: called with each procedure's runner; after all were prepared.
        latest: the plain handler that ran last; the watchdog resets it.
        tasks: those of the async handlers.
        is_open: whether messages may come; then a new handler is prepared at once.
    """

    __slots__ = (
        "_is_resolved",
        "_on_invalid",
        "_values",
        "events",
        "is_open",
        "latest",
        "make_line",
        "on_procedure",
        "on_resolved",
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
        self.reporter: Reporter = reporter
        self.on_resolved: Callable[[], None] = lambda: None
        self.make_line: type[Line] = Line
        self.on_procedure: Callable[[DirectProcedure | LinedProcedure], None] = lambda _: None
        self._is_resolved = False
        self.procedures: dict[str, DirectProcedure | LinedProcedure] = {}
        self.receivers: dict[str, DirectReceiver | LinedReceiver] = {}
        self.events: dict[str, list[EventRunner]] = {}
        self.latest: Handler | ChannelHandler | None = None
        self.tasks: HandlerTasks = HandlerTasks()
        self._values = ProvidedValues(reporter, self.tasks.start_clean_up)
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
        self._is_resolved = True
        self.on_resolved()

    def _procedure(self, handler: Handler) -> DirectProcedure | LinedProcedure:
        plan = self._message_plan(handler)
        runner = (LinedProcedure if plan.is_async else DirectProcedure)(handler, plan, self)
        self.on_procedure(runner)
        return runner

    def _receiver(self, handler: Handler) -> DirectReceiver | LinedReceiver:
        plan = self._message_plan(handler)
        return (LinedReceiver if plan.is_async else DirectReceiver)(handler, plan, self)

    def _message_plan(self, handler: Handler) -> Plan:
        sources = {**self.sources, "data": Source(None, get_data)}
        return Plan(handler.signature, sources, self.surroundings, handler.options.thread)

    def _event_plan(self, handler: Handler) -> Plan:
        sources = {**self.sources, "event": Source(None, get_data)}
        return Plan(handler.signature, sources, self.surroundings)

    # Surroundings of plans, and the context of runners

    @property
    def surroundings(self) -> Surroundings:
        """The surroundings of plans that are made now."""
        overrides = self._values.overrides
        return overrides[-1] if overrides else self

    @property
    def providers(self) -> Mapping[Any, Provider]:
        """The providers by type, those of tests first."""
        found = dict(self.tables.providers)
        for overrides in self._values.overrides:
            found |= overrides.own
        return found

    @contextmanager
    def override(self, values: Mapping[Any, Any]) -> Generator[None]:
        """Override dependencies: see `socketcluster.testing.override`."""
        overrides = Overrides(values, self)
        self._values.overrides.append(overrides)
        try:
            self._resolve_again()
            yield
        finally:
            self._values.remove(overrides)
            self._resolve_again()

    def _resolve_again(self) -> None:
        if self._is_resolved:
            self.resolve()

    def scoped(self, provider: Provider, invocation: Invocation) -> ScopedValues | None:
        """See `Surroundings.scoped`."""
        if provider.scope == "message":
            return None
        if provider.scope == "server":
            return self._values.server
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
            line = _taken_over(lines, runner) or self.make_line(
                runner.work,
                options.limit,
                options.order == "latest",
                socket.streams.gauge,
                self.tasks.messages,
            )
            line.name, lines[runner] = runner.handler.name, line
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
            socket=socket,
            procedure=handler.name,
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

    def socket_busy(self, socket: HandledSocket, spared: Container[asyncio.Task[Any]]) -> bool:
        """Return whether an async handler of a socket's message runs, except in `spared`."""
        handling = socket.handling
        return handling is not None and any(line.busy(spared) for line in handling.lines.values())

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
            self._values.forget(handling.values)

    def connection_lost(self, socket: HandledSocket) -> None:
        """Cancel and clean up after a connection of a socket that may connect again."""
        if socket.handling is not None:
            for runner, line in socket.handling.lines.items():
                if runner.handler.options.cancel_on_disconnect:
                    line.cancel()
            self._values.forget(socket.handling.values)

    def token_changed(self, socket: HandledSocket) -> None:
        """Forget the provided values of a socket: it may have become another user's."""
        if socket.handling is not None:
            self._values.forget(socket.handling.values, cancel=True)

    @property
    def used(self) -> bool:
        """Whether a task runs, or there is a provided value of scope 'server'."""
        return bool(self.running(()) or self._values.used)

    def running(self, spared: Container[asyncio.Task[Any]]) -> list[asyncio.Task[None]]:
        """All tasks of handlers and of clean-ups, except `spared`."""
        return self.tasks.running(spared)

    async def close(
        self, spared: Container[asyncio.Task[Any]], seconds: float, ending: Ending
    ) -> None:
        """End all handlers as `HandlerTasks.close` does, and clean up after the server."""
        self.is_open = False
        await self.tasks.close(spared, seconds, ending)
        await ending.run(self.close_values, "the clean-up of a provider with scope 'server'")
        self._is_resolved = False

    async def close_values(self) -> None:
        """Clean up the provided values of scope 'server'."""
        await self._values.close()


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
