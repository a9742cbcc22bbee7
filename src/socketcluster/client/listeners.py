"""The events of a client, typed: a type checker knows the event class of each loop."""

from __future__ import annotations

from typing import Any, Literal, get_args, overload

from socketcluster import events
from socketcluster.literals import ClientEventName
from socketcluster.options import check_text
from socketcluster.runtime.reporting import Reporter
from socketcluster.streams import AsyncStreamEmitter, ConsumableStream

CLIENT_EVENTS: frozenset[str] = frozenset(get_args(ClientEventName))


class ClientListeners(AsyncStreamEmitter):
    """Typed `listener` of a client. Source: SocketCluster documentation, AGClientSocket."""

    __slots__ = ()

    _reporter: Reporter

    @overload
    def listener(self, event: Literal["error"]) -> ConsumableStream[events.ErrorEvent]: ...
    @overload
    def listener(
        self, event: Literal["connecting"]
    ) -> ConsumableStream[events.ConnectingEvent]: ...
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
    def listener(self, event: Literal["message"]) -> ConsumableStream[events.MessageEvent]: ...
    @overload
    def listener(self, event: Literal["raw"]) -> ConsumableStream[events.RawEvent]: ...
    @overload
    def listener(self, event: Literal["kickOut"]) -> ConsumableStream[events.KickOutEvent]: ...
    @overload
    def listener(
        self, event: Literal["recoverFail"]
    ) -> ConsumableStream[events.RecoverFailEvent]: ...
    @overload
    def listener(self, event: Literal["subscribe"]) -> ConsumableStream[events.SubscribeEvent]: ...
    @overload
    def listener(
        self, event: Literal["subscribeFail"]
    ) -> ConsumableStream[events.SubscribeFailEvent]: ...
    @overload
    def listener(
        self, event: Literal["unsubscribe"]
    ) -> ConsumableStream[events.UnsubscribeEvent]: ...
    @overload
    def listener(
        self, event: Literal["subscribeStateChange"]
    ) -> ConsumableStream[events.SubscribeStateChangeEvent]: ...
    @overload
    def listener(
        self, event: Literal["subscribeRequest"]
    ) -> ConsumableStream[events.SubscribeRequestEvent]: ...
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
        self, event: Literal["removeAuthToken"]
    ) -> ConsumableStream[events.RemoveAuthTokenEvent]: ...
    @overload
    def listener(self, event: str) -> ConsumableStream[Any]: ...
    def listener(self, event: str) -> ConsumableStream[Any]:
        """Return the stream of one event: `async for event in socket.listener("connect")`.

        Any name is allowed; one that looks like a misspelled event is logged.
        """
        check_text("An event's name", event)
        self._reporter.check_event_name(event, CLIENT_EVENTS)
        return super().listener(event)
