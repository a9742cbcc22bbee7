"""The channel index and the delivery of publishes, over a broker made up for the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from socketcluster.brokers.base import BrokerListener
from socketcluster.codecs.json import JSONCodec
from socketcluster.errors import BrokerError, InvalidMessageError
from socketcluster.protocol.payloads import Payloads
from socketcluster.pubsub.delivery import PublishDelivery
from socketcluster.pubsub.fanout import FanOut, Run
from socketcluster.pubsub.gaps import GapReports
from socketcluster.pubsub.index import ChannelIndex
from socketcluster.streams import AsyncStreamEmitter, StreamDemux
from support import soon, until


class Broker:
    """Records calls. Its operations are pending until the test completes them, or complete."""

    ready = True

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_pending = True
        self.refusal: Exception | None = None
        self.pending: list[asyncio.Future[None]] = []

    def attach(self, listener: BrokerListener) -> None:
        self.listener = listener

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def check(self) -> None:
        pass

    def _operate(self, name: str, channel: str) -> Awaitable[None] | None:
        self.calls.append(f"{name} {channel}")
        if self.refusal is not None:
            raise self.refusal
        if not self.is_pending:
            return None
        self.pending.append(asyncio.get_running_loop().create_future())
        return self.pending[-1]

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        return self._operate("subscribe", channel)

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        return self._operate("unsubscribe", channel)

    def publish(self, channel: str, payload: bytes) -> None:
        self.calls.append(f"publish {channel}")
        self.listener.message_received(channel, payload)

    def complete(self, error: Exception | None = None) -> None:
        """Complete the oldest operation."""
        future = self.pending.pop(0)
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


class Socket:
    """A subscriber that keeps the payloads it received."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def publish(self, run: Run, at_end_of_turn: bool) -> None:
        self.received += run.payloads

    @property
    def failed(self) -> Callable[[Exception], None]:
        raise AssertionError


