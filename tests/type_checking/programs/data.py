"""Data with a type: requests, events, publishes and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, assert_type

import msgspec
import pydantic

from socketcluster import (
    AGChannel,
    AGClientSocket,
    AGExchange,
    AGRequest,
    AGServer,
    AGServerSocket,
    ConsumableStream,
)


class Add(msgspec.Struct):
    a: int
    b: int


@dataclass
class Point:
    x: float
    y: float


class User(pydantic.BaseModel):
    name: str


async def procedures(socket: AGServerSocket, client: AGClientSocket) -> None:
    assert_type(socket.procedure("add"), ConsumableStream[AGRequest[Any]])
    assert_type(socket.procedure("add", Add), ConsumableStream[AGRequest[Add]])
    assert_type(client.procedure("add", User), ConsumableStream[AGRequest[User]])
    assert_type(client.procedure("sum", list[int]), ConsumableStream[AGRequest[list[int]]])
    assert_type(socket.procedure("any", int | None), ConsumableStream[AGRequest[int | None]])
    async for request in socket.procedure("add", Add):
        assert_type(request, AGRequest[Add])
        with request:
            request.end(request.data.a + request.data.b)
        print(request.data.c)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
        request.data = Point(1, 2)  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

    socket.procedure("add", 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    socket.procedure(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def answer(request: AGRequest) -> None:
    """Without a type it is a request with any data."""
    assert_type(request, AGRequest[Any])


def add(request: AGRequest[Add]) -> int:
    return request.data.a + request.data.b


def requests(any_data: AGRequest[Any], added: AGRequest[Add], point: AGRequest[Point]) -> None:
    answer(added)
    add(any_data)
    add(added)
    add(point)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def receivers(socket: AGServerSocket, client: AGClientSocket) -> None:
    assert_type(socket.receiver("point"), ConsumableStream[Any])
    assert_type(client.receiver("point", Point), ConsumableStream[Point])
    async for point in socket.receiver("point", Point):
        assert_type(point.x, float)
        print(point.z)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]


async def channels(exchange: AGExchange, client: AGClientSocket) -> None:
    assert_type(exchange.subscribe("news"), AGChannel[Any])
    assert_type(exchange.subscribe("news", User), AGChannel[User])
    assert_type(client.subscribe("news", User, wait_for_auth=True), AGChannel[User])
    assert_type(client.channel("news", Point), AGChannel[Point])
    async for user in exchange.channel("news", User):
        assert_type(user, User)
        print(user.age)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]

    exchange.subscribe("news", wait_for_auth=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def answers(server: AGServer, socket: AGServerSocket, client: AGClientSocket) -> None:
    assert_type(await client.invoke("add", Add(1, 2)), Any)
    assert_type(await client.invoke("add", Add(1, 2), returns=int), int)
    assert_type(await socket.invoke("user", returns=User, ack_timeout=100), User)
    assert_type(await client.invoke("users", returns=list[User]), list[User])
    assert_type(await client.invoke("user", returns=User | None), User | None)
    assert_type(await client.invoke("save", returns=None), None)
    assert_type(await client.invoke("age", returns=Annotated[int, msgspec.Meta(ge=0)]), int)
    assert_type(await socket.invoke("mode", returns=Literal["a", "b"]), Literal["a", "b"])
    text: str = await client.invoke("add", returns=int)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    await socket.invoke("add", Add(1, 2), return_type=int)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await client.invoke("add", Add(1, "2"), returns=int)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(text)
