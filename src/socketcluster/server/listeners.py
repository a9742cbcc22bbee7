"""The typed events of a server: `listener` with an overload for each event name."""

from __future__ import annotations

from typing import Any, Literal, get_args, overload

from socketcluster import events
from socketcluster.literals import ServerEventName
from socketcluster.options import check_text
from socketcluster.runtime.reporting import Reporter
from socketcluster.server import events as sockets
from socketcluster.streams import AsyncStreamEmitter, ConsumableStream

SERVER_EVENTS: frozenset[str] = frozenset(get_args(ServerEventName))


class ServerListeners(AsyncStreamEmitter):
    """The `listener` method of a server. Source: AGServer specification, Events."""

    __slots__ = ()

    reporter: Reporter

    @overload
    def listener(self, event: Literal["error"]) -> ConsumableStream[events.ErrorEvent]: ...
    @overload
    def listener(self, event: Literal["warning"]) -> ConsumableStream[events.WarningEvent]: ...
    @overload
    def listener(self, event: Literal["ready"]) -> ConsumableStream[events.ReadyEvent]: ...
    @overload
    def listener(self, event: Literal["occupied"]) -> ConsumableStream[events.OccupiedEvent]: ...
    @overload
    def listener(self, event: Literal["vacated"]) -> ConsumableStream[events.VacatedEvent]: ...
    @overload
    def listener(self, event: Literal["handshake"]) -> ConsumableStream[sockets.HandshakeEvent]: ...
    @overload
    def listener(
        self, event: Literal["connection"]
    ) -> ConsumableStream[sockets.ConnectionEvent]: ...
    @overload
    def listener(
        self, event: Literal["connectionAbort"]
    ) -> ConsumableStream[sockets.ConnectionAbortEvent]: ...
    @overload
    def listener(
        self, event: Literal["disconnection"]
    ) -> ConsumableStream[sockets.DisconnectionEvent]: ...
    @overload
    def listener(self, event: Literal["closure"]) -> ConsumableStream[sockets.ClosureEvent]: ...
    @overload
    def listener(
        self, event: Literal["subscription"]
    ) -> ConsumableStream[sockets.SubscriptionEvent]: ...
    @overload
    def listener(
        self, event: Literal["unsubscription"]
    ) -> ConsumableStream[sockets.UnsubscriptionEvent]: ...
    @overload
    def listener(
        self, event: Literal["authentication"]
    ) -> ConsumableStream[sockets.AuthenticationEvent]: ...
    @overload
    def listener(
        self, event: Literal["deauthentication"]
    ) -> ConsumableStream[sockets.DeauthenticationEvent]: ...
    @overload
    def listener(
        self, event: Literal["authenticationStateChange"]
    ) -> ConsumableStream[sockets.AuthenticationStateChangeEvent]: ...
    @overload
    def listener(
        self, event: Literal["badSocketAuthToken"]
    ) -> ConsumableStream[sockets.BadSocketAuthTokenEvent]: ...
    @overload
    def listener(self, event: str) -> ConsumableStream[Any]: ...
    def listener(self, event: str) -> ConsumableStream[Any]:
        """The stream of one event: `async for event in server.listener("connection")`.

        Any name is allowed; a name that resembles a documented event is logged.
        """
        check_text("An event's name", event)
        self.reporter.check_event_name(event, SERVER_EVENTS)
        return super().listener(event)
