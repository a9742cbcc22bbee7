"""The same operations on python-socketio: `uvicorn socketio_app:app` runs it."""

from __future__ import annotations

import os

import socketio

url = os.environ.get("SOCKETCLUSTER_BROKER")
manager = socketio.AsyncRedisManager(url) if url else None
server = socketio.AsyncServer(async_mode="asgi", client_manager=manager)
app = socketio.ASGIApp(server)


async def echo(sid: str, data: str) -> str:
    """Answer a call with its data."""
    return data


async def subscribe(sid: str, channel: str) -> None:
    """Add a client to a room."""
    await server.enter_room(sid, channel)


async def publish(sid: str, channel: str, data: str) -> None:
    """Send an event to all clients in a room."""
    await server.emit("message", data, room=channel)


for handler in (echo, subscribe, publish):
    server.on(handler.__name__, handler)
