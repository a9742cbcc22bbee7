"""A chat: clients join rooms and publish; the server greets, counts and moderates.

Run it with `socketcluster serve server:server` in this folder.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from socketcluster import AGAction, AGServer, AGServerSocket
from socketcluster.middleware import MiddlewareStream

server = AGServer()
sizes: Counter[str] = Counter()


@server.background
async def handle_connections() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(count(1))
        group.create_task(count(-1))
        async for event in server.listener("connection"):
            group.create_task(handle(event.socket))


async def handle(socket: AGServerSocket) -> None:
    socket.transmit("welcome", {"id": socket.id})
    async for request in socket.procedure("roomSize"):
        request.end(sizes[request.data])


async def count(step: int) -> None:
    if step > 0:
        async for joined in server.listener("subscription"):
            sizes[joined.channel] += 1
    else:
        async for left in server.listener("unsubscription"):
            sizes[left.channel] -= 1


async def moderate(stream: MiddlewareStream) -> None:
    """Nobody shouts."""
    async for action in stream:
        if action.type == AGAction.PUBLISH_IN and str(action.data).isupper():
            action.allow(data=str(action.data).lower())
        else:
            action.allow()


server.set_middleware(server.MIDDLEWARE_INBOUND, moderate)
