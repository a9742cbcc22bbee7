"""The contract between a client and the `Connector` that opens its connections."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from socketcluster.engines.base import ConnectionHandler, DeflateOptions


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """Parameters of a connection to a server. Values that can be secret are left out of the repr.

    Attributes:
        uri: the whole URL, with the query.
        max_payload: bytes in one message; a longer one closes with 1009.
        socket_path: the path of a Unix socket to connect to.
        ssl: the TLS context; None for the default one.
        headers: further headers of the upgrade request.
        proxy: the URL of an HTTP or SOCKS proxy.
        deflate: permessage-deflate, or None when it is off.
    """

    uri: str = field(repr=False)
    max_payload: int
    socket_path: str | None = None
    ssl: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    deflate: DeflateOptions | None = None


class Connector(Protocol):
    """Opens a client's connections."""

    async def connect(self, request: ConnectRequest, handler: ConnectionHandler) -> None:
        """Connect, and call `handler.connection_made` before returning.

        Cancelling drops the connection; the client cancels after `connect_timeout`.

        Raises:
            SocketProtocolError: the connection failed; the cause says why.
        """
