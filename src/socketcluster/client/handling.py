"""The handlers of a client: their parameters, and their ends.

Handlers survive connections, and so do the messages that wait for them, as for loops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from socketcluster.client.listeners import CLIENT_EVENTS
from socketcluster.client.reporting import Events
from socketcluster.errors import UsageError
from socketcluster.handlers.dependencies import ScopedValues
from socketcluster.handlers.handler import EventHandler, ProcedureHandler
from socketcluster.handlers.plan import Source
from socketcluster.handlers.tables import HandlerTables
from socketcluster.literals import SocketState
from socketcluster.protocol.state import CLOSED, OPEN, StateMachine
from socketcluster.runtime.cancelling import cancel
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import place_of
from socketcluster.sockets.handling import Handling, SocketHandling
from socketcluster.sockets.request import HandlerResponder
from socketcluster.sockets.streams import PeerStreams, handled_twice

HANDLER_SECONDS = 3.0
"""How long `wait_closed` waits for async handlers before it cancels them."""


def client_sources(client: Any, kind: type) -> dict[str, Source]:
    """Return the sources of the parameters of a client's handlers, except the data or the event.

    Handlers may ask for the class `kind` or for the client's own, which may be derived.
    """

    def get_client(invocation: Any) -> Any:
        return client

    # The client outlives all values that are provided.
    return {
        "socket": Source(kind, get_client, "server"),
        "client": Source(type(client), get_client, "server"),
    }


class ClientTables(HandlerTables):
    """The handlers and providers of a client, which has no channels and no middleware to handle."""

    def include(self, other: HandlerTables, prefix: str) -> None:
        """See `HandlerTables.include`.

        Raises:
            UsageError: a name has a handler already, or the router is for a server.
        """
        for channel in other.channels.values():
            raise UsageError(
                f"{channel.place}: a client has no handlers of channels, the server decides on "
                "them. Loop over client.subscribe(name)"
            )
        for type, function in other.middleware.items():
            raise UsageError(
                f"{place_of(function)}: a client has no middleware {type!r}, only a server has"
            )
        super().include(other, prefix)


class HandledConnection:
    """A connection, as the runners of handlers see a socket.

    Attributes:
        messaging: answers the calls that arrived over it; None before the first connection.
        handling: the waiting messages and provided values of the client.
        streams: have the gauge of all that waits.
    """

    __slots__ = ("handling", "messaging", "streams")

    def __init__(
        self, streams: PeerStreams, handling: SocketHandling, messaging: HandlerResponder | None
    ) -> None:
        self.streams: PeerStreams = streams
        self.handling: SocketHandling | None = handling
        self.messaging: HandlerResponder | None = messaging


class ClientHandling:
    """Runs the handlers of one client.

    They are prepared when one is needed, because a client connects as soon as it is made, and its
    handlers are declared after that.

    Attributes:
        handling: the handlers.
        loops: the place of the last loop over each procedure.
    """

    __slots__ = (
        "_binding",
        "_end",
        "_events",
        "_failed",
        "_here",
        "_is_current",
        "_machine",
        "_state",
        "_streams",
        "handling",
        "loops",
    )

    def __init__(
        self,
        tables: HandlerTables,
        sources: Mapping[str, Source],
        streams: PeerStreams,
        binding: LoopBinding,
        machine: StateMachine[SocketState],
        events: Events,
    ) -> None:
        """`machine` holds the client's state."""
        self.handling: Handling = Handling(
            tables, sources, events.reporter, lambda _, error: events.emit_error(error)
        )
        tables.on_added = self._added
        self._streams = streams
        self._binding = binding
        self._machine = machine
        self._events = events
        self._is_current = True
        self._failed = False
        self._state = SocketHandling(ScopedValues())
        self._here = HandledConnection(streams, self._state, None)
        self._end: asyncio.Task[None] | None = None
        self.loops: dict[str, str] = {}

    def connection(self, messaging: HandlerResponder) -> HandledConnection:
        """Return what handlers need of a new connection."""
        lines = self._state.lines
        for runner in [runner for runner, line in lines.items() if not line.running]:
            del lines[runner]  # It belongs to the event loop that it was made in.
        return HandledConnection(self._streams, self._state, messaging)

    @property
    def backpressure(self) -> int:
        """The highest number of messages that wait for one async handler."""
        return max((line.backpressure for line in self._state.lines.values()), default=0)

    # Declaring and preparing

    def _added(self, added: Any) -> None:
        self._binding.check()
        if isinstance(added, ProcedureHandler) and self._streams.has_procedure(added.name):
            raise handled_twice(added.name, added.place, self.loops[added.name])
        if isinstance(added, EventHandler):
            self._events.reporter.check_event_name(added.name, CLIENT_EVENTS)
        self._is_current = self._failed = False
        if self._machine.state == OPEN:
            self.resolve()

    def resolve(self) -> None:
        """Prepare the handlers that were declared since the last time.

        Raises:
            UsageError: see `Handling.resolve`.
        """
        if not self._is_current:
            self.handling.resolve()
            self._is_current = True

    def _prepare(self) -> None:
        if self._failed:  # It was reported.
            return
        try:
            self.resolve()
        except UsageError as error:
            self._failed = True
            self._events.reporter.fault("The client's handlers cannot run", error)
            self._events.emit_error(error)

    # Messages and events

    def receive_event(self, connection: HandledConnection, event: str, data: Any) -> None:
        """Have an event of the server handled, if it has a handler."""
        if not self._is_current:
            self._prepare()
        runner = self.handling.receivers.get(event)
        if runner is not None:
            runner.carry_out(connection, data)

    def receive_call(
        self, connection: HandledConnection, cid: int | float, event: str, data: Any
    ) -> bool:
        """Have a call of the server handled; return whether it has a handler."""
        if not self._is_current:
            self._prepare()
        runner = self.handling.procedures.get(event)
        if runner is None:
            return False
        runner.carry_out(connection, cid, data)
        return True

    def emit(self, name: str, event: Any) -> None:
        """Have an event of the client handled."""
        self._binding.check()
        self._prepare()
        self.handling.emit(name, event, self._here)

    # Ends

    def connection_lost(self) -> None:
        """Cancel the handlers that end with a connection, and forget its provided values."""
        self.handling.connection_lost(self._here)

    def token_changed(self) -> None:
        """Forget the provided values: the client may have become another user's."""
        self.handling.token_changed(self._here)

    def closed(self) -> None:
        """Clean up after the client, as soon as no handler runs, unless it connects again."""
        if self.handling.used and self._end is None:
            self._end = asyncio.get_running_loop().create_task(self._clean_up())
            self._end.add_done_callback(self._ended)

    def _ended(self, end: asyncio.Task[None]) -> None:
        self._end = None

    async def _clean_up(self) -> None:
        while running := self.handling.running(()):
            await asyncio.wait(running)
        if self._machine.state == CLOSED:
            await self.handling.close_values()

    async def wait_ended(self) -> None:
        """Wait until `closed` is done; async handlers are cancelled after HANDLER_SECONDS."""
        end, own = self._end, asyncio.current_task()
        if end is None or own in self.handling.running(()):  # A handler cannot wait for itself.
            return
        await asyncio.wait([end], timeout=HANDLER_SECONDS)
        if not end.done() and self._machine.state == CLOSED:
            for task in self.handling.running(()):
                cancel(task)
            await asyncio.wait([end], timeout=HANDLER_SECONDS)
