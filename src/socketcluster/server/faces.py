"""Groups of AGServerSocket's methods that only pass on to its parts."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Never

from socketcluster.auth import is_expired
from socketcluster.batching import Batching
from socketcluster.engines.base import Connection, UpgradeRequest
from socketcluster.loop_binding import LoopBinding
from socketcluster.middleware import MiddlewareLine
from socketcluster.server.authentication import SocketAuth
from socketcluster.server.inbound import Inbound
from socketcluster.server.outbound import Outbound
from socketcluster.streams import AsyncStreamEmitter, ProcedureMethods, ReceiverMethods, StreamDemux
from socketcluster.validation import refuse_unknown

if TYPE_CHECKING:
    import asyncio

    from socketcluster.server.server import AGServer


class AuthMethods:
    """The authentication of a socket. Source: SocketCluster documentation, AGServerSocket."""

    __slots__ = ()

    auth: SocketAuth
    loop_binding: LoopBinding

    @property
    def auth_state(self) -> str:
        """'authenticated' or 'unauthenticated'."""
        return self.auth.state

    @property
    def auth_token(self) -> dict[str, Any] | None:
        """The claims of the token, None when unauthenticated."""
        return self.auth.token

    @property
    def signed_auth_token(self) -> str | None:
        """The token itself, None when unauthenticated."""
        return self.auth.signed_token

    def get_auth_token(self) -> dict[str, Any] | None:
        """`auth_token`."""
        return self.auth.token

    async def set_auth_token(
        self,
        data: dict[str, Any],
        *,
        expires_in: int | float | timedelta | None = None,
        not_before: int | float | timedelta | None = None,
        audience: str | list[str] | None = None,
        issuer: str | None = None,
        subject: str | None = None,
        jwt_id: str | None = None,
        header: dict[str, Any] | None = None,
        reject_on_failed_delivery: bool = False,
        **options: Any,
    ) -> None:
        """Sign `data` as the client's token, authenticate the socket with it and send it.

        `expires_in` and `not_before` are seconds from now. With `reject_on_failed_delivery` it
        waits until the client has acknowledged. Cancelling before the token is signed changes
        nothing; after that only the waiting is given up. `options` are those that the auth engine
        names in `sign_options`.

        Raises:
            InvalidActionError: before the handshake is complete.
            InvalidArgumentsError: there is no such option, and nothing has changed; or `data` is
                not a dict, a time is out of range, or an option contradicts a claim, and the
                socket is closed with 4002.
            AuthError: the client did not acknowledge, with `reject_on_failed_delivery`; without
                it, a socket that is closed by then only warns.
        """
        self.loop_binding.check()
        options.update(
            expires_in=expires_in,
            not_before=not_before,
            audience=audience,
            issuer=issuer,
            subject=subject,
            jwt_id=jwt_id,
            header=header,
            reject_on_failed_delivery=reject_on_failed_delivery,
        )
        await self.auth.set_token(data, options)

    def deauthenticate_self(self) -> None:
        """Take the token away on this side only."""
        self.loop_binding.check()
        self.auth.drop()

    async def deauthenticate(
        self, *, reject_on_failed_delivery: bool = False, **wrong: Never
    ) -> None:
        """Take the token away, and have the client remove it.

        With `reject_on_failed_delivery` it waits until the client has acknowledged, and raises
        what `invoke` raises. Cancelling gives up the waiting only.

        Raises:
            InvalidArgumentsError: there is no such option; nothing has changed.
        """
        self.loop_binding.check()
        refuse_unknown(wrong, ("reject_on_failed_delivery",), "deauthenticate")
        if not reject_on_failed_delivery:
            self.auth.drop_and_tell()
            return
        self.auth.drop()
        try:
            await self.auth.socket.invoke("#removeAuthToken")
        except Exception as error:
            self.auth.socket.emit_error(error)
            raise

    def is_auth_token_expired(self, token: dict[str, Any] | None) -> bool:
        """Whether claims have an `exp` that is past."""
        return token is not None and is_expired(token, time.time())


class BatchMethods:
    """Sending many packets as one array. Source: SocketCluster documentation, AGServerSocket."""

    if not TYPE_CHECKING:  # The attributes are slots of the class that mixes this in.
        __slots__ = ()

    outbound: Outbound
    server: AGServer
    loop_binding: LoopBinding
    _batching: Batching | None
    _batch_timer: asyncio.TimerHandle | None

    @property
    def is_buffering_batch(self) -> bool:
        """Whether packets are being collected."""
        return self.outbound.batch is not None

    @property
    def is_batching(self) -> bool:
        """Whether batches are sent in intervals, those after the handshake not counted."""
        batching = self._batching
        return batching is not None and batching.running and self._batch_timer is None

    def start_batch(self) -> None:
        """Collect what is sent from now on until `flush_batch`."""
        self.loop_binding.check()
        self.outbound.start_batch()

    def flush_batch(self) -> None:
        """Send what was collected as one message, and collect no more."""
        self.loop_binding.check()
        self.outbound.flush_batch()

    def cancel_batch(self) -> None:
        """Drop what was collected, and collect no more."""
        self.loop_binding.check()
        self.outbound.cancel_batch()

    def start_batching(self) -> None:
        """Send what is sent as one message every `batch_interval` milliseconds from now on."""
        self.loop_binding.check()
        self._cancel_batch_timer()
        if self._batching is None:
            interval = self.server.options.milliseconds("batch_interval")
            self._batching = Batching(self.outbound, interval)
        self._batching.start()

    def stop_batching(self) -> None:
        """Stop it; what was collected is sent."""
        self.loop_binding.check()
        self._cancel_batch_timer()
        if self._batching is not None:
            self._batching.stop()

    def cancel_batching(self) -> None:
        """Stop it; what was collected is dropped."""
        self.loop_binding.check()
        self._cancel_batch_timer()
        if self._batching is not None:
            self._batching.cancel()

    def _cancel_batch_timer(self) -> None:
        if self._batch_timer is not None:
            self._batch_timer.cancel()
            self._batch_timer = None


class StreamMethods(ReceiverMethods, ProcedureMethods):
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
        for demux in (self._listener_demux(), self._receiver_demux, self._procedure_demux):
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


class FigureMethods:
    """What a socket's request and its counters say. Source: SocketCluster documentation,
    AGServerSocket."""

    __slots__ = ()

    state: str
    request: UpgradeRequest
    connection: Connection
    inbound: Inbound
    outbound: Outbound
    loop_binding: LoopBinding

    def get_streams_backpressure(self) -> int:
        """See `StreamMethods`."""
        raise AttributeError

    @property
    def remote_address(self) -> str | None:
        """The client's IP address, as the connection shows it."""
        return self.request.remote_address

    @property
    def remote_port(self) -> int | None:
        """The client's port."""
        return self.request.remote_port

    @property
    def remote_family(self) -> str | None:
        """'IPv4', 'IPv6' or 'unix'."""
        return self.request.remote_family

    @property
    def client_address(self) -> str | None:
        """The client's IP address: that of the connection, or what `trusted_proxies` say."""
        return self.request.client_address

    @property
    def forwarded_for_address(self) -> str | None:
        """The first address of X-Forwarded-For. A client can forge it: see `client_address`."""
        return self.request.forwarded_for_address

    def get_state(self) -> str:
        """`state`."""
        return self.state

    def get_bytes_received(self) -> int:
        """Payload bytes received so far."""
        return self.connection.get_bytes_received()

    @property
    def inbound_received_message_count(self) -> int:
        """Messages received, pongs included."""
        return self.inbound.received

    @property
    def inbound_processed_message_count(self) -> int:
        """Messages received that have passed raw middleware and are being, or were, carried out."""
        return self.inbound.processed

    @property
    def outbound_prepared_message_count(self) -> int:
        """Transmits, invokes and publishes to the client."""
        self.loop_binding.check()
        self.outbound.settle()
        return self.outbound.prepared

    @property
    def outbound_sent_message_count(self) -> int:
        """Those of them that were handed to the transport."""
        return self.outbound.sent

    def get_inbound_backpressure(self) -> int:
        """Messages received and not yet begun to be carried out."""
        return self.inbound.received - self.inbound.processed

    def get_outbound_backpressure(self) -> int:
        """Messages not yet handed to the transport; pings and answers are not counted."""
        self.loop_binding.check()
        self.outbound.settle()
        return self.outbound.prepared - self.outbound.sent

    def get_inbound_buffer_size(self) -> int:
        """Bytes received that wait for middleware, or for loops over the socket."""
        return self.inbound.reading.total_size

    def get_outbound_buffer_size(self) -> int:
        """Bytes waiting to be sent, the transport's included."""
        self.loop_binding.check()
        self.outbound.settle()
        return self.outbound.get_buffer_size()

    def get_backpressure(self) -> int:
        """The highest of all its backpressures."""
        return max(
            self.get_inbound_backpressure(),
            self.get_outbound_backpressure(),
            self.get_streams_backpressure(),
        )
