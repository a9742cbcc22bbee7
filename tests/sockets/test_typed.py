"""Streams and calls with a type: the loop gets data of that type only, and other data is answered,
reported and skipped. On both sides alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest

from socketcluster import AGClientSocket, AGServer, AGServerSocket, testing
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import (
    EncodeError,
    InvalidArgumentsError,
    InvalidDataError,
    PeerError,
    TimeoutError,
)
from support import Running, soon, until


class Add(msgspec.Struct):
    a: int
    b: int


@dataclass
class Point:
    x: float
    y: float


class User(pydantic.BaseModel):
    name: str
    age: int = 0


@dataclass
class Ends:
    """The two ends of a connection: `to` has the streams, `sender` fills them."""

    to: Any
    sender: Any
    server: AGServer
    client: AGClientSocket

    @property
    def socket(self) -> AGServerSocket:
        (socket,) = self.server.clients.values()
        return socket


@pytest.fixture(params=["json", "min-bin"])
def codec(request: Any) -> Any:
    return MinBinCodec() if request.param == "min-bin" else None


@pytest.fixture(params=["server", "client"])
async def ends(request: Any, codec: Any) -> AsyncIterator[Ends]:
    async with (
        testing.clock(auto=True),
        AGServer(codec_engine=codec, max_malformed_messages=3) as server,
        testing.connect(server) as client,
    ):
        (socket,) = server.clients.values()
        to, sender = (socket, client) if request.param == "server" else (client, socket)
        yield Ends(to, sender, server, client)


@pytest.mark.parametrize(
    ("data_type", "sent", "seen"),
    [
        (Add, {"a": 1, "b": 2}, Add(1, 2)),
        (Add, Add(1, 2), Add(1, 2)),
        (Point, Point(1.5, 2), Point(1.5, 2)),
        (User, {"name": "Ada"}, User(name="Ada")),
        (int | None, None, None),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (Any, {"a": "?"}, {"a": "?"}),
    ],
)
async def test_a_loop_gets_data_of_its_type(
    ends: Ends, running: Running, data_type: Any, sent: Any, seen: Any
) -> None:
    async def answer() -> None:
        async for request in ends.to.procedure("p", data_type):
            assert request.procedure == "p"
            request.end(request.data == seen)

    running.start(answer())
    received = running.collect(ends.to.receiver("r", data_type))
    of_channel = running.collect(ends.client.subscribe("c", data_type))
    of_exchange = running.collect(ends.server.exchange.subscribe("c", data_type))
    await until(lambda: ends.client.is_subscribed("c"))
    ends.sender.transmit("r", sent)
    assert await soon(ends.sender.invoke("p", sent)) is True
    await ends.client.invoke_publish("c", sent)
    await until(lambda: bool(of_channel))
    assert received == of_channel == of_exchange == [seen]


async def test_other_calls_are_answered_and_skipped(ends: Ends, running: Running) -> None:
    seen: list[Any] = []

    async def add() -> None:
        async for request in ends.to.procedure("add", Add):
            seen.append(request.data)
            request.end(request.data.a + request.data.b)

    running.start(add())
    for data, path in (({"a": "1", "b": 2}, "$.a"), (None, "$"), ([1, 2], "$"), ({"a": 1}, "$")):
        with pytest.raises(InvalidArgumentsError) as refused:
            await soon(ends.sender.invoke("add", data))
        assert refused.value.is_remote
        assert f"`{path}`" in str(refused.value) or path == "$"
    assert await soon(ends.sender.invoke("add", Add(2, 3))) == 5
    assert seen == [Add(2, 3)]
    assert ends.to.get_all_procedures_backpressure() == 0


async def test_a_fault_of_a_validator_is_no_fault_of_the_caller(
    ends: Ends, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            if n < 0:
                raise KeyError("a bug")
            return n

    async def answer() -> None:
        async for request in ends.to.procedure("p", Odd):
            request.end(request.data.n)

    running.start(answer())
    received = running.collect(ends.to.receiver("r", Odd))
    failed = running.collect(ends.to.listener("error"))
    with pytest.raises(Exception, match="Internal server error"):
        await soon(ends.sender.invoke("p", {"n": -1}))
    ends.sender.transmit("r", {"n": -1})
    ends.sender.transmit("r", {"n": 2})
    assert await soon(ends.sender.invoke("p", {"n": 1})) == 1
    assert [value.n for value in received] == [2]
    assert [type(event.error) for event in failed] == [KeyError]
    assert "a bug" in caplog.text


async def test_other_events_are_reported_and_skipped(ends: Ends, running: Running) -> None:
    received = running.collect(ends.to.receiver("point", Point))
    errors = running.collect(ends.to.listener("error"))
    ends.sender.transmit("point", {"x": 1})
    ends.sender.transmit("point", {"x": 1, "y": 2})
    await until(lambda: bool(received) and bool(errors))
    assert received == [Point(1, 2)]
    (error,) = (event.error for event in errors)
    assert isinstance(error, InvalidDataError)
    assert str(error).startswith("The data of a 'point' event is not of its type: ")


async def test_other_events_count_as_malformed_messages(running: Running) -> None:
    async with (
        testing.clock(auto=True),
        AGServer(max_malformed_messages=3) as server,
        testing.connect(server, auto_reconnect=False) as client,
    ):
        (socket,) = server.clients.values()
        received = running.collect(socket.receiver("n", int))
        closed = client.listener("close").create_consumer()
        for n in range(4):
            client.transmit("n", f"{n}")
        assert (await soon(anext(closed))).code == 1008
        assert not received


@pytest.mark.parametrize("of", ["exchange", "client"])
async def test_other_publishes_are_reported_and_skipped(running: Running, of: str) -> None:
    async with (
        testing.clock(auto=True),
        AGServer() as server,
        testing.connect(server) as client,
    ):
        owner: Any = server.exchange if of == "exchange" else client
        received = running.collect(owner.subscribe("news", Add))
        untyped = running.collect(owner.channel("news"))
        errors = running.collect(owner.listener("error"))
        await until(lambda: bool(owner.is_subscribed("news")))
        server.exchange.transmit_publish("news", {"a": 1, "b": None})
        server.exchange.transmit_publish("news", Add(1, 2))
        await until(lambda: len(untyped) == 2 and bool(errors))
        assert received == [Add(1, 2)]
        (error,) = (event.error for event in errors)
        assert isinstance(error, InvalidDataError)
        assert error.path == "$.b"
        assert "A publish on the channel 'news' is not of its type" in str(error)


@pytest.mark.parametrize("own", [True, False], ids=["own timeout", "timeout of next"])
async def test_skipped_values_do_not_extend_a_timeout(
    ends: Ends, running: Running, own: bool
) -> None:
    consumer = ends.to.receiver("n", int).create_consumer(50 if own else None)

    async def wait() -> Any:
        return await (anext(consumer) if own else consumer.next(50))

    async def send() -> None:
        await asyncio.sleep(0.03)
        ends.sender.transmit("n", "no number")

    running.start(send())
    waiting = asyncio.create_task(wait())
    with pytest.raises(TimeoutError):
        await soon(waiting)
    ends.sender.transmit("n", 1)
    assert (await soon(consumer.next())).value == 1


async def test_a_typed_loop_ends_with_its_stream(ends: Ends, running: Running) -> None:
    async def read(timeout: float | None) -> list[int]:
        return [n async for n in ends.to.receiver("n", int).create_consumer(timeout)]

    loops = [running.start(read(timeout)) for timeout in (None, 1000)]
    last = ends.to.receiver("n", int).create_consumer()
    await until(lambda: len(ends.to.get_receiver_consumer_stats_list("n")) == 3)
    ends.sender.transmit("n", 1)
    assert (await soon(last.next())).value == 1
    ends.to.close_receiver("n")
    assert (await soon(last.next())).done
    assert [await soon(loop) for loop in loops] == [[1], [1]]
    assert ends.to.get_receiver_consumer_stats_list("n") == []


@pytest.mark.parametrize("make", ["receiver", "procedure"])
async def test_a_type_that_cannot_be_checked_is_refused(ends: Ends, make: str) -> None:
    class Odd:
        pass

    with pytest.raises(InvalidArgumentsError, match="Odd"):
        getattr(ends.to, make)("x", Odd)
    for owner in (ends.client, ends.server.exchange):
        with pytest.raises(InvalidArgumentsError, match="Odd"):
            owner.subscribe("c", Odd)
        assert owner.subscriptions(include_pending=True) == []
    with pytest.raises(InvalidArgumentsError, match="Odd"):
        await ends.sender.invoke("x", returns=Odd)


# Answers


@pytest.mark.parametrize(
    ("returns", "answer", "seen"),
    [
        (int, 3, 3),
        (Add, {"a": 1, "b": 2}, Add(1, 2)),
        (User, User(name="Ada"), User(name="Ada")),
        (list[Point], [Point(1, 2)], [Point(1, 2)]),
        (int | None, None, None),
        (None, None, None),
        (Any, "x", "x"),
    ],
)
async def test_an_answer_is_of_its_type(
    ends: Ends, running: Running, returns: Any, answer: Any, seen: Any
) -> None:
    async def respond() -> None:
        async for request in ends.to.procedure("p"):
            request.end(answer)

    running.start(respond())
    assert await soon(ends.sender.invoke("p", returns=returns)) == seen


@pytest.mark.parametrize("returns", [int, None, Add])
async def test_another_answer_is_the_fault_of_the_peer(
    ends: Ends, running: Running, returns: Any
) -> None:
    async def respond() -> None:
        async for request in ends.to.procedure("p"):
            request.end("three")

    running.start(respond())
    with pytest.raises(InvalidDataError, match="got `str`") as wrong:
        await soon(ends.sender.invoke("p", returns=returns))
    assert isinstance(wrong.value, PeerError)
    assert not wrong.value.is_remote


async def test_an_error_is_raised_as_without_a_type(ends: Ends) -> None:
    with pytest.raises(Exception, match="There is no procedure 'p'"):
        await soon(ends.sender.invoke("p", returns=int))


@pytest.mark.parametrize(
    ("data_type", "data"),
    [
        (Add, Add(1, 2)),
        (Point, Point(1, 2)),
        (User, User(name="Ada")),
        (list[User], [User(name="Ada")]),
    ],
)
async def test_data_of_these_types_is_encoded(
    ends: Ends, running: Running, data_type: Any, data: Any
) -> None:
    received = running.collect(ends.to.receiver("r", data_type))
    ends.sender.transmit("r", data)
    await until(lambda: bool(received))
    assert received == [data]


async def test_other_objects_are_refused(ends: Ends) -> None:
    for data in (object(), [object()]):
        with pytest.raises(EncodeError, match="object"):
            ends.sender.transmit("r", data)
