"""Handlers: decorators keep the type of what they decorate, and take their options only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

import msgspec

from socketcluster import AGServer, AGServerSocket, ConnectionEvent, Router
from socketcluster.middleware import MiddlewareStream

server = AGServer()
router = Router()


class Add(msgspec.Struct):
    a: int
    b: int


class User(msgspec.Struct):
    name: str


@server.procedure("add")
def add(data: Add) -> int:
    return data.a + data.b


@router.procedure(order="free", at_once=5, timeout=1000, cancel_on_disconnect=True)
async def slow(data: Add, me: User, socket: AGServerSocket) -> str:
    return f"{me.name} {socket.id} {data.a}"


@server.receiver("position", order="latest")
async def position(data: Add) -> None: ...


@server.channel("room/{room}", publish=User)
class Room:
    async def subscribe(self, room: str, me: User) -> bool:
        return room == me.name

    def publish(self, data: User) -> User:
        return data


@server.channel("news", publish=False)
def news(socket: AGServerSocket) -> bool:
    return socket.auth_token is not None


@server.on("connection")
async def hello(event: ConnectionEvent) -> None:
    event.socket.transmit("hello")


@server.provide
def user(socket: AGServerSocket) -> User:
    return User(socket.id)


@server.provide(scope="server")
async def database() -> AsyncIterator[int]:
    yield 5


@server.middleware("inbound")
async def allow(stream: MiddlewareStream) -> None:
    async for action in stream:
        action.allow()


server.include(router, prefix="admin/")


async def functions_stay_functions(socket: AGServerSocket) -> None:
    assert_type(add(Add(1, 2)), int)
    assert_type(await slow(Add(1, 2), User("Ada"), socket), str)
    assert_type(await Room().subscribe("a", User("a")), bool)
    assert_type(news(socket), bool)
    assert_type(user(socket), User)

    add(1, 2)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    add(Add(1, 2)).upper()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def wrong_declarations() -> None:
    server.procedure("a", ordr="free")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    server.procedure("a", order="fast")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    server.procedure("a", timeout="1s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    server.procedure(add)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    server.procedure("a")(5)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    router.receiver("a", at_once="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    server.provide(scope="process")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    server.middleware("inbond")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    server.middleware("inbound")(add)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    server.include(server)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
