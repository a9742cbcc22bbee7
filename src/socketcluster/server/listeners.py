"""The event names of servers and sockets, so that a type checker knows what each loop yields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from socketcluster import events
from socketcluster.options import check_text
from socketcluster.runtime.reporting import Reporter
from socketcluster.server import events as server_side
from socketcluster.streams import AsyncStreamEmitter, ConsumableStream

if TYPE_CHECKING:
    pass

SERVER_EVENTS = frozenset(
    [
        "authentication",
        "authenticationStateChange",
        "badSocketAuthToken",
        "closure",
        "connection",
        "connectionAbort",
        "deauthentication",
        "disconnection",
        "error",
        "handshake",
        "ready",
        "subscription",
        "unsubscription",
        "warning",
    ]
)


class ServerListeners(AsyncStreamEmitter):
    """`listener` of a server. Source: AGServer specification, Events."""

    __slots__ = ()

    reporter: Reporter

    @overload
    def listener(self, event: Literal["error"]) -> ConsumableStream[events.ErrorEvent]: ...
    @overload
    def listener(self, event: Literal["warning"]) -> ConsumableStream[events.WarningEvent]: ...
    @overload
    def listener(self, event: Literal["ready"]) -> ConsumableStream[events.ReadyEvent]: ...
    @overload
    def listener(
        self, event: Literal["handshake"]
    ) -> ConsumableStream[server_side.HandshakeEvent]: ...
    @overload
    def listener(
        self, event: Literal["connection"]
    ) -> ConsumableStream[server_side.ConnectionEvent]: ...
    @overload
    def listener(
        self, event: Literal["connectionAbort"]
    ) -> ConsumableStream[server_side.ConnectionAbortEvent]: ...
    @overload
    def listener(
        self, event: Literal["disconnection"]
    ) -> ConsumableStream[server_side.DisconnectionEvent]: ...
    @overload
    def listener(self, event: Literal["closure"]) -> ConsumableStream[server_side.ClosureEvent]: ...
    @overload
    def listener(
        self, event: Literal["subscription"]
    ) -> ConsumableStream[server_side.SubscriptionEvent]: ...
    @overload
    def listener(
        self, event: Literal["unsubscription"]
    ) -> ConsumableStream[server_side.UnsubscriptionEvent]: ...
    @overload
    def listener(
        self, event: Literal["authentication"]
    ) -> ConsumableStream[server_side.AuthenticationEvent]: ...
    @overload
    def listener(
        self, event: Literal["deauthentication"]
    ) -> ConsumableStream[server_side.DeauthenticationEvent]: ...
    @overload
    def listener(
        self, event: Literal["authenticationStateChange"]
    ) -> ConsumableStream[server_side.AuthenticationStateChangeEvent]: ...
    @overload
    def listener(
        self, event: Literal["badSocketAuthToken"]
    ) -> ConsumableStream[server_side.BadSocketAuthTokenEvent]: ...
    @overload
    def listener(self, event: str) -> ConsumableStream[Any]: ...
    def listener(self, event: str) -> ConsumableStream[Any]:
        """The stream of one event: `async for event in server.listener("connection")`.

        Any name is one; one that looks like a documented event is logged.
        """
        check_text("An event's name", event)
        self.reporter.check_event_name(event, SERVER_EVENTS)
        return super().listener(event)
