"""Clients that connect to a server in memory, slow readers, and lost lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Unpack

from socketcluster.client.option_types import ClientOptionsDict
from socketcluster.client.socket import AGClientSocket
from socketcluster.engines.base import ConnectionHandler, UpgradeRefusedError
from socketcluster.engines.connect_errors import http_refusal, not_opened
from socketcluster.engines.connector import ConnectRequest
from socketcluster.errors import InvalidActionError, SocketProtocolError
from socketcluster.server.server import AGServer
from socketcluster.server.socket import AGServerSocket
from socketcluster.testing.memory import MemoryConnection, join


class MemoryConnector:
    """The `connector` option of a client that connects to an AGServer in memory.

    Attributes:
        connection: the client's end of the last connection; None before the first.
    """

    def __init__(self, server: AGServer) -> None:
        self._server = server
        self.connection: MemoryConnection | None = None

    async def connect(self, request: ConnectRequest, handler: ConnectionHandler) -> None:
        """See `Connector.connect`."""
        try:
            _, self.connection = await join(self._server.endpoint, request, handler)
        except UpgradeRefusedError as refusal:
            raise _refused(request, refusal.status, refusal.message) from refusal
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "The endpoint failed to decide on an upgrade", "exception": error}
            )
            raise _refused(request, 500, "Internal Server Error") from error


def _refused(request: ConnectRequest, status: int, message: str) -> SocketProtocolError:
    return not_opened(request.uri, http_refusal(status, message), http_status=status)


def create(server: AGServer, **options: Unpack[ClientOptionsDict]) -> AGClientSocket:
    """Create an AGClientSocket that connects to `server` in memory, like `socketcluster.create`.

    The options are those of `ClientOptions`; path, protocol version and codec default to the
    server's. It connects by itself unless `auto_connect` is off. The first connection starts a
    server that is not started.

    Raises:
        InvalidOptionsError: an unknown option or a wrong value.
        InvalidActionError: `auto_connect` without a running event loop.
    """
    server_options = server.options
    chosen: ClientOptionsDict = {
        "path": server_options.path,
        "protocol_version": server_options.protocol_version,
        "codec_engine": server_options.codec_engine,
        **options,
        "connector": MemoryConnector(server),
    }
    return AGClientSocket(**chosen)


@asynccontextmanager
async def connect(
    server: AGServer, **options: Unpack[ClientOptionsDict]
) -> AsyncGenerator[AGClientSocket]:
    """Connect a client to `server` in memory, until the end of the block.

    The options are those of `create`. The server is started if it is not, and stays open.

    Raises:
        InvalidOptionsError: an unknown option or a wrong value.
        BadConnectionError: the server refused; the cause says why.
        BrokerError: the server's broker cannot start.
    """
    await server.start()
    options["auto_connect"] = False
    async with create(server, **options) as socket:
        yield socket


@contextmanager
def paused(socket: AGClientSocket | AGServerSocket) -> Generator[None]:
    """Simulate a slow reader: in the block, `socket` reads nothing from its present connection.

    Messages for it wait in the sender's write buffer, as if the network stopped. If the
    connection is lost meanwhile, the socket reads from the next one.

    Raises:
        InvalidActionError: the socket is not connected in memory.
    """
    connection = _connection(socket)
    connection.stall()
    try:
        yield
    finally:
        connection.unstall()


def cut(socket: AGClientSocket | AGServerSocket) -> None:
    """Break the connection of `socket` without a closing handshake, as a pulled cable does.

    Messages on the way to it are lost. Both ends report the code 1006. A client connects again by
    itself, as its options say; `client.connect()` does not wait for that.

    Raises:
        InvalidActionError: the socket is not connected in memory.
    """
    _connection(socket).abort()


def _connection(socket: AGClientSocket | AGServerSocket) -> MemoryConnection:
    connection: Any
    if isinstance(socket, AGServerSocket):
        connection = socket.connection
    else:
        connection = getattr(socket.options.connector, "connection", None)
    if not isinstance(connection, MemoryConnection) or socket.state == socket.CLOSED:
        raise InvalidActionError(
            "Only a socket that is connected in memory can be paused or cut: see "
            "socketcluster.testing.connect"
        )
    return connection
