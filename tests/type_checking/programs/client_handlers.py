"""Handlers of a client: one name for the stream and for the decorator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_type

import msgspec

from socketcluster import AGClientSocket, AGRequest, ConnectEvent, ConsumableStream, Router

client = AGClientSocket(auto_connect=False)
router = Router()


class Add(msgspec.Struct):
    a: int
    b: int


class User(msgspec.Struct):
    name: str


@client.procedure("add")
def add(data: Add) -> int:
    return data.a + data.b


@client.procedure()
async def sub(data: Add, client: AGClientSocket) -> int:
    return data.a - data.b


@client.procedure("slow", order="free", at_once=5, timeout=1000, cancel_on_disconnect=True)
async def slow(data: Add, me: User, socket: AGClientSocket) -> str:
    return f"{me.name} {socket.id} {data.a}"


@client.receiver("position", order="latest")
async def position(data: Add) -> None: ...


@client.receiver("news")
def news(data: str) -> None: ...


@client.on("connect")
async def hello(event: ConnectEvent) -> None:
    client.transmit("hello", event.id)


@client.provide(scope="server")
def user() -> Iterator[User]:
    yield User("Ada")


client.include(router, prefix="admin/")


async def functions_stay_functions(socket: AGClientSocket) -> None:
    assert_type(add(Add(1, 2)), int)
    assert_type(await sub(Add(1, 2), socket), int)
    assert_type(await slow(Add(1, 2), User("Ada"), socket), str)
    add("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def streams_stay_streams() -> None:
    untyped: ConsumableStream[AGRequest[Any]] = client.procedure("add")
    assert_type(client.procedure("add", Add), ConsumableStream[AGRequest[Add]])
    assert_type(client.receiver("add", Add), ConsumableStream[Add])
    async for request in untyped:
        assert_type(request, AGRequest[Any])
    async for request in client.procedure("add"):
        assert_type(request, AGRequest[Any])


client.procedure("x", order="latest")(add)  # The order is wrong when it runs, not for a checker.
client.procedure("x", order="sometimes")(add)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
client.procedure("x", Add, thread=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
client.procedure("x")("not a function")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
