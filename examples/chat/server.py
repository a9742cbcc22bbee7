"""A chat: rooms, a login, who is typing, and a history. README.md says how to run it."""

from __future__ import annotations

from collections import defaultdict, deque
from time import time
from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.staticfiles import StaticFiles

from socketcluster import AGServer, AGServerSocket, AsyncAPI
from socketcluster.errors import AuthError

RoomName = Literal["lobby", "music", "travel"]
Name = Annotated[str, Meta(min_length=1, max_length=20)]
Text = Annotated[str, Meta(min_length=1, max_length=500)]


class User(Struct):
    name: str


class Message(Struct):
    name: str
    text: str | None  # None while the user is typing.
    time: float


server = AGServer(app=StaticFiles(directory="page", html=True), asyncapi=AsyncAPI(title="Chat"))
messages: dict[RoomName, deque[Message]] = defaultdict(lambda: deque(maxlen=100))


@server.provide
def user(socket: AGServerSocket) -> User:
    if socket.auth_token is None:
        raise AuthError("Log in first")
    return User(socket.auth_token["name"])


@server.procedure()
async def login(data: Name, socket: AGServerSocket) -> None:
    await socket.set_auth_token({"name": data}, expires_in=3600)


@server.procedure()
def history(data: RoomName, me: User) -> list[Message]:
    """The last hundred messages of a room."""
    return list(messages[data])


@server.channel("room/{room}")
class Room:
    def subscribe(self, room: RoomName, me: User) -> None: ...

    def publish(self, room: RoomName, data: Text | None, me: User) -> Message:
        message = Message(me.name, data, time())
        if data is not None:
            messages[room].append(message)
        return message
