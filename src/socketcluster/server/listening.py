"""The event names of servers and sockets, so that a type checker knows what each loop yields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from socketcluster import events
from socketcluster.reporting import Reporter
from socketcluster.streams import AsyncStreamEmitter, ConsumableStream
from socketcluster.validation import check_text

if TYPE_CHECKING:
    from socketcluster.server.server import AGServer

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
SOCKET_EVENTS = frozenset(
    [
        "authStateChange",
        "authTokenSigned",
        "authenticate",
        "badAuthToken",
        "close",
        "connect",
        "connectAbort",
        "deauthenticate",
        "disconnect",
        "end",
        "error",
        "message",
        "raw",
        "subscribe",
        "unsubscribe",
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
    def listener(self, event: Literal["handshake"]) -> ConsumableStream[events.HandshakeEvent]: ...
    @overload
    def listener(
        self, event: Literal["connection"]
    ) -> ConsumableStream[events.ConnectionEvent]: ...
    @overload
    def listener(
        self, event: Literal["connectionAbort"]
    ) -> ConsumableStream[events.ConnectionAbortEvent]: ...
    @overload
    def listener(
        self, event: Literal["disconnection"]
    ) -> ConsumableStream[events.DisconnectionEvent]: ...
    @overload
    def listener(self, event: Literal["closure"]) -> ConsumableStream[events.ClosureEvent]: ...
    @overload
    def listener(
        self, event: Literal["subscription"]
    ) -> ConsumableStream[events.SubscriptionEvent]: ...
    @overload
    def listener(
        self, event: Literal["unsubscription"]
    ) -> ConsumableStream[events.UnsubscriptionEvent]: ...
    @overload
    def listener(
        self, event: Literal["authentication"]
    ) -> ConsumableStream[events.AuthenticationEvent]: ...
    @overload
    def listener(
        self, event: Literal["deauthentication"]
    ) -> ConsumableStream[events.DeauthenticationEvent]: ...
    @overload
    def listener(
        self, event: Literal["authenticationStateChange"]
    ) -> ConsumableStream[events.AuthenticationStateChangeEvent]: ...
    @overload
    def listener(
        self, event: Literal["badSocketAuthToken"]
    ) -> ConsumableStream[events.BadSocketAuthTokenEvent]: ...
    @overload
    def listener(self, event: str) -> ConsumableStream[Any]: ...
    def listener(self, event: str) -> ConsumableStream[Any]:
        """The stream of one event: `async for event in server.listener("connection")`.

        Any name is one; one that looks like a documented event is logged.
        """
        check_text("An event's name", event)
        self.reporter.listened(event, SERVER_EVENTS)
        return super().listener(event)


class SocketListeners(AsyncStreamEmitter):
    """`listener` of a server's socket. Source: SocketCluster documentation, AGServerSocket."""

    if not TYPE_CHECKING:  # The attribute is a slot of the class that mixes this in.
        __slots__ = ()

    server: AGServer

    @overload
    def listener(self, event: Literal["error"]) -> ConsumableStream[events.ErrorEvent]: ...
    @overload
    def listener(self, event: Literal["message"]) -> ConsumableStream[events.MessageEvent]: ...
    @overload
    def listener(self, event: Literal["raw"]) -> ConsumableStream[events.RawEvent]: ...
    @overload
    def listener(self, event: Literal["connect"]) -> ConsumableStream[events.ConnectEvent]: ...
    @overload
    def listener(
        self, event: Literal["connectAbort"]
    ) -> ConsumableStream[events.ConnectAbortEvent]: ...
    @overload
    def listener(
        self, event: Literal["disconnect"]
    ) -> ConsumableStream[events.DisconnectEvent]: ...
    @overload
    def listener(self, event: Literal["close"]) -> ConsumableStream[events.CloseEvent]: ...
    @overload
    def listener(self, event: Literal["end"]) -> ConsumableStream[events.EndEvent]: ...
    @overload
    def listener(self, event: Literal["subscribe"]) -> ConsumableStream[events.SubscribeEvent]: ...
    @overload
    def listener(
        self, event: Literal["unsubscribe"]
    ) -> ConsumableStream[events.UnsubscribeEvent]: ...
    @overload
    def listener(
        self, event: Literal["authStateChange"]
    ) -> ConsumableStream[events.AuthStateChangeEvent]: ...
    @overload
    def listener(
        self, event: Literal["authenticate"]
    ) -> ConsumableStream[events.AuthenticateEvent]: ...
    @overload
    def listener(
        self, event: Literal["deauthenticate"]
    ) -> ConsumableStream[events.DeauthenticateEvent]: ...
    @overload
    def listener(
        self, event: Literal["badAuthToken"]
    ) -> ConsumableStream[events.BadAuthTokenEvent]: ...
    @overload
    def listener(
        self, event: Literal["authTokenSigned"]
    ) -> ConsumableStream[events.AuthTokenSignedEvent]: ...
    @overload
    def listener(self, event: str) -> ConsumableStream[Any]: ...
    def listener(self, event: str) -> ConsumableStream[Any]:
        """The stream of one event: `async for event in socket.listener("disconnect")`.

        Any name is one; one that looks like a documented event is logged.
        """
        check_text("An event's name", event)
        if event not in SOCKET_EVENTS:
            self.server.reporter.listened(event, SOCKET_EVENTS)
        self._listened()
        return super().listener(event)

    def _listened(self) -> None:
        """Somebody has begun to listen to the socket."""
