"""The demo's handlers."""

from __future__ import annotations

from time import time
from typing import Annotated

from msgspec import Meta, Struct

from socketcluster import AGServer, AGServerSocket, History, Presence, Router

Name = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"\S")]
Text = Annotated[str, Meta(min_length=1, max_length=500)]

# JavaScript represents integers of this size, and their sums, exactly.
Number = Annotated[int, Meta(ge=-(10**15), le=10**15)] | Annotated[float, Meta(ge=-1e15, le=1e15)]

KEPT = History(size=50, ttl=600, before_subscribing=True)

router: Router = Router()


class Login(Struct):
    """A name; the demo asks for no password."""

    name: Name


class User(Struct):
    """The user of a socket."""

    name: str


class Message(Struct):
    """A line of a user."""

    name: str
    text: str
    time: float


class Backpressure(Struct):
    """Messages that wait at the server, and bytes that the socket has not taken."""

    clients: int
    inbound: int
    outbound: int
    streams: int
    bytes: int


@router.provide
def user(socket: AGServerSocket) -> User:
    """Return the user that the token names."""
    token = socket.auth_token
    return User("guest" if token is None else str(token["username"]))


@router.procedure()
async def login(data: Login, socket: AGServerSocket) -> None:
    """Log in: the socket gets a token that is valid for an hour."""
    await socket.set_auth_token({"username": data.name.strip()}, expires_in=3600)


@router.procedure()
async def logout(socket: AGServerSocket) -> None:
    """Log out: the socket loses its token."""
    await socket.deauthenticate()


@router.procedure()
def add(data: list[Number]) -> int | float:
    """Add numbers."""
    return sum(data)


@router.procedure()
def backpressure(server: AGServer, socket: AGServerSocket) -> Backpressure:
    """Count the clients, and the messages that wait for or of this one."""
    return Backpressure(
        clients=server.clients_count,
        inbound=socket.get_inbound_backpressure(),
        outbound=socket.get_outbound_backpressure(),
        streams=socket.get_backpressure(),
        bytes=socket.get_outbound_buffer_size(),
    )


@router.receiver()
def cut(socket: AGServerSocket) -> None:
    """Cut the line of this client without a goodbye, as a pulled cable does."""
    socket.terminate()


@router.channel("room/{room}", history=KEPT, presence=Presence(leave_delay=2))
class Room:
    """A room, which any client may join. It keeps its last lines, and shows who is in it."""

    def publish(self, data: Text, me: User) -> Message:
        """Name the user."""
        return Message(me.name, data, time())


@router.channel("typing/{room}")
class Typing:
    """The users who are typing in a room."""

    def publish(self, data: None, me: User) -> User:
        """Name the user."""
        return me
