"""The streams of channels, of an exchange and of a client: ended, killed and measured one by one,
by channel and all together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from socketcluster import AGChannel, AGClientSocket, AGServer
from support import soon


@pytest.fixture(params=["exchange", "client"])
def client(request: Any) -> Any:
    return (
        AGServer().exchange if request.param == "exchange" else AGClientSocket(auto_connect=False)
    )


class Consumers:
    """Two consumers of a channel: of its publishes, and of its event 'subscribe'. One value waits
    for each."""

    def __init__(self, client: Any, name: str) -> None:
        self.channel: AGChannel = client.channel(name)
        self.output: Any = self.channel.create_consumer(500)
        self.listener: Any = self.channel.listener("subscribe").create_consumer()
        client._channel_outputs.write(name, "value")
        client._channel_listeners.write(f"{name}/subscribe", "event")


async def taken(consumer: Any) -> list[Any]:
    """What a consumer has until its end."""
    return [value async for value in consumer]


async def is_waiting(consumer: Any) -> bool:
    """Whether a consumer has not ended, and has its value."""
    assert (await consumer.next()).done is False
    ending = asyncio.ensure_future(consumer.next())
    await asyncio.sleep(0)
    waits = not ending.done()
    ending.cancel()
    await asyncio.wait([ending])
    return waits


Ended = Callable[[Any, Consumers], None]

CLOSED: dict[str, tuple[Ended, str]] = {
    "close": (lambda client, x: x.channel.close(), "output listener"),
    "close_output": (lambda client, x: x.channel.close_output(), "output"),
    "close_listener": (lambda client, x: x.channel.close_listener("subscribe"), "listener"),
    "close_all_listeners": (lambda client, x: x.channel.close_all_listeners(), "listener"),
    "close_channel": (lambda client, x: client.close_channel("x"), "output listener"),
    "kill": (lambda client, x: x.channel.kill(), "output listener"),
    "kill_output": (lambda client, x: x.channel.kill_output(), "output"),
    "kill_listener": (lambda client, x: x.channel.kill_listener("subscribe"), "listener"),
    "kill_all_listeners": (lambda client, x: x.channel.kill_all_listeners(), "listener"),
    "kill_channel": (lambda client, x: client.kill_channel("x"), "output listener"),
    "kill_output_consumer": (
        lambda client, x: x.channel.kill_output_consumer(x.output.id),
        "output",
    ),
    "kill_listener_consumer": (
        lambda client, x: x.channel.kill_listener_consumer(x.listener.id),
        "listener",
    ),
}
EVERYWHERE: dict[str, str] = {
    "close_all_channels": "output listener",
    "close_all_channel_outputs": "output",
    "close_all_channel_listeners": "listener",
    "kill_all_channels": "output listener",
    "kill_all_channel_outputs": "output",
    "kill_all_channel_listeners": "listener",
}


async def assert_ended(consumers: Consumers, ended: str, killed: bool) -> None:
    for kind, value in (("output", "value"), ("listener", "event")):
        consumer = getattr(consumers, kind)
        if kind in ended:
            assert await soon(taken(consumer)) == ([] if killed else [value])
        else:
            assert await is_waiting(consumer)


@pytest.mark.parametrize("how", CLOSED)
async def test_one_channel_ends_and_others_go_on(client: Any, how: str) -> None:
    one, other = Consumers(client, "x"), Consumers(client, "y")
    end, ended = CLOSED[how]
    end(client, one)
    await assert_ended(one, ended, how.startswith("kill"))
    await assert_ended(other, "", False)


@pytest.mark.parametrize("how", EVERYWHERE)
async def test_all_channels_end(client: Any, how: str) -> None:
    both = Consumers(client, "x"), Consumers(client, "y")
    getattr(client, how)()
    for consumers in both:
        await assert_ended(consumers, EVERYWHERE[how], how.startswith("kill"))


async def test_a_consumer_of_another_channel_is_not_killed(client: Any) -> None:
    one, other = Consumers(client, "x"), Consumers(client, "y")
    one.channel.kill_output_consumer(other.output.id)
    one.channel.kill_listener_consumer(other.listener.id)
    await assert_ended(other, "", False)


async def test_figures_of_one_channel(client: Any) -> None:
    one, other = Consumers(client, "x"), Consumers(client, "y")
    client._channel_outputs.write("x", "another")
    channel, output, listener = one.channel, one.output, one.listener
    assert channel.get_backpressure() == 2
    assert channel.get_output_backpressure() == 2
    assert channel.get_listener_backpressure("subscribe") == 1
    assert channel.get_listener_backpressure("unsubscribe") == 0
    assert channel.get_all_listeners_backpressure() == 1
    assert channel.get_output_consumer_backpressure(output.id) == 2
    assert channel.get_output_consumer_backpressure(other.output.id) == 0
    assert channel.get_listener_consumer_backpressure(listener.id) == 1
    assert channel.get_listener_consumer_backpressure(other.listener.id) == 0

    assert channel.has_output_consumer(output.id)
    assert not channel.has_output_consumer(other.output.id)
    assert channel.has_listener_consumer("subscribe", listener.id)
    assert not channel.has_listener_consumer("unsubscribe", listener.id)
    assert channel.has_any_listener_consumer(listener.id)
    assert not channel.has_any_listener_consumer(other.listener.id)

    stats = channel.get_output_consumer_stats(output.id)
    assert stats is not None
    assert (stats.id, stats.backpressure, stats.stream, stats.timeout) == (output.id, 2, "x", 500)
    assert channel.get_output_consumer_stats(other.output.id) is None
    assert channel.get_output_consumer_stats_list() == [stats]
    stats = channel.get_listener_consumer_stats(listener.id)
    assert stats is not None
    assert (stats.stream, stats.timeout) == ("x/subscribe", None)
    assert channel.get_listener_consumer_stats(other.listener.id) is None
    assert channel.get_listener_consumer_stats_list("subscribe") == [stats]
    assert channel.get_listener_consumer_stats_list("unsubscribe") == []
    assert channel.get_all_listeners_consumer_stats_list() == [stats]


async def test_figures_of_all_channels(client: Any) -> None:
    one, other = Consumers(client, "x"), Consumers(client, "y")
    client._channel_outputs.write("y", "another")
    assert client.get_all_channels_backpressure() == 2
    assert client.get_all_channel_outputs_backpressure() == 2
    assert client.get_all_channel_listeners_backpressure() == 1
    assert client.get_channel_backpressure("x") == 1
    outputs = client.get_all_channel_outputs_consumer_stats_list()
    assert {stats.id for stats in outputs} == {one.output.id, other.output.id}
    listeners = client.get_all_channel_listeners_consumer_stats_list()
    assert {stats.id for stats in listeners} == {one.listener.id, other.listener.id}
    assert client.has_any_channel_output_consumer(other.output.id)
    assert not client.has_any_channel_output_consumer(10_000)
    assert client.has_any_channel_listener_consumer(other.listener.id)
    assert not client.has_any_channel_listener_consumer(10_000)
    assert client.get_channel_output_consumer_stats(10_000) is None
