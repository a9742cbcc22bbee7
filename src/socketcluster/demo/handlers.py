"""The demo's handlers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from socketcluster import AGServer, AGServerSocket, Router

Name = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"\S")]
Text = Annotated[str, Meta(min_length=1, max_length=500)]

# JavaScript represents integers of this size, and their sums, exactly.
Number = Annotated[int, Meta(ge=-(10**15), le=10**15)] | Annotated[float, Meta(ge=-1e15, le=1e15)]

router: Router = Router()


class Login(Struct):
    """A name; the demo asks for no password."""

    name: Name


class User(Struct):
    """The user of a socket."""

    name: str


class Line(Struct, tag="line"):
    """A text to say in a room."""

    text: Text


class Typing(Struct, tag="typing"):
    """The user is typing."""


class Message(Struct, tag="message"):
    """A line of a user."""

    name: str
    text: str


class Typist(Struct, tag="typist"):
    """A user who is typing."""

    name: str


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
    return User("guest" if token is None else str(token["name"]))


@router.procedure()
async def login(data: Login, socket: AGServerSocket) -> None:
    """Log in: the socket gets a token that is valid for an hour."""
    await socket.set_auth_token({"name": data.name.strip()}, expires_in=3600)


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


@router.channel("room/{room}")
class Room:
    """A room, which any client may join. The server adds the names of those who talk in it."""

    def publish(self, data: Line | Typing, me: User) -> Message | Typist:
        """Name the user."""
        return Typist(me.name) if isinstance(data, Typing) else Message(me.name, data.text)
