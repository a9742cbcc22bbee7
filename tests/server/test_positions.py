"""`$positions`: sockets that ask are told how far their channels are, in order, once a second."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from recovering import (
    StoppableBroker,
    history,
    packets,
    place,
    positions,
    publish,
    publishes,
    server_with,
    subscribe,
    subscriptions,
    synced,
    token,
)
from socketcluster.server.parts import positions as clock
from socketcluster.server.parts.positions import PositionsClock
from support import Client, connected, until

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)


async def next_positions(client: Client) -> dict[str, Any]:
    """Wait for the next `$positions`; other events before it are dropped."""
    while (packet := await client.event())["event"] != "$positions":
        pass
    told: dict[str, Any] = packet["data"]
    return told


@EVERYWHERE
async def test_a_socket_that_asks_is_told_at_once_and_then_what_changed(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        first = await subscribe(client, None)
        assert packets(client) == [
            {"event": "$positions", "data": {"c/1": place(first)}},
        ]
        await subscribe(client, None, channel="c/2")
        await subscribe(client, channel="c/3")
        packets(client)
        await publish(server, "a", "b")
        await publish(server, "c", channel="c/3")
        assert await next_positions(client) == {"c/1": place(first, 2)}
        # What has not changed is not told again.
        await publish(server, "d", channel="c/2")
        told = await next_positions(client)
        assert list(told) == ["c/2"]
        assert told["c/2"]["offset"] == 1


async def test_a_socket_that_does_not_ask_is_told_nothing(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as asking, connected(server) as client:
        await subscribe(asking, None)
        await subscribe(client)
        await publish(server, "a")
        packets(asking)
        await next_positions(asking)
        await synced(client)
        assert [packet["event"] for packet in packets(client)] == ["#publish"]


async def test_at_most_one_comes_a_second(make_server: Any) -> None:
    server = await make_server(server_with())
    loop = asyncio.get_running_loop()
    async with connected(server) as client:
        await subscribe(client, None)
        packets(client)
        times = []
        for number in range(3):
            await publish(server, number)
            await publish(server, number)
            await next_positions(client)
            times.append(loop.time())
    gaps = [later - earlier for earlier, later in pairwise(times)]
    # The client may have read one late, and the next in time.
    assert sum(gaps) > 1.5 * clock.SECONDS


async def test_a_position_is_that_of_what_was_written_before(make_server: Any) -> None:
    server = await make_server(server_with(history(size=10_000)))
    going = True

    async def publish_on() -> None:
        number = 0
        while going:
            number += 1
            await publish(server, number)
            await asyncio.sleep(0.003)

    async with connected(server) as client:
        await subscribe(client, None)
        publishing = asyncio.create_task(publish_on())
        seen, last = 0, 0
        while seen < 3:
            packet = await client.event()
            if packet["event"] == "#publish":
                last = packet["data"]["offset"]
            else:
                assert packet["data"]["c/1"]["offset"] == last
                seen += 1
        going = False
        await publishing


async def test_outbound_middleware_that_waits_holds_positions_back(make_server: Any) -> None:
    server = server_with()
    allowing = asyncio.Event()

    @server.middleware("outbound")
    async def hold(stream: Any) -> None:
        async for action in stream:
            await allowing.wait()
            action.allow()

    await make_server(server)
    async with connected(server) as client:
        first = await subscribe(client, None)
        packets(client)
        await publish(server, "a")
        subscriptions(server).tell_changed()
        await asyncio.sleep(0)
        assert packets(client) == []
        allowing.set()
        await until(lambda: client.events.qsize() == 2)
        assert [packet["event"] for packet in packets(client)] == ["#publish", "$positions"]
        assert (await subscribe(client))["offset"] == place(first, 1)["offset"]


@EVERYWHERE
async def test_another_epoch_is_told_before_its_publishes(make_server: Any) -> None:
    broker = StoppableBroker()
    server = await make_server(server_with(broker_engine=broker))
    async with connected(server) as client:
        first = await subscribe(client, None)
        await publish(server, "a", "b")
        await synced(client)
        packets(client)
        broker.lose()
        await publish(server, "c")
        await until(lambda: client.events.qsize() >= 2)
        told, after = packets(client)[:2]
        assert told["event"] == "$positions"
        assert told["data"]["c/1"]["epoch"] != first["epoch"]
        assert after == {"event": "#publish", "data": {"channel": "c/1", "data": "c", "offset": 1}}
        assert told["data"]["c/1"]["offset"] == 0
        # What it was told counts, and all of the new history is from after the subscription.
        await client.call("#unsubscribe", "c/1")
        again = await subscribe(client, told["data"]["c/1"])
        assert again["recovered"] is True
        assert publishes(client) == [("c", 1)]
        # What belongs to the lost history does not.
        await client.call("#unsubscribe", "c/1")
        assert (await subscribe(client, place(first)))["recovered"] is False


async def test_a_channel_that_is_left_is_told_of_no_more(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        await subscribe(client, None)
        await subscribe(client, None, channel="c/2")
        await client.call("#unsubscribe", "c/1")
        packets(client)
        await publish(server, "a")
        await publish(server, "b", channel="c/2")
        assert list(await next_positions(client)) == ["c/2"]
        (socket,) = server.clients.values()
        await socket.kick_out("c/2")
        await synced(client)
        packets(client)
        await publish(server, "c", channel="c/2")
        subscriptions(server).tell_changed()
        await synced(client)
        assert positions(client) == []


async def test_a_later_subscription_may_ask(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        first = await subscribe(client)
        assert packets(client) == []
        await subscribe(client, None)
        assert positions(client) == [{"c/1": place(first)}]


async def test_positions_follow_a_change_of_the_user(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server, token=token("alice")) as client:
        first = await subscribe(client, None)
        await client.call("#authenticate", token("bob"))
        packets(client)
        await publish(server, "a")
        told = (await next_positions(client))["c/1"]
        assert told["since"] != first["since"]
    await publish(server, "b")
    async with connected(server, token=token("bob")) as client:
        assert (await subscribe(client, told))["recovered"] is True
        assert publishes(client) == [("b", 2)]


async def test_a_history_that_cannot_be_read_is_told_when_it_can(make_server: Any) -> None:
    broker = StoppableBroker()
    broker.away = True
    server = await make_server(server_with(broker_engine=broker))
    async with connected(server) as client:
        answer = await subscribe(client, None)
        assert answer == {"epoch": None, "offset": None, "since": None, "recovered": False}
        assert packets(client) == []
        broker.come_back()
        told = (await next_positions(client))["c/1"]
        assert told["offset"] == 0
        await publish(server, "live")
        await synced(client)
        assert [value for value, _ in publishes(client)] == ["live"]
        await client.call("#unsubscribe", "c/1")
        assert (await subscribe(client, told))["recovered"] is True


# The clock alone


class Asking:
    def __init__(self) -> None:
        self.rounds = 0
        self.told: list[str] = []

    def tell_changed(self) -> None:
        self.rounds += 1

    def tell(self, channel: str) -> None:
        self.told.append(channel)


async def test_the_clock_tells_many_in_slices_and_stops_without_any() -> None:
    asking = [Asking() for _ in range(2 * clock.TOLD_PER_TURN + 1)]
    ticking = PositionsClock()
    for each in asking:
        ticking.add("c", each)
        ticking.add("c", each)
    ticking.add("d", asking[0])
    ticking.epoch_changed("c")
    ticking.epoch_changed("d")
    ticking.epoch_changed("e")
    assert [each.told for each in asking[:2]] == [["c", "d"], ["c"]]
    await until(lambda: bool(asking[0].rounds))
    assert asking[-1].rounds == 0, "the loop turns in between"
    await until(lambda: bool(asking[-1].rounds))
    assert {each.rounds for each in asking} == {1}
    for each in asking:
        ticking.discard("c", each)
        ticking.discard("c", each)
    ticking.discard("e", asking[0])
    assert ticking._timer is not None
    ticking.discard("d", asking[0])
    assert ticking._timer is None


async def test_a_socket_that_left_during_a_round_is_not_told() -> None:
    ticking = PositionsClock()

    class Leaving(Asking):
        def tell_changed(self) -> None:
            super().tell_changed()
            ticking.discard("c", other)

    leaving, other = Leaving(), Asking()
    ticking.add("c", leaving)
    ticking.add("c", other)
    await until(lambda: bool(leaving.rounds))
    assert other.rounds == 0
    ticking.discard("c", leaving)
