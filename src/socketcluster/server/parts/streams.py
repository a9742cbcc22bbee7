"""The streams of a server's socket: its events by name, receivers, procedures and middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from socketcluster import events
from socketcluster.middleware import MiddlewareLine
from socketcluster.options import check_text
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.server.parts.inbound import Inbound
from socketcluster.server.parts.outbound import Outbound
from socketcluster.sockets.streams import ProcedureMixin, ReceiverMixin
from socketcluster.streams import AsyncStreamEmitter, ConsumableStream, StreamDemux

if TYPE_CHECKING:
    from socketcluster.server.server import AGServer


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
            self.server.reporter.check_event_name(event, SOCKET_EVENTS)
        self._listened()
        return super().listener(event)

    def _listened(self) -> None:
        """Somebody has begun to listen to the socket."""


class StreamMixin(ReceiverMixin, ProcedureMixin):
    """Ending a socket's streams. Source: SocketCluster documentation, AGServerSocket."""

    __slots__ = ()

    inbound: Inbound
    outbound: Outbound
    loop_binding: LoopBinding
    _lines: dict[str, MiddlewareLine] | None
    handshake_line: MiddlewareLine | None

    def all_lines(self) -> list[MiddlewareLine]:
        """The middleware functions at work for this socket."""
        lines = list((self._lines or {}).values())
        return [*lines, self.handshake_line] if self.handshake_line is not None else lines

    def close_all_middlewares(self) -> None:
        """End the middleware loops of this socket once they have decided what is waiting."""
        self.loop_binding.check()
        for line in self.all_lines():
            line.close()

    def kill_all_middlewares(self) -> None:
        """End the middleware loops of this socket now; what is waiting is blocked."""
        self.loop_binding.check()
        for line in self.all_lines():
            line.kill()

    def close_input(self) -> None:
        """Carry out what was received, and nothing that comes later."""
        self.loop_binding.check()
        self.inbound.close_after_backlog()

    def kill_input(self) -> None:
        """Carry out nothing more of what is received."""
        self.loop_binding.check()
        self.inbound.close()

    def close_output(self) -> None:
        """Send what was sent so far, and nothing after it."""
        self.loop_binding.check()
        self.outbound.flush_now()
        self.outbound.close()

    def kill_output(self) -> None:
        """Send nothing more, and drop what waits here."""
        self.loop_binding.check()
        self.outbound.close()

    def close_io(self) -> None:
        """`close_input` and `close_output`."""
        self.close_input()
        self.close_output()

    def kill_io(self) -> None:
        """`kill_input` and `kill_output`."""
        self.kill_input()
        self.kill_output()

    def close_all_streams(self) -> None:
        """End every loop over a stream of this socket once it took its backlog."""
        self.close_all_middlewares()
        self.close_io()
        self.close_all_receivers()
        self.close_all_procedures()
        self._as_emitter().close_all_listeners()

    def kill_all_streams(self) -> None:
        """End every loop over a stream of this socket now; backlogs are dropped."""
        self.kill_all_middlewares()
        self.kill_io()
        self.kill_all_receivers()
        self.kill_all_procedures()
        self._as_emitter().kill_all_listeners()

    def _listener_demux(self) -> StreamDemux[Any]:
        emitter = self._as_emitter()
        if emitter._listeners_demux is None:
            emitter._listeners_demux = StreamDemux(self.inbound.reading.gauge, emitter.loop_binding)
        return emitter._listeners_demux

    def finish_all_streams(self) -> None:
        """Have a loop that begins from now on end at once: else it would wait for ever."""
        for demux in (
            self._listener_demux(),
            self.streams.receiver_demux,
            self.streams.procedure_demux,
        ):
            demux.finish()

    def get_streams_backpressure(self) -> int:
        """The highest backpressure of its listeners, receivers and procedures."""
        return max(
            self._as_emitter().get_all_listeners_backpressure(),
            self.get_all_receivers_backpressure(),
            self.get_all_procedures_backpressure(),
        )

    def _as_emitter(self) -> AsyncStreamEmitter:
        assert isinstance(self, AsyncStreamEmitter)
        return self
