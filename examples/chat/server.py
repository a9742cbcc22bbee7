"""A chat: rooms with a history and members, a login, and who is typing. README.md tells more."""

from __future__ import annotations

from time import time
from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.staticfiles import StaticFiles

from socketcluster import AGServer, AGServerSocket, AsyncAPI, History, Presence
from socketcluster.errors import AuthError

RoomName = Literal["lobby", "music", "travel"]
Name = Annotated[str, Meta(min_length=1, max_length=20)]
Text = Annotated[str, Meta(min_length=1, max_length=500)]
KEPT = History(size=100, ttl=86_400, before_subscribing=True)


class User(Struct):
    name: str


class Message(Struct):
    name: str
    text: str
    time: float


server = AGServer(app=StaticFiles(directory="page", html=True), asyncapi=AsyncAPI(title="Chat"))


@server.provide
def user(socket: AGServerSocket) -> User:
    if socket.auth_token is None:
        raise AuthError("Log in first")
    return User(socket.auth_token["sub"])


@server.procedure()
async def login(data: Name, socket: AGServerSocket) -> None:
    await socket.set_auth_token({"sub": data}, expires_in=3600)


@server.channel("room/{room}", history=KEPT, presence=Presence())
class Room:
    def subscribe(self, room: RoomName, me: User) -> None: ...

    def publish(self, room: RoomName, data: Text, me: User) -> Message:
        return Message(me.name, data, time())


@server.channel("typing/{room}")
class Typing:
    def subscribe(self, room: RoomName, me: User) -> None: ...

    def publish(self, room: RoomName, data: None, me: User) -> User:
        return me