class Fixture:
    """An index, its delivery and broker, and the errors they reported."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.errors: list[BaseException] = []
        self.places: list[tuple[str, str | None]] = []
        self.outputs = StreamDemux[Any]()
        fan_out = FanOut()
        self.index = ChannelIndex(self.broker, fan_out, self.failed)
        self.emitter = AsyncStreamEmitter()
        self.delivery = PublishDelivery(
            self.broker,
            self.index.channels,
            fan_out,
            self.outputs,
            Payloads(JSONCodec(), lambda channel: False),
            self.failed,
            GapReports(self.index.channels, self.emitter, self.failed),
        )
        self.broker.attach(self.delivery)

    def failed(
        self, error: BaseException, action: str = "background", channel: str | None = None
    ) -> None:
        self.errors.append(error)
        self.places.append((action, channel))


@pytest.fixture
async def made() -> Fixture:
    return Fixture()


def started(awaitable: Awaitable[None] | None) -> asyncio.Future[None]:
    assert awaitable is not None
    return asyncio.ensure_future(awaitable)


async def test_the_broker_hears_of_the_first_subscriber_and_of_the_last(made: Fixture) -> None:
    made.broker.is_pending = False
    sockets = [Socket(), Socket()]
    for socket in sockets:
        assert made.index.subscribe_socket(socket, "a") is None
    assert made.index.subscribe_exchange("a") is None
    for socket in sockets:
        made.index.unsubscribe_socket(socket, "a")
    assert made.broker.calls == ["subscribe a"]
    assert made.index.unsubscribe_exchange("a")
    assert made.broker.calls == ["subscribe a", "unsubscribe a"]
    assert made.index.channels == {}


async def test_states_of_the_exchange(made: Fixture) -> None:
    index = made.index
    assert (index.has_exchange("a"), index.exchange_state("a")) == (False, "unsubscribed")
    waiting = started(index.subscribe_exchange("a"))
    assert (index.has_exchange("a"), index.exchange_state("a")) == (True, "pending")
    made.broker.complete()
    await soon(waiting)
    assert (index.has_exchange("a"), index.exchange_state("a")) == (True, "subscribed")
    assert index.unsubscribe_exchange("a")
    assert not index.unsubscribe_exchange("a")
    assert (index.has_exchange("a"), index.exchange_state("a")) == (False, "unsubscribed")
    made.broker.complete()
    await until(lambda: index.channels == {})


async def test_one_operation_at_a_time_and_the_latest_decision_wins(made: Fixture) -> None:
    index, broker, socket = made.index, made.broker, Socket()
    first = started(index.subscribe_socket(socket, "a"))
    index.unsubscribe_socket(socket, "a")
    second = started(index.subscribe_socket(socket, "a"))
    index.unsubscribe_socket(socket, "a")
    assert broker.calls == ["subscribe a"]
    broker.complete()
    await until(lambda: broker.calls == ["subscribe a", "unsubscribe a"])
    third = started(index.subscribe_socket(socket, "a"))
    broker.complete()
    await until(lambda: broker.calls == ["subscribe a", "unsubscribe a", "subscribe a"])
    broker.complete()
    await soon(asyncio.gather(first, second, third))
    assert index.channels["a"].state == "subscribed"
    assert [*index.channels["a"].subscribers] == [socket]


@pytest.mark.parametrize("error", [BrokerError("no"), OSError("no")])
async def test_a_late_refusal_reaches_everyone_who_waits(made: Fixture, error: Exception) -> None:
    index = made.index
    waiting = [started(index.subscribe_socket(Socket(), "a")) for _ in range(2)]
    waiting.append(started(index.subscribe_exchange("a")))
    made.broker.complete(error)
    for each in waiting:
        with pytest.raises(BrokerError, match="no"):
            await soon(each)
    assert index.channels == {}
    assert made.broker.calls == ["subscribe a"]
    assert made.errors == []


async def test_an_immediate_refusal_leaves_nothing(made: Fixture) -> None:
    made.broker.refusal = BrokerError("no")
    with pytest.raises(BrokerError, match="no"):
        made.index.subscribe_socket(Socket(), "a")
    with pytest.raises(BrokerError, match="no"):
        made.index.subscribe_exchange("a")
    assert made.index.channels == {}
    made.broker.refusal = None
    made.broker.is_pending = False
    assert made.index.subscribe_socket(Socket(), "a") is None


@pytest.mark.parametrize("later", [False, True])
async def test_an_unsubscription_that_fails_is_reported(made: Fixture, later: bool) -> None:
    index, socket, error = made.index, Socket(), BrokerError("no")
    made.broker.is_pending = False
    index.subscribe_socket(socket, "a")
    if later:
        made.broker.is_pending = True
    else:
        made.broker.refusal = error
    index.unsubscribe_socket(socket, "a")
    if later:
        made.broker.complete(error)
    await until(lambda: index.channels == {})
    assert made.errors == [error]


async def test_cancelling_a_wait_unsubscribes_that_socket_only(made: Fixture) -> None:
    index, other = made.index, Socket()
    waiting = started(index.subscribe_socket(Socket(), "a"))
    staying = started(index.subscribe_socket(other, "a"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    made.broker.complete()
    await soon(staying)
    assert [*index.channels["a"].subscribers] == [other]


@pytest.mark.parametrize("operation", ["subscribe", "unsubscribe"])
async def test_close_ends_operations_and_begins_none(made: Fixture, operation: str) -> None:
    index, broker, socket = made.index, made.broker, Socket()
    waiting = [started(index.subscribe_socket(socket, "a"))]
    if operation == "unsubscribe":
        broker.complete()
        await soon(waiting.pop())
        index.unsubscribe_socket(socket, "a")
        waiting.append(started(index.subscribe_socket(socket, "a")))
    waiting.append(started(index.subscribe_socket(Socket(), "a")))
    await asyncio.sleep(0)
    calls = len(broker.calls)
    index.close()
    await soon(asyncio.wait(waiting))
    assert all(each.cancelled() for each in waiting)
    assert len(broker.calls) == calls
    assert index.channels == {}


async def test_publishes_so_far_go_to_the_subscribers_so_far(made: Fixture) -> None:
    made.broker.is_pending = False
    early, late = Socket(), Socket()
    made.index.subscribe_socket(early, "a")
    made.delivery.publish("a", b"1")
    made.index.subscribe_socket(late, "a")
    made.delivery.publish("a", b"2")
    made.index.unsubscribe_socket(early, "a")
    made.delivery.publish("a", b"3")
    await until(lambda: late.received == [b"2", b"3"])
    assert early.received == [b"1", b"2"]


async def test_what_the_exchange_cannot_decode_is_not_published(made: Fixture) -> None:
    made.broker.is_pending = False
    made.index.subscribe_exchange("a")
    for payload in (b"{", b"[" + b"1," * 1000):
        with pytest.raises(InvalidMessageError):
            made.delivery.publish("a", payload)
    assert made.broker.calls == ["subscribe a"]


async def test_a_foreign_message_of_a_backend_is_reported(made: Fixture) -> None:
    made.broker.is_pending = False
    socket = Socket()
    made.index.subscribe_socket(socket, "a")
    consumer = made.outputs.stream("a").create_consumer()
    made.delivery.backend_message_received("a", b"{")
    made.delivery.backend_message_received("b", b"{")
    made.index.subscribe_exchange("a")
    made.delivery.backend_message_received("a", b"5")
    assert (await soon(consumer.next())).value == 5
    await until(lambda: socket.received == [b"5"])
    assert str(made.errors[0]).startswith(
        "A message on the channel 'a' of the backend is foreign: "
    )
    assert len(made.errors) == 1
