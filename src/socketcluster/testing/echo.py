"""An echo server on a bare engine: `python -m socketcluster.testing.echo PORT --engine picows`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

import uvloop

from socketcluster.engines.base import (
    Accepted,
    ASGIReceive,
    ASGIScope,
    ASGISend,
    Connection,
    DeflateOptions,
    Gate,
    ListenAddress,
    Pace,
    UpgradeRequest,
)
from socketcluster.engines.registry import resolve_engine
from socketcluster.protocol.frames import binary_frame, text_frame


class EchoHandler:
    """Sends every message back. See `socketcluster.engines.base`."""

    connection: Connection

    def connection_made(self, connection: Connection) -> None:
        """See `ConnectionHandler`."""
        self.connection = connection

    def text_received(self, data: bytes) -> None:
        """See `ConnectionHandler`."""
        self.connection.write([text_frame(data)])

    def binary_received(self, data: bytes) -> None:
        """See `ConnectionHandler`."""
        self.connection.write([binary_frame(data)])

    def connection_lost(self, code: int, reason: str) -> None:
        """See `ConnectionHandler`."""


class EchoEndpoint:
    """Accepts every upgrade at "/"."""

    max_payload: int
    max_first_message: int

    path = "/"
    max_outbound_buffer = 64 * 1024 * 1024
    admission: Gate | None = None

    def __init__(
        self, deflate: DeflateOptions | None = None, max_payload: int = 16 * 1024 * 1024
    ) -> None:
        self.deflate = deflate
        self.pace: Pace = Pace(16)
        self.max_payload = self.max_first_message = max_payload

    def open_now(self, request: UpgradeRequest) -> Accepted | None:
        """See `Endpoint.open_now`."""
        return None

    async def open(self, request: UpgradeRequest) -> Accepted:
        """See `Endpoint.open`."""
        return Accepted(EchoHandler())


async def _no_app(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"Not Found"})
        return
    raise ValueError(f"There is no application for {scope['type']}")


async def serve(port: int, engine: str, deflate: DeflateOptions | None) -> None:
    """Serve until cancelled."""
    listener = await resolve_engine(engine, {}).listen(
        EchoEndpoint(deflate), _no_app, ListenAddress(port=port)
    )
    print(f"Echo on ws://127.0.0.1:{listener.port}/ ({engine})", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await listener.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m socketcluster.testing.echo")
    parser.add_argument("port", type=int)
    parser.add_argument("--engine", choices=("picows", "asgi"), default="picows")
    parser.add_argument("--no-deflate", action="store_true", help="without permessage-deflate")
    arguments = parser.parse_args()
    deflate = None if arguments.no_deflate else DeflateOptions(threshold=0)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(arguments.port, arguments.engine, deflate))


if __name__ == "__main__":
    main()
