"""uvicorn as the HTTP server in a running loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn import Config, Server

from socketcluster.engines.base import (
    CLOSE_SECONDS,
    ASGIApp,
    DeflateOptions,
    Gate,
    ListenAddress,
    Pace,
)
from socketcluster.engines.bound_socket import bind
from socketcluster.engines.tls_acceptor import TlsAcceptor
from socketcluster.errors import HTTPServerError
from socketcluster.runtime.isolation import for_each

_logger = logging.getLogger("socketcluster")

_POLL_SECONDS = 0.01
"""Time between two looks at uvicorn's connections and tasks while they end."""

_UNWANTED_LOGS = (
    "Invalid UTF-8 sequence received from client.",
    '%s - "WebSocket %s" [accepted]',
    '%s - "WebSocket %s" 403',
    '%s - "WebSocket %s" %d',
)


def _is_wanted(record: logging.LogRecord) -> bool:
    """Whether a log record of uvicorn is useful.

    Not so are the tracebacks of a peer's violations, and the access log of WebSockets, which shows
    the query string and the secrets in it.
    """
    return record.msg not in _UNWANTED_LOGS


class ListenerLimits(Protocol):
    """The limits of a listener; an `Endpoint` has them."""

    @property
    def max_payload(self) -> int: ...
    @property
    def deflate(self) -> DeflateOptions | None: ...
    @property
    def pace(self) -> Pace: ...


class UvicornListener:
    """A bound uvicorn server: the `Listener` of both engines.

    Args:
        http: the HTTP protocol class, or uvicorn's name of one.
        ws: the WebSocket protocol class, or uvicorn's name of one.
        connections: WebSocket connections to end in `close`; each has `abort()`.
        gate: counts TLS connections before their handshakes; the protocol counts others.

    Attributes:
        port: the port in use; None on a Unix socket and before `start`.
    """

    def __init__(
        self,
        limits: ListenerLimits,
        app: ASGIApp,
        address: ListenAddress,
        http: type[asyncio.Protocol] | str,
        ws: type[asyncio.Protocol] | str,
        connections: set[Any],
        gate: Gate | None = None,
    ) -> None:
        self.port: int | None = None
        self._address = address
        self._connections = connections
        self._socket: socket.socket | None = None
        self._accepting = False
        self._acceptor: asyncio.Server | TlsAcceptor | None = None
        self._pace = limits.pace
        self._gate = gate
        self._config = Config(
            app,
            interface="asgi3",
            http=http,
            ws=ws,
            ws_max_size=limits.max_payload,
            ws_per_message_deflate=limits.deflate is not None,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            date_header=False,
            server_header=False,
            ssl_certfile=address.ssl_certfile,
            ssl_keyfile=address.ssl_keyfile,
        )
        self._server = Server(self._config)
        logging.getLogger("uvicorn.error").addFilter(_is_wanted)

    async def start(self) -> None:
        """Bind and accept.

        Raises:
            OSError: the address cannot be bound or the certificate cannot be read.
            HTTPServerError: the application failed to start.
        """
        try:
            self._config.load()
        except OSError as error:  # ssl.SSLError is one.
            raise OSError(
                f"There is no usable certificate and key in {self._address.ssl_certfile!r} and "
                f"{self._address.ssl_keyfile or self._address.ssl_certfile!r}: {error}"
            ) from error
        self._socket = bind(self._address)
        if self._socket.family != socket.AF_UNIX:
            self.port = int(self._socket.getsockname()[1])
        self._server.lifespan = self._config.lifespan_class(self._config)
        try:
            await self._server.lifespan.startup()
            if self._server.lifespan.should_exit:
                raise HTTPServerError("The application behind the server failed to start")
            await self._accept(self._socket)
        except BaseException:
            self._socket.close()
            raise
        self._accepting = True

    async def _accept(self, bound: socket.socket) -> None:
        """Accept as `uvicorn.Server.startup` does; with TLS, at the pace of its limits."""
        config, uvicorn = self._config, self._server

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config,  # pyright: ignore[reportCallIssue]
                server_state=uvicorn.server_state,  # pyright: ignore[reportCallIssue]
                app_state=uvicorn.lifespan.state,  # pyright: ignore[reportCallIssue]
            )

        if config.ssl is not None:
            bound.listen(config.backlog)
            self._acceptor = TlsAcceptor(bound, protocol, config.ssl, self._pace, self._gate)
            return
        loop = asyncio.get_running_loop()
        self._acceptor = await loop.create_server(
            protocol,
            sock=bound,
            # asyncio accepts up to `backlog` connections in a row and, without file descriptors,
            # logs each that it cannot accept. So it gets 1, and the system the real backlog.
            backlog=1 if isinstance(loop, asyncio.BaseEventLoop) else config.backlog,
        )
        bound.listen(config.backlog)

    def stop_accepting(self) -> None:
        """See `Listener.stop_accepting`."""
        if not self._accepting:
            return
        self._accepting = False
        if self._acceptor is not None:
            self._acceptor.close()
        if self._socket is not None:
            self._socket.close()
        if self._address.uds is not None and self._address.fd is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._address.uds)

    async def close(self) -> None:
        """See `Listener.close`."""
        self.stop_accepting()
        if isinstance(self._acceptor, TlsAcceptor):
            self._acceptor.abort()
        state = self._server.server_state
        caller = {asyncio.current_task()}  # An HTTP request may close the server.

        try:
            # The server closes its WebSockets itself; uvicorn would do it with another code.
            await self._wait_for(lambda: not self._connections and state.tasks <= caller)
            for_each(list(state.connections), lambda each: each.shutdown(), _report)
            await self._wait_for(lambda: not state.connections and state.tasks <= caller)
        finally:
            for_each(list(self._connections), lambda each: each.abort(), _report)
            for_each(list(state.connections), _abort, _report)
            tasks = state.tasks - caller
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        await self._shut_lifespan_down()
        await asyncio.sleep(0)

    async def _shut_lifespan_down(self) -> None:
        try:
            await self._server.lifespan.shutdown()
        except asyncio.CancelledError:
            _logger.warning("The application's lifespan has not answered lifespan.shutdown")
            raise

    async def _wait_for(self, done: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CLOSE_SECONDS
        # uvicorn has no event to wait for.
        while not done() and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)


def _abort(protocol: Any) -> None:
    transport = getattr(protocol, "transport", None)
    if transport is not None:
        transport.abort()


def _report(_: object, error: Exception) -> None:
    asyncio.get_running_loop().call_exception_handler(
        {"message": "A connection could not be closed", "exception": error}
    )
