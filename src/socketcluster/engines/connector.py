"""What makes a client's connections: the `Connector` contract and its request."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from socketcluster.engines.base import ConnectionHandler, DeflateOptions


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """What a connection is opened with. `uri` is the whole URL, with the query. Its repr leaves out
    what may be secret."""

    uri: str = field(repr=False)
    max_payload: int
    socket_path: str | None = None
    ssl: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    deflate: DeflateOptions | None = None


class Connector(Protocol):
    """Makes connections of a client."""

    async def connect(self, request: ConnectRequest, handler: ConnectionHandler) -> None:
        """Connect, and call `handler.connection_made` before it returns. Cancelling drops it, as
        the client does after `connect_timeout`.

        Raises:
            SocketProtocolError: it could not be; the cause says why.
        """
