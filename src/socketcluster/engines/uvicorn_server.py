"""uvicorn as the HTTP server in a running loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uvicorn import Config, Server

from socketcluster.engines import uvicorn_limits
from socketcluster.engines.base import ASGIApp, Endpoint, ListenAddress
from socketcluster.engines.uvicorn_limits import GuardedWebSocket
from socketcluster.errors import HTTPServerError
from socketcluster.runtime.isolation import for_each

CLOSE_SECONDS = 3.0
_POLL_SECONDS = 0.01


_UNWANTED = (
    "Invalid UTF-8 sequence received from client.",
    '%s - "WebSocket %s" [accepted]',
    '%s - "WebSocket %s" 403',
    '%s - "WebSocket %s" %d',
)


def _worth_logging(record: logging.LogRecord) -> bool:
    """All but a peer's fault, which uvicorn reports with a traceback, and the access log, which
    has the query string with whatever secret is in it."""
    return record.msg not in _UNWANTED


class UvicornListener:
    """A bound uvicorn server: the `Listener` of both engines.

    Args:
        http: the HTTP protocol class.
        connections: WebSocket connections to end in `close`; each has `abort()`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        app: ASGIApp,
        address: ListenAddress,
        http: type[asyncio.Protocol],
        connections: set[Any],
    ) -> None:
        self._address = address
        self._connections = connections
        self._socket: socket.socket | None = None
        self._accepting = False
        self._listening: asyncio.Server | None = None
        self._config = Config(
            app,
            interface="asgi3",
            http=http,
            ws=type(
                "WebSocket",
                (GuardedWebSocket,),
                {
                    "max_outbound_buffer": endpoint.max_outbound_buffer,
                    "own_path": endpoint.path,
                    "max_first_message": endpoint.max_first_message,
                },
            ),
            ws_max_size=endpoint.max_payload,
            ws_per_message_deflate=endpoint.deflate is not None,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            date_header=False,
            server_header=False,
            ssl_certfile=address.ssl_certfile,
            ssl_keyfile=address.ssl_keyfile,
        )
        self._server = Server(self._config)
        logging.getLogger("uvicorn.error").addFilter(_worth_logging)

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
        """What `uvicorn.Server.startup` does, with a time for the TLS handshake."""
        config, uvicorn = self._config, self._server

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config,
                server_state=uvicorn.server_state,
                app_state=uvicorn.lifespan.state,
            )

        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            protocol,
            sock=bound,
            # asyncio accepts up to so many connections in a row, and without descriptors logs
            # each that it cannot accept: of the system's backlog it need not know.
            backlog=1 if isinstance(loop, asyncio.BaseEventLoop) else config.backlog,
            ssl=config.ssl,
            ssl_handshake_timeout=uvicorn_limits.HEAD_SECONDS if config.ssl is not None else None,
        )
        bound.listen(config.backlog)

    @property
    def port(self) -> int | None:
        """See `Listener.port`."""
        if self._socket is None or self._unix:
            return None
        return self._port

    @property
    def _port(self) -> int | None:
        if self._accepting and self._socket is not None:
            self._bound = int(self._socket.getsockname()[1])
        return self._bound

    _bound: int | None = None

    @property
    def _unix(self) -> bool:
        return self._socket is not None and self._socket.family == socket.AF_UNIX

    def stop_accepting(self) -> None:
        """See `Listener.stop_accepting`."""
        if not self._accepting:
            return
        _ = self.port
        self._accepting = False
        if self._listening is not None:
            self._listening.close()
        if self._socket is not None:
            self._socket.close()
        if self._address.uds is not None and self._address.fd is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._address.uds)

    async def close(self) -> None:
        """See `Listener.close`."""
        self.stop_accepting()
        state = self._server.server_state
        caller = {asyncio.current_task()}  # A request may be what closes the server.

        # WebSockets are closing already; uvicorn would close its own with another code.
        await self._wait_for(lambda: not self._connections and state.tasks <= caller)
        for_each(list(state.connections), lambda each: each.shutdown(), _report)
        await self._wait_for(lambda: not state.connections and state.tasks <= caller)
        for_each(list(self._connections), lambda each: each.abort(), _report)
        for_each(list(state.connections), _abort, _report)
        tasks = state.tasks - caller
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        await self._server.lifespan.shutdown()
        await asyncio.sleep(0)

    async def _wait_for(self, done: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CLOSE_SECONDS
        # uvicorn keeps no event to wait for.
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


def bind(address: ListenAddress) -> socket.socket:
    """A socket bound to an address.

    Raises:
        OSError: it cannot be.
    """
    if address.fd is not None:
        bound = socket.socket(fileno=address.fd)
        bound.setblocking(False)
        return bound
    if address.uds is not None:
        return _bind_unix(address.uds)
    try:
        return _bind_tcp(address)
    except OSError as error:
        raise OSError(
            error.errno, f"Cannot listen on {address.host}:{address.port}: {error.strerror}"
        ) from error


def _bind_tcp(address: ListenAddress) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(where)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _bind_unix(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_abandoned(path):
            os.unlink(path)
        bound.bind(path)
    except OSError as error:
        bound.close()
        raise OSError(
            error.errno, f"Cannot listen on the Unix socket {path}: {error.strerror or error}"
        ) from error
    return bound


def _is_abandoned(path: str) -> bool:
    """Whether a socket is there that nobody listens on, as a process that was killed leaves it."""
    if not Path(path).is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
        return tried.connect_ex(path) == errno.ECONNREFUSED
