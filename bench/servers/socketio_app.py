"""The same work on python-socketio: `uvicorn socketio_app:app` runs it."""

from __future__ import annotations

import os

import socketio

url = os.environ.get("SOCKETCLUSTER_BROKER")
joined = socketio.AsyncRedisManager(url) if url else None
server = socketio.AsyncServer(async_mode="asgi", client_manager=joined)
app = socketio.ASGIApp(server)


async def echo(sid: str, data: str) -> str:
    """Answer a call with its data."""
    return data


async def subscribe(sid: str, channel: str) -> None:
    """Enter a room."""
    await server.enter_room(sid, channel)


async def publish(sid: str, channel: str, data: str) -> None:
    """Send an event to everyone in a room."""
    await server.emit("message", data, room=channel)


for handler in (echo, subscribe, publish):
    server.on(handler.__name__, handler)
