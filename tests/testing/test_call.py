"""`testing.call`: one handler, alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, assert_type

import msgspec
import pydantic
import pytest

from socketcluster import (
    AGClientSocket,
    AGExchange,
    AGServer,
    AGServerSocket,
    ConnectionEvent,
    Router,
    testing,
)
from socketcluster.errors import (
    AuthError,
    EncodeError,
    InvalidDataError,
    UsageError,
)


class Add(msgspec.Struct):
    a: int
    b: int


class Model(pydantic.BaseModel):
    name: str


@dataclass
class User:
    name: str


ANN = User("ann")


async def test_plain_and_async_functions_return_their_result() -> None:
    server = AGServer()

    @server.procedure("add")
    def add(data: Add) -> int:
        return data.a + data.b

    @server.procedure("later", order="free")
    async def later(data: Add) -> Add:
        await asyncio.sleep(0)
        return Add(data.b, data.a)

    assert_type(await testing.call(add, Add(1, 2)), int)
    assert_type(await testing.call(later, Add(1, 2)), Add)
    assert await testing.call(add, {"a": 1, "b": 2}) == 3
    assert await testing.call(later, Add(1, 2)) == Add(2, 1)
    assert not server.is_ready


async def test_data_is_checked_as_on_the_wire() -> None:
    def add(data: Add) -> int:
        raise AssertionError

    def model(data: Model) -> str:
        return data.name

    def binary(data: dict[str, bytes]) -> bytes:
        return data["x"]

    def anything(data):  # type: ignore[no-untyped-def]
        return data

    def optional(data: int = 5) -> int:
        return data

    with pytest.raises(InvalidDataError, match="Expected `int`, got `str`") as raised:
        await testing.call(add, {"a": "1", "b": 2})
    assert raised.value.path == "$.a"
    with pytest.raises(InvalidDataError):
        await testing.call(add)
    assert await testing.call(model, Model(name="x")) == "x"
    with pytest.raises(InvalidDataError):
        await testing.call(model, {"name": 5})
    assert await testing.call(binary, {"x": b"\xff"}) == b"\xff"
    assert await testing.call(anything, Add(1, 2)) == {"a": 1, "b": 2}
    assert await testing.call(anything, float("nan")) is None
    assert await testing.call(optional) == 5
    assert await testing.call(optional, 6) == 6
    with pytest.raises(EncodeError):
        await testing.call(anything, object())
    with pytest.raises(InvalidDataError):
        await testing.call(optional, "x")


async def test_dependencies_are_given_by_type_or_come_from_their_provider() -> None:
    ends: list[str] = []
    router = Router()

    @router.provide(scope="socket")
    async def user(token: Token) -> AsyncIterator[User]:
        yield User(token.text)
        ends.append("user")

    @router.provide(scope="server")
    def token() -> Iterator[Token]:
        yield Token("real")
        ends.append("token")

    @router.procedure("name")
    def name(me: User, token: Token) -> str:
        assert ends == []
        return f"{me.name} {token.text}"

    assert await testing.call(name, provided={User: ANN, Token: Token("fake")}) == "ann fake"
    assert await testing.call(name, provided={Token: Token("fake")}, providers_of=router) == (
        "fake fake"
    )
    assert ends == ["user"]
    ends.clear()
    server = AGServer()
    server.include(router, prefix="a/")
    assert await testing.call(name, providers_of=server) == "real real"
    assert ends == ["user", "token"]
    ends.clear()
    with testing.override(server, {Token: lambda: Token("overridden")}):
        assert await testing.call(name, providers_of=server) == "overridden overridden"
    assert not server.is_ready
    with pytest.raises(UsageError, match=r"test_call.py:\d+\): nothing provides its parameter 'me"):
        await testing.call(name)


@dataclass
class Token:
    text: str


async def test_a_socket_is_given_or_connected_in_memory() -> None:
    seen: list[AGServerSocket] = []

    async def who(socket: AGServerSocket) -> str:
        seen.append(socket)
        assert socket.state == "open"
        await socket.set_auth_token({"name": "ann"})
        return str((socket.auth_token or {})["name"])

    def user(socket) -> User:  # type: ignore[no-untyped-def]
        return User(socket.id)

    def through_a_provider(me: User) -> str:
        return me.name

    assert await testing.call(who) == "ann"
    assert seen[0].state == "closed"
    assert len(await testing.call(through_a_provider, provided={User: user})) == 20
    async with AGServer() as server, testing.connect(server):
        (mine,) = server.clients.values()
        assert await testing.call(who, socket=mine) == "ann"
        assert await testing.call(through_a_provider, socket=mine, provided={User: user}) == mine.id
        assert mine.state == "open"
    assert seen == [seen[0], mine]


async def test_the_server_and_the_exchange() -> None:
    def both(server: AGServer, exchange: AGExchange) -> bool:
        return server.exchange is exchange

    def which(server: AGServer) -> AGServer:
        return server

    assert await testing.call(both)
    server = AGServer()
    assert await testing.call(which, providers_of=server) is server


async def test_other_parameters_by_their_name() -> None:
    server = AGServer()

    @server.channel("room/{room}")
    class Room:
        async def subscribe(self, room: str, channel: str, me: User) -> bool:
            return room == me.name and channel == f"room/{room}"

        def publish(self, data: Add, room: str) -> Add:
            return Add(data.b, data.a)

    @server.on("connection")
    def hello(event: ConnectionEvent, socket: AGServerSocket) -> str:
        assert socket is event.socket
        return socket.id

    room = Room()
    may = testing.call(room.subscribe, provided={User: ANN}, room="ann", channel="room/ann")
    assert await may is True
    assert await testing.call(room.publish, Add(1, 2), room="ann") == Add(2, 1)
    stand_in: Any = User("x")
    stand_in.id = "y"
    event = ConnectionEvent(stand_in, "y", 20_000, False)
    assert await testing.call(hello, event=event) == "y"
    assert await testing.call(hello, event=event, providers_of=server) == "y"
    with pytest.raises(UsageError, match="it has no parameter 'rum'"):
        await testing.call(room.subscribe, rum="ann")
    with pytest.raises(UsageError, match="it has no parameter 'data'"):
        await testing.call(hello, "x")


async def test_errors_of_the_handler_are_raised_and_dependencies_clean_up() -> None:
    failed: list[BaseException] = []

    def user() -> Iterator[User]:
        try:
            yield ANN
        except AuthError as error:
            failed.append(error)
            raise

    async def refuse(me: User) -> None:
        raise AuthError(f"Not {me.name}")

    with pytest.raises(AuthError, match="Not ann") as raised:
        await testing.call(refuse, provided={User: user})
    assert failed == [raised.value]


async def test_handlers_of_a_client_get_the_client() -> None:
    client = AGClientSocket(auto_connect=False)

    @client.provide(scope="socket")
    def user(client: AGClientSocket) -> User:
        return User(client.client_id)

    @client.procedure("who")
    def who(me: User, socket: AGClientSocket) -> bool:
        return me.name == socket.client_id

    assert await testing.call(who, providers_of=client)
    assert client.state == "closed"


def with_local_names(owner: AGServer | Router) -> Any:
    """A handler whose annotations can be resolved in this function only."""

    class Local(msgspec.Struct):
        a: int

    @owner.procedure("a")
    def handler(data: Local) -> int:
        return data.a

    return handler


async def test_local_names_are_resolved() -> None:
    class Local(msgspec.Struct):
        a: int

    def handler(data: Local) -> int:
        return data.a

    for owner in (AGServer(), Router()):
        assert await testing.call(with_local_names(owner), {"a": 1}, providers_of=owner) == 1
    assert await asyncio.create_task(testing.call(handler, {"a": 1})) == 1
