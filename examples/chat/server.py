"""A chat: clients join rooms and publish; the server greets them, counts them and moderates.

Run it with `socketcluster serve server:server` in this directory.
"""

from __future__ import annotations

from collections import Counter

from socketcluster import AGAction, AGServer, AGServerSocket
from socketcluster.middleware import MiddlewareStream

server = AGServer()
room_sizes: Counter[str] = Counter()


@server.background
async def handle_connections() -> None:
    async for event in server.listener("connection"):
        server.spawn(handle(event.socket))


async def handle(socket: AGServerSocket) -> None:
    socket.transmit("welcome", {"id": socket.id})
    async for request in socket.procedure("roomSize"):
        with request:
            request.end(room_sizes[str(request.data)])


@server.background
async def count_subscriptions() -> None:
    async for event in server.listener("subscription"):
        room_sizes[event.channel] += 1


@server.background
async def count_unsubscriptions() -> None:
    async for event in server.listener("unsubscription"):
        room_sizes[event.channel] -= 1
        if not room_sizes[event.channel]:
            del room_sizes[event.channel]


async def moderate(stream: MiddlewareStream) -> None:
    """Convert messages in capital letters to lower case."""
    async for action in stream:
        if action.type == AGAction.PUBLISH_IN and str(action.data).isupper():
            action.allow(data=str(action.data).lower())
        else:
            action.allow()


server.set_middleware(server.MIDDLEWARE_INBOUND, moderate)
