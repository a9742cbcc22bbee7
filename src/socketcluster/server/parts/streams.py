"""The streams of a server's socket: its events, receivers, procedures and middleware."""

from __future__ import annotations

from typing import Any, Literal, get_args, overload

from socketcluster import events
from socketcluster.literals import SocketEventName
from socketcluster.options import check_text
from socketcluster.runtime.reporting import Reporter
from socketcluster.server.parts.middleware import SocketMiddleware
from socketcluster.server.parts.rate_limits import SocketRates
from socketcluster.server.parts.statistics import StatisticsMixin
from socketcluster.sockets.streams import ProcedureMixin, ReceiverMixin
from socketcluster.streams import AsyncStreamEmitter, ConsumableStream, StreamDemux

SOCKET_EVENTS: frozenset[str] = frozenset(get_args(SocketEventName))


class StreamsMixin(ReceiverMixin, ProcedureMixin, StatisticsMixin, AsyncStreamEmitter):
    """The streams of a socket. Source: SocketCluster documentation, AGServerSocket."""

    __slots__ = ()

    middleware: SocketMiddleware
    rates: SocketRates | None
    _listeners_demux: StreamDemux[Any] | None
    _reporter: Reporter

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

        Any name is allowed; a name that resembles a documented event is logged.
        """
        check_text("An event's name", event)
        if event not in SOCKET_EVENTS:
            self._reporter.check_event_name(event, SOCKET_EVENTS)
        self.streams.used()
        return super().listener(event)

    def _listener_demux(self) -> StreamDemux[Any]:
        if self._listeners_demux is None:
            self._listeners_demux = self.inbound.listeners = self.streams.make_demux()
        return self._listeners_demux

    # Middleware

    def close_all_middlewares(self) -> None:
        """End this socket's middleware loops after they have decided the waiting actions."""
        self.loop_binding.check()
        self.middleware.close()

    def kill_all_middlewares(self) -> None:
        """End this socket's middleware loops now, and block the waiting actions."""
        self.loop_binding.check()
        self.middleware.kill()

    # Input and output

    def close_input(self) -> None:
        """Carry out the messages received so far, and ignore later ones."""
        self.loop_binding.check()
        self.inbound.close_after_backlog()
        if self.rates is not None:
            self.rates.end_pause()

    def kill_input(self) -> None:
        """Carry out no more messages, and drop those that wait."""
        self.loop_binding.check()
        self.inbound.close()

    def close_output(self) -> None:
        """Send the messages so far, and ignore later ones."""
        self.loop_binding.check()
        self.outbound.flush_now()
        self.outbound.close()

    def kill_output(self) -> None:
        """Send no more messages, and drop those that wait here."""
        self.loop_binding.check()
        self.outbound.close()

    def close_io(self) -> None:
        """Call `close_input` and `close_output`."""
        self.close_input()
        self.close_output()

    def kill_io(self) -> None:
        """Call `kill_input` and `kill_output`."""
        self.kill_input()
        self.kill_output()

    # All streams

    def close_all_streams(self) -> None:
        """End every loop over a stream of this socket after its backlog."""
        self.close_all_middlewares()
        self.close_io()
        self.close_all_receivers()
        self.close_all_procedures()
        self.close_all_listeners()

    def kill_all_streams(self) -> None:
        """End every loop over a stream of this socket now, and drop the backlogs."""
        self.kill_all_middlewares()
        self.kill_io()
        self.kill_all_receivers()
        self.kill_all_procedures()
        self.kill_all_listeners()

    def get_backpressure(self) -> int:
        """The highest backpressure of its messages, listeners, receivers and procedures."""
        return max(
            self.get_inbound_backpressure(),
            self.get_outbound_backpressure(),
            self.get_all_listeners_backpressure(),
            self.get_all_receivers_backpressure(),
            self.get_all_procedures_backpressure(),
        )

    def _end_streams(self, cleanup_mode: str) -> None:
        """End the streams after 'end', as `socket_stream_cleanup_mode` says.

        A loop that begins later ends at once: it would wait forever.
        """
        self.middleware.kill()
        if cleanup_mode == "kill":
            self.kill_all_streams()
        elif cleanup_mode == "close":
            self.close_all_streams()
        if cleanup_mode != "none":
            self._listener_demux().finish()
            self.streams.receiver_demux.finish()
            self.streams.procedure_demux.finish()
