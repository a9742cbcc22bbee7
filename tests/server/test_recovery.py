"""Recovery on the wire: what a client missed comes before the answer, once, and whole or not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any

import pytest
import websockets

from recovering import (
    KEY,
    NOTHING,
    StoppableBroker,
    history,
    packets,
    place,
    publish,
    publishes,
    server_with,
    subscribe,
    subscriptions,
    synced,
    token,
)
from socketcluster import AGAction, AGServer, ChannelRule, Limits, Metrics, Presence, Rate, Tracing
from socketcluster.brokers.storing import Position
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import InvalidActionError
from socketcluster.history.since import SinceSigner
from socketcluster.middleware.action import Recovering
from socketcluster.server.parts.outbound import Outbound
from socketcluster.server.parts.stored_subscriptions import Resumed, StoredSubscriptions
from socketcluster.server.parts.subscriptions import Subscriptions
from support import AnswerError, Client, connected, soon, until
from transports import dial

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)


@EVERYWHERE
async def test_a_client_receives_what_it_missed_before_the_answer(make_server: Any) -> None:
    server = await make_server(server_with())
    await publish(server, "before")
    async with connected(server) as client:
        first = await subscribe(client)
        assert first["offset"] == 1
        assert first["recovered"] is False
        await publish(server, "a", "b")
        await until(lambda: client.events.qsize() == 2)
        assert publishes(client) == [("a", 2), ("b", 3)]
    await publish(server, "c", "d")
    async with connected(server) as client:
        again = await subscribe(client, place(first, 3))
        assert publishes(client) == [("c", 4), ("d", 5)]
        assert place(again) == place(first, 5)
        assert again["recovered"] is True
        await publish(server, "e")
        await synced(client)
        assert publishes(client) == [("e", 6)]


@EVERYWHERE
async def test_nothing_is_lost_or_repeated_while_publishes_go_on(make_server: Any) -> None:
    server = await make_server(server_with(history(size=1000)))
    got: list[Any] = []
    told: dict[str, Any] | None = None
    going = True

    async def publish_on() -> None:
        number = 0
        while going:
            number += 1
            await publish(server, number)
            await asyncio.sleep(0 if number % 3 else 0.001)

    publishing = asyncio.create_task(publish_on())
    try:
        for _ in range(10):
            async with connected(server) as client:
                answer = await subscribe(client, None if told is None else place(told))
                assert told is None or answer["recovered"] is True
                await until(lambda: client.events.qsize() > 5)
                found = publishes(client)
                got += found
                told = place(answer, found[-1][1])
    finally:
        going = False
        await publishing
    offsets = [offset for _, offset in got]
    assert offsets == list(range(offsets[0], offsets[0] + len(got)))
    assert [value for value, _ in got] == offsets


@EVERYWHERE
@pytest.mark.parametrize("seed", range(3))
async def test_a_line_cut_at_any_moment_loses_and_repeats_nothing(
    make_server: Any, seed: int
) -> None:
    server = await make_server(server_with(history(size=10_000, recover_limit=10_000)))
    choose = random.Random(seed)
    got: list[tuple[Any, int]] = []
    known: dict[str, Any] | None = None
    going, number = True, 0

    def note(client: Client) -> None:
        """Do what a client with `$recover` does with what it received, in order."""
        nonlocal known
        for packet in packets(client):
            if packet["event"] == "$positions":
                known = packet["data"]["c/1"]
            elif known is not None and packet["event"] == "#publish":
                got.append((packet["data"]["data"], packet["data"]["offset"]))
                known = place(known, packet["data"]["offset"])

    async def publish_on() -> None:
        nonlocal number
        while going:
            for _ in range(choose.randrange(8)):
                number += 1
                await publish(server, number)
            await asyncio.sleep(choose.choice((0, 0, 0.001, 0.003)))

    async with connected(server) as client:
        known = place(await subscribe(client, None))
    publishing = asyncio.create_task(publish_on())
    for _ in range(25):
        client = Client(await dial(server))
        with contextlib.suppress(websockets.ConnectionClosed):
            await client.handshake()
            data = {"channel": "c/1", "data": {"$recover": known}}
            await client.send(client.packet("#subscribe", data))
            for _ in range(choose.randrange(200)):
                await asyncio.sleep(0)
        for socket in list(server.clients.values()):
            socket.terminate()
        await client.closed()
        await client.close()
        note(client)
    going = False
    await publishing
    async with connected(server) as client:
        assert (await subscribe(client, known))["recovered"] is True
        note(client)
    assert number > 0
    assert got == [(each, each) for each in range(1, number + 1)]


async def test_a_client_that_missed_nothing_has_recovered(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        first = await subscribe(client)
    async with connected(server) as client:
        assert (await subscribe(client, place(first)))["recovered"] is True
        assert publishes(client) == []


# Bad input


def wrong_places(first: dict[str, Any]) -> dict[str, Any]:
    signed = SinceSigner("other").sign(None, "c/1", Position(first["epoch"], 0))
    return {
        "null": None,
        "a text": "x",
        "a list": [1],
        "empty": {},
        "no epoch": {"offset": 1, "since": first["since"]},
        "an epoch of another type": {**place(first), "epoch": 1},
        "another epoch": {**place(first, 1), "epoch": "other"},
        "a long epoch": {**place(first, 1), "epoch": "e" * 1_000_000},
        "an offset from the future": place(first, 1000),
        "the largest offset": place(first, 2**63 - 1),
        "a larger offset": place(first, 2**63),
        "an offset below zero": place(first, -1),
        "an offset of another type": {**place(first), "offset": 1.0},
        "a truth value": {**place(first), "offset": True},
        "no since": {"epoch": first["epoch"], "offset": 1},
        "an empty since": {**place(first, 1), "since": ""},
        "a wrong since": {**place(first, 1), "since": "A" * 34},
        "a since of another key": {**place(first, 1), "since": signed},
        "a since of another type": {**place(first, 1), "since": 5},
        "a long since": {**place(first, 1), "since": "A" * 1_000_000},
        "many fields": {**place(first, 1), **{str(number): number for number in range(10)}},
        "a megabyte": {"x" * 1_000_000: 1},
        "deep": json.loads('{"epoch":' + "[" * 80 + "]" * 80 + "}"),
    }


@pytest.mark.parametrize("kind", list(wrong_places({"epoch": "e", "offset": 1, "since": ""})))
async def test_a_wrong_recover_is_answered_and_recovers_nothing(
    make_server: Any, kind: str
) -> None:
    server = await make_server(server_with(max_payload=4 * 1024 * 1024))
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, "secret", "secret")
    async with connected(server) as client:
        answer = await subscribe(client, wrong_places(first)[kind])
        assert answer["recovered"] is False
        assert answer["epoch"] == first["epoch"]
        assert answer["offset"] == 2
        assert len(answer["since"]) == 34
        assert publishes(client) == []
        await publish(server, "live")
        await synced(client)
        assert publishes(client) == [("live", 3)]
        # What it was told counts.
        await client.call("#unsubscribe", "c/1")
        await publish(server, "missed")
        again = await subscribe(client, place(answer, 3))
        assert again["recovered"] is True
        assert publishes(client) == [("missed", 4)]


async def test_a_since_of_another_channel_is_worth_nothing(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        first = await subscribe(client)
        await subscribe(client, channel="c/2")
        other = server.exchange.stored_channel("c/2")
        assert other is not None
        await publish(server, "secret", channel="c/2")
        await client.call("#unsubscribe", "c/2")
        epoch = other.position.epoch if other.position else ""
        forged = {"epoch": epoch, "offset": 0, "since": first["since"]}
        publishes(client)
        assert (await subscribe(client, forged, channel="c/2"))["recovered"] is False
        assert publishes(client) == []


async def test_nothing_from_before_the_first_subscription_is_replayed(make_server: Any) -> None:
    server = await make_server(server_with())
    await publish(server, "before", "before")
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, "missed")
    async with connected(server) as client:
        answer = await subscribe(client, place(first, 0))
        assert answer["recovered"] is True
        assert answer["since"] == first["since"]
        assert publishes(client) == [("missed", 3)]


async def test_a_rule_may_show_what_is_from_before(make_server: Any) -> None:
    server = await make_server(server_with(history(before_subscribing=True)))
    await publish(server, "a", "b")
    async with connected(server) as client:
        first = await subscribe(client)
    async with connected(server) as client:
        wanted = {"epoch": first["epoch"], "offset": 0}
        assert (await subscribe(client, wanted))["recovered"] is True
        assert publishes(client) == [("a", 1), ("b", 2)]


# Users


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        ("alice", "alice", True),
        (None, None, True),
        (None, "bob", True),
        ("alice", "bob", False),
        ("alice", None, False),
    ],
)
async def test_a_since_counts_for_its_user(
    make_server: Any, before: str | None, after: str | None, counts: bool
) -> None:
    server = await make_server(server_with())
    async with connected(server, token=before and token(before)) as client:
        first = await subscribe(client)
    await publish(server, "missed")
    async with connected(server, token=after and token(after, renewed=1)) as client:
        answer = await subscribe(client, place(first))
        assert answer["recovered"] is counts
        assert (answer["since"] == first["since"]) is counts
        assert publishes(client) == ([("missed", 1)] if counts else [])
    assert server._context.counts.recoveries == {"recovered" if counts else "refused": 1}


async def test_a_renewed_token_does_not_move_the_start(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server, token=token("alice")) as client:
        first = await subscribe(client)
        await publish(server, "a", "b")
        await client.call("#authenticate", token("alice", renewed=1))
        again = await subscribe(client)
        assert place(again) == place(first, 2)


async def test_a_socket_of_another_user_begins_anew(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server, token=token("alice")) as client:
        first = await subscribe(client)
        await publish(server, "of alice")
        await client.call("#authenticate", token("bob"))
        page = await client.call("$history", {"channel": "c/1"})
        assert page["publications"] == []
        again = await subscribe(client)
        assert again["since"] != first["since"]
    async with connected(server, token=token("bob")) as client:
        publishes(client)
        assert (await subscribe(client, place(again, 0)))["recovered"] is True
        assert publishes(client) == []


async def test_a_server_with_the_same_key_accepts_a_since(make_server: Any) -> None:
    broker, other_broker = StoppableBroker(), StoppableBroker()
    other_broker.share(broker)
    options: dict[str, Any] = {"cluster_key": "new", "cluster_previous_keys": ["old"]}
    first_server = await make_server(server_with(broker_engine=broker, cluster_key="old"))
    server = await make_server(server_with(broker_engine=other_broker, **options))
    async with connected(first_server) as client:
        first = await subscribe(client)
        await publish(first_server, "missed")
    async with connected(server) as client:
        answer = await subscribe(client, place(first))
        assert answer["recovered"] is True
        assert publishes(client) == [("missed", 1)]
        assert answer["since"] != first["since"], "it is signed with the new key"
    async with connected(first_server) as client:
        assert (await subscribe(client, place(answer)))["recovered"] is False


# Limits


async def test_more_than_the_limit_is_not_replayed(make_server: Any) -> None:
    server = await make_server(server_with(history(recover_limit=3)))
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, 1, 2, 3)
    async with connected(server) as client:
        assert (await subscribe(client, place(first)))["recovered"] is True
        assert publishes(client) == [(1, 1), (2, 2), (3, 3)]
    await publish(server, 4)
    async with connected(server) as client:
        answer = await subscribe(client, place(first))
        assert answer["recovered"] is False
        assert answer["since"] == first["since"]
        assert publishes(client) == []
        # It can read in pieces what is too much at once.
        page = await client.call("$history", {"channel": "c/1", "since": place(first)})
        assert [each["data"] for each in page["publications"]] == [1, 2, 3, 4]
    assert server._context.counts.recoveries == {"recovered": 1, "incomplete": 1}


async def test_what_is_no_longer_kept_is_told(make_server: Any) -> None:
    server = await make_server(server_with(history(size=2)))
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, 1, 2, 3)
    async with connected(server) as client:
        assert (await subscribe(client, place(first)))["recovered"] is False
        assert publishes(client) == []
        assert (await subscribe(client, place(first, 1)))["recovered"] is False, "it has it already"
    async with connected(server) as client:
        assert (await subscribe(client, place(first, 1)))["recovered"] is True
        assert publishes(client) == [(2, 2), (3, 3)]


async def test_a_replay_takes_half_of_the_buffer_at_most(make_server: Any) -> None:
    server = await make_server(server_with(max_outbound_buffer=100_000))
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, "x" * 20_000, "x" * 20_000)
    async with connected(server) as client:
        assert (await subscribe(client, place(first)))["recovered"] is True
        assert len(publishes(client)) == 2
    await publish(server, "x" * 20_000)
    async with connected(server) as client:
        assert (await subscribe(client, place(first)))["recovered"] is False
        assert publishes(client) == []


@pytest.mark.parametrize("recover", [True, "latest"])
async def test_many_replays_do_not_overflow_a_client_that_reads_slowly(
    make_server: Any, recover: Any
) -> None:
    rule = history(recover=recover)
    server = await make_server(server_with(rule, max_outbound_buffer=1_000_000))
    names = [f"c/{number}" for number in range(60)]
    async with connected(server) as client:
        told = {name: await subscribe(client, channel=name) for name in names}
    for name in names:
        await publish(server, "x" * 400_000, channel=name)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        client.ws.transport.pause_reading()
        calls = []
        for name in names:
            data = {"$recover": place(told[name])}
            calls.append(client.packet("#subscribe", {"channel": name, "data": data}))
        answers = [client.answer(packet) for packet in calls]
        await client.send(calls)
        await until(lambda: len(socket.subscriptions()) >= 2)
        for _ in range(50):
            await asyncio.sleep(0)
        client.ws.transport.resume_reading()
        for answer in answers:
            assert (await soon(answer))["recovered"] is True
        assert len(publishes(client)) == len(names)
        assert list(server.clients.values()) == [socket]


# Newest only, and without recovery


async def test_the_newest_publish_comes_with_each_subscription(make_server: Any) -> None:
    server = await make_server(server_with(history(size=1, recover="latest")))
    async with connected(server) as client:
        assert (await subscribe(client))["offset"] == 0
        assert publishes(client) == []
    await publish(server, "old", "new")
    async with connected(server) as client:
        answer = await subscribe(client)
        assert publishes(client) == [("new", 2)]
        assert answer["recovered"] is False
        await publish(server, "newer")
        await synced(client)
        assert publishes(client) == [("newer", 3)]
        await subscribe(client)
        assert publishes(client) == [], "it has it already"
    async with connected(server) as client:
        answer = await subscribe(client, place(answer, 3))
        assert publishes(client) == []
        assert answer["recovered"] is True


async def test_a_rule_may_keep_and_not_recover(make_server: Any) -> None:
    server = await make_server(server_with(history(recover=False)))
    async with connected(server) as client:
        first = await subscribe(client)
        await client.call("#unsubscribe", "c/1")
        await publish(server, "a")
        assert (await subscribe(client, place(first)))["recovered"] is False
        assert publishes(client) == []


# Middleware


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [(0, ["a", "b", "c"]), (2, ["c"]), (None, []), ("earlier", []), ("elsewhere", [])],
)
async def test_middleware_sees_and_narrows_a_recovery(
    make_server: Any, narrowed: Any, expected: list[str]
) -> None:
    server = server_with()
    seen: list[Any] = []
    tried: list[str] = []

    @server.middleware("inbound")
    async def narrow(stream: Any) -> None:
        async for action in stream:
            if action.type == action.SUBSCRIBE:
                seen.append((action.recover, action.data))
            if action.type == action.SUBSCRIBE and action.recover is not None:
                position = action.recover
                if narrowed is None:
                    action.recover = None
                elif narrowed == 2:
                    action.recover = position._replace(offset=2)
                elif narrowed:
                    wrong = {"offset": -1} if narrowed == "earlier" else {"epoch": "x"}
                    try:
                        action.recover = position._replace(**wrong)
                    except Exception as error:
                        tried.append(type(error).__name__)
                        action.recover = None
            action.allow()

    await make_server(server)
    async with connected(server) as client:
        first = await subscribe(client, None)
    await publish(server, "a", "b", "c")
    async with connected(server) as client:
        answer = await subscribe(client, place(first), more=1)
        assert [value for value, _ in publishes(client)] == expected
        assert answer["recovered"] is bool(expected)
    position = Position(first["epoch"], 0)
    assert seen == [(None, {"$recover": None}), (position, {"$recover": place(first), "more": 1})]
    assert tried == (["InvalidActionError"] if isinstance(narrowed, str) else [])


@pytest.mark.parametrize(("narrowed", "expected"), [(None, []), (2, ["c"])])
async def test_a_narrowed_recovery_cannot_be_read_back(
    make_server: Any, narrowed: int | None, expected: list[str]
) -> None:
    server = server_with()
    narrows = True

    @server.middleware("inbound")
    async def narrow(stream: Any) -> None:
        async for action in stream:
            if action.type == action.SUBSCRIBE and (position := action.recover) and narrows:
                action.recover = narrowed and position._replace(offset=narrowed)
            action.allow()

    await make_server(server)
    async with connected(server, token=token("alice")) as client:
        first = await subscribe(client, None)
    await publish(server, "a", "b", "c")
    async with connected(server, token=token("alice")) as client:
        answer = await subscribe(client, place(first))
        for reverse in (False, True):
            page = await client.call("$history", {"channel": "c/1", "reverse": reverse})
            assert [each["data"] for each in page["publications"]] == expected
        # What it was told since then gives no more.
        narrows = False
        await client.call("#unsubscribe", "c/1")
        packets(client)
        await subscribe(client, place(answer, 0))
        assert [value for value, _ in publishes(client)] == expected


async def test_middleware_refuses_a_recovery(make_server: Any) -> None:
    server = server_with()
    refuses = False

    @server.middleware("inbound")
    async def decide(stream: Any) -> None:
        async for action in stream:
            if refuses:
                action.block("no")
            else:
                action.allow()

    await make_server(server)
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, "secret")
    refuses = True
    async with connected(server) as client:
        with pytest.raises(AnswerError, match="no"):
            await subscribe(client, place(first))
        assert client.events.empty()
    assert server.exchange.stored_channel("c/1") is None


async def test_a_channel_handler_decides_on_a_recovery(make_server: Any) -> None:
    server = server_with()

    @server.channel("c/{name}")
    class Decided:
        def subscribe(self, name: str, data: Any) -> bool:
            return data is None or "refuse" not in data

    await make_server(server)
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, "missed")
    async with connected(server) as client:
        with pytest.raises(AnswerError, match="not allowed"):
            await subscribe(client, place(first), refuse=1)
        assert client.events.empty()
        await subscribe(client, place(first))
        assert publishes(client) == [("missed", 1)]


async def test_middleware_that_decides_again_does_not_see_the_recovery(make_server: Any) -> None:
    server = server_with()
    seen: list[Any] = []

    @server.middleware("inbound")
    async def note(stream: Any) -> None:
        async for action in stream:
            if action.type == action.SUBSCRIBE and action.again:
                seen.append((action.recover, action.data))
            action.allow()

    await make_server(server)
    async with connected(server, token=token("alice")) as client:
        first = await subscribe(client, None, more=1)
        await client.call("#unsubscribe", "c/1")
        await subscribe(client, place(first), more=1)
        await client.send({"event": "#removeAuthToken"})
        await synced(client)
        await until(lambda: bool(seen))
        assert seen == [(None, {"more": 1})]


async def test_a_loss_of_identity_before_the_page_is_read_recovers_nothing(
    make_server: Any,
) -> None:
    broker = StoppableBroker()
    server = await make_server(server_with(broker_engine=broker))
    async with connected(server, token=token("alice")) as client:
        first = await subscribe(client)
    await publish(server, "secret")
    async with connected(server, token=token("alice")) as client:
        broker.gate.clear()
        calls = asyncio.create_task(subscribe(client, place(first)))
        await until(lambda: bool(broker.reads) and not broker.gate.is_set() and _pending(server))
        await next(iter(server.clients.values())).deauthenticate()
        broker.gate.set()
        answer = await calls
        assert answer["recovered"] is False
        assert answer["since"] != first["since"]
        assert publishes(client) == []


def _pending(server: AGServer) -> bool:
    (socket,) = server.clients.values()
    return socket.subscribed.channels == {"c/1": "pending"}


# Leaving meanwhile


async def recovering(server: AGServer, broker: StoppableBroker, client: Client) -> Any:
    """Begin a recovery whose page is not read yet; return the call."""
    broker.gate.clear()
    before = broker.reads
    packet = client.packet(
        "#subscribe", {"channel": "c/1", "data": {"$recover": {"epoch": "e", "offset": 1}}}
    )
    answer = client.answer(packet)
    await client.send(packet)
    await until(lambda: broker.reads > before)
    return answer


async def test_a_socket_that_is_kicked_out_meanwhile_receives_nothing(make_server: Any) -> None:
    broker = StoppableBroker()
    server = await make_server(server_with(broker_engine=broker))
    async with connected(server) as client:
        answer = await recovering(server, broker, client)
        (socket,) = server.clients.values()
        await socket.kick_out("c/1", "out")
        broker.gate.set()
        with pytest.raises(AnswerError, match="given up"):
            await soon(answer)
        await publish(server, "later")
        await synced(client)
        assert publishes(client) == []
        assert subscriptions(server).channels == {}
        assert subscriptions(server).starts == {}
        await until(lambda: server.exchange.channels_count == 0)
        # It may come again.
        await subscribe(client)
        await publish(server, "live")
        await synced(client)
        assert [value for value, _ in publishes(client)] == ["live"]


async def test_a_socket_that_leaves_meanwhile_leaves_nothing(make_server: Any) -> None:
    broker = StoppableBroker()
    server = await make_server(server_with(broker_engine=broker))
    async with connected(server) as client:
        await recovering(server, broker, client)
        client.ws.transport.abort()
        await until(lambda: not server.clients)
    broker.gate.set()
    await until(lambda: server.exchange.channels_count == 0)


async def test_an_unsubscription_waits_for_the_subscription(make_server: Any) -> None:
    broker = StoppableBroker()
    server = await make_server(server_with(broker_engine=broker))
    async with connected(server) as client:
        answer = await recovering(server, broker, client)
        leaving = asyncio.create_task(client.call("#unsubscribe", "c/1"))
        broker.gate.set()
        await soon(answer)
        await leaving
        await publish(server, "later")
        await synced(client)
        assert publishes(client) == []
    await until(lambda: server.exchange.channels_count == 0)


# Subscribing again


async def test_subscribing_again_repeats_nothing(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        first = await subscribe(client)
        await publish(server, "a", "b")
        again = await subscribe(client, place(first))
        assert publishes(client) == [("a", 1), ("b", 2)]
        assert place(again) == place(first, 2)
        assert again["recovered"] is False
        await publish(server, "c")
        await synced(client)
        assert publishes(client) == [("c", 3)]
        (socket,) = server.clients.values()
        assert socket.subscriptions() == ["c/1"]


async def test_the_limit_of_channels_counts_recoveries(make_server: Any) -> None:
    server = await make_server(server_with(socket_channel_limit=1))
    async with connected(server) as client:
        await subscribe(client, None)
        with pytest.raises(AnswerError, match="channel subscription limit of 1"):
            await subscribe(client, None, channel="c/2")
        await subscribe(client, None)


# Other ways to write


async def test_a_batch_has_the_replay_before_the_answer(make_server: Any) -> None:
    server = await make_server(server_with(batch_interval=20))
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, "a", "b")
    async with connected(server) as client:
        (socket,) = server.clients.values()
        socket.start_batching()
        client.messages.clear()
        answer = await subscribe(client, place(first))
        assert answer["recovered"] is True
        assert publishes(client) == [("a", 1), ("b", 2)]
        batch = json.loads(client.messages[0])
        assert [packet.get("event", "answer") for packet in batch] == [
            "#publish", "#publish", "$positions", "answer",
        ]  # fmt: skip
        await publish(server, "c")
        await until(lambda: client.events.qsize() == 1)
        assert publishes(client) == [("c", 3)]


@pytest.mark.parametrize("how", ["as it was", "replaced", "changed in place"])
async def test_outbound_middleware_decides_on_replays(make_server: Any, how: str) -> None:
    server = server_with()

    @server.middleware("outbound")
    async def decide(stream: Any) -> None:
        async for action in stream:
            if action.data == {"n": 2}:
                action.block("not this one")
            elif how == "as it was":
                action.allow()
            elif how == "replaced":
                action.allow({"n": action.data["n"] * 10})
            else:
                action.data["n"] *= 10
                action.allow()

    await make_server(server)
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, {"n": 1}, {"n": 2}, {"n": 3})
    factor = 1 if how == "as it was" else 10
    async with connected(server) as client:
        answer = await subscribe(client, place(first))
        assert answer["recovered"] is True
        assert publishes(client) == [({"n": factor}, 1), ({"n": 3 * factor}, 3)]
        await publish(server, {"n": 4})
        await synced(client)
        assert publishes(client) == [({"n": 4 * factor}, 4)]


async def test_the_min_bin_codec_recovers(make_server: Any) -> None:
    server = server_with()
    server.set_codec_engine(MinBinCodec())
    await make_server(server)
    wire = server.wire

    async with connected(server, handshake=False) as client:

        async def call(event: str, data: Any, cid: int) -> Any:
            await client.ws.send(wire.encode({"event": event, "data": data, "cid": cid}))

        await call("#handshake", {"authToken": None}, 1)
        await call("#subscribe", {"channel": "c/1"}, 2)
        await until(lambda: len(client.messages) == 2)
        first = wire.codec.decode(client.messages[1])["data"]
        await call("#unsubscribe", "c/1", 3)
        await until(lambda: len(client.messages) == 3)
        await publish(server, {"n": b"\x00\xff"})
        data = {"$recover": place(first)}
        await call("#subscribe", {"channel": "c/1", "data": data}, 4)
        await until(lambda: len(client.messages) == 6)
        replayed, told, answer = (wire.codec.decode(message) for message in client.messages[3:])
        assert replayed["event"] == "#publish"
        assert replayed["data"] == {"channel": "c/1", "data": {"n": b"\x00\xff"}, "offset": 1}
        assert told == {"event": "$positions", "data": {"c/1": place(answer["data"])}}
        assert answer["data"]["recovered"] is True
        await call("$history", {"channel": "c/1"}, 5)
        await until(lambda: len(client.messages) == 7)
        page = wire.codec.decode(client.messages[6])["data"]
        assert page["publications"] == [{"data": {"n": b"\x00\xff"}, "offset": 1}]


async def test_droppable_publishes_recover(make_server: Any) -> None:
    server = await make_server(server_with(droppable_channels=lambda channel: True))
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, "a", "b")
    async with connected(server) as client:
        assert (await subscribe(client, place(first)))["recovered"] is True
        assert publishes(client) == [("a", 1), ("b", 2)]


# Channels without history


@pytest.mark.parametrize("rules", [(), (ChannelRule("c/*", history=history()),)])
async def test_without_history_every_byte_is_as_before(make_server: Any, rules: Any) -> None:
    server = AGServer(auth_key=KEY, channels=rules)

    @server.procedure("$mine")
    def mine() -> str:
        return "of the application"

    if not rules:

        @server.procedure("$history")
        def application_history(data: Any) -> Any:
            return [data]

    await make_server(server)
    async with connected(server) as client:
        client.messages.clear()
        data = {"channel": "plain", "data": {"$recover": None}}
        await client.send({"event": "#subscribe", "cid": 7, "data": data})
        await server.exchange.invoke_publish("plain", [1])
        publication = {"channel": "plain", "data": 2, "id": "x"}
        await client.send({"event": "#publish", "cid": 8, "data": publication})
        await client.send({"event": "$mine", "cid": 9})
        if not rules:
            await client.send({"event": "$history", "cid": 10, "data": "x"})
        await client.send({"event": "#unsubscribe", "cid": 11, "data": "plain"})
        await until(lambda: '{"rid":11}' in client.messages)
        assert [message for message in client.messages if "[1]" not in str(message)] == [
            '{"rid":7}',
            '{"event":"#publish","data":{"channel":"plain","data":2}}',
            '{"rid":8}',
            '{"rid":9,"data":"of the application"}',
            *([] if rules else ['{"rid":10,"data":["x"]}']),
            '{"rid":11}',
        ]


async def test_a_frame_of_a_stored_publish_has_its_offset(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        await subscribe(client)
        client.messages.clear()
        await publish(server, [1])
        await until(lambda: bool(client.messages))
        assert client.messages == [
            '{"event":"#publish","data":{"channel":"c/1","data":[1],"offset":1}}'
        ]


# Publishes with an id


@pytest.mark.parametrize("codec", ["json", "min-bin"])
async def test_a_publish_with_an_id_is_stored_once(make_server: Any, codec: str) -> None:
    server = server_with()
    if codec == "min-bin":
        server.set_codec_engine(MinBinCodec())
    await make_server(server)
    wire = server.wire
    async with connected(server, handshake=False) as client:
        await client.ws.send(wire.encode({"event": "#handshake", "cid": 1, "data": {}}))
        for cid, id in enumerate(["x", "x", "é" * 64, None, "x"], 2):
            data = {"channel": "c/1", "data": cid, "id": id}
            await client.ws.send(wire.encode({"event": "#publish", "cid": cid, "data": data}))
        await until(lambda: len(client.messages) == 6)
        answers = [wire.codec.decode(message) for message in client.messages]
        assert [answer.get("error") for answer in answers] == [None] * 6
    page = await server.exchange.history("c/1")
    assert [each.data for each in page.publications] == [2, 4, 5]


@pytest.mark.parametrize("id", ["", "x" * 65, 5, {}, [], True, "x" * 1_000_000])
async def test_a_wrong_id_is_refused(make_server: Any, id: Any) -> None:
    server = await make_server(server_with(max_payload=4 * 1024 * 1024))
    async with connected(server) as client:
        with pytest.raises(AnswerError, match="1 to 64 characters"):
            await client.call("#publish", {"channel": "c/1", "data": 1, "id": id})
    assert (await server.exchange.history("c/1")).publications == []


@pytest.mark.parametrize("with_middleware", [False, True])
async def test_a_publish_with_an_id_takes_the_ordinary_way(
    make_server: Any, with_middleware: bool
) -> None:
    server = server_with()
    if with_middleware:

        @server.middleware("inbound")
        async def change(stream: Any) -> None:
            async for action in stream:
                if action.type == action.PUBLISH_IN:
                    action.allow(action.data + 1)
                else:
                    action.allow()

    @server.channel("c/{name}")
    class Decided:
        def publish(self, data: int) -> int:
            return data * 10

    await make_server(server)
    async with connected(server) as client:
        await client.call("#publish", {"channel": "c/1", "data": 1, "id": "x"})
    page = await server.exchange.history("c/1")
    assert [each.data for each in page.publications] == [20 if with_middleware else 10]


# The positions of a session


class Session:
    """Knows where a former socket was, once it is ready."""

    def __init__(self, found: Resumed | None) -> None:
        self.found = found
        self.ready = asyncio.Event()

    def waiting(self) -> Any:
        return None if self.ready.is_set() else self.ready.wait()

    def take(self, channel: str) -> Resumed | None:
        found, self.found = self.found, None
        return found


@pytest.mark.parametrize("asks", [False, True])
async def test_a_subscription_waits_for_its_session(make_server: Any, asks: bool) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        await subscribe(client)
        start = subscriptions(server).starts["c/1"]
        await publish(server, "seen", "missed")
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "c/2"})
        session = Session(Resumed(Position(start.position.epoch, 1), start))
        subscriptions(server).session = session
        subscribing = asyncio.create_task(subscribe(client, None if asks else NOTHING))
        calling = asyncio.create_task(client.call("#subscribe", {"channel": "plain"}))
        await asyncio.sleep(0.05)
        assert not subscribing.done()
        assert not calling.done(), "later messages keep their order"
        session.ready.set()
        answer = await subscribing
        await calling
        assert answer["recovered"] is True
        assert answer["since"] == start.since
        assert publishes(client) == [("missed", 2)]


async def test_what_the_client_says_counts_before_its_session(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        first = await subscribe(client)
        start = subscriptions(server).starts["c/1"]
        await publish(server, "a", "b", "c")
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "c/2"})
        session = Session(Resumed(start.position, start))
        session.ready.set()
        subscriptions(server).session = session
        await subscribe(client, place(first, 2))
        assert publishes(client) == [("c", 3)]
        assert session.found is None


async def test_a_client_that_leaves_its_waiting_session_leaves_nothing(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        await subscribe(client, channel="c/2")
        session = Session(None)
        subscriptions(server).session = session
        packet = client.packet("#subscribe", {"channel": "c/1"})
        await client.send(packet)
    await until(lambda: not server.clients)
    session.ready.set()
    await until(lambda: server.exchange.channels_count == 0)


# Beside other options


class Reversing:
    """A codec of an application: JSON, backwards."""

    def encode(self, obj: Any) -> str:
        return json.dumps(obj)[::-1]

    def decode(self, message: str | bytes) -> Any:
        return json.loads(message[::-1])


async def test_a_codec_of_the_application_recovers(make_server: Any) -> None:
    server = server_with()
    server.set_codec_engine(Reversing())
    await make_server(server)
    async with connected(server, handshake=False) as client:

        async def call(event: str, data: Any, cid: int) -> list[Any]:
            client.messages.clear()
            packet = {"event": event, "data": data, "cid": cid}
            await client.ws.send(server.codec.encode(packet))
            await until(lambda: any(f'"rid": {cid}' in str(m)[::-1] for m in client.messages))
            return [server.codec.decode(message) for message in client.messages]

        await call("#handshake", {"authToken": None}, 1)
        (first,) = await call("#subscribe", {"channel": "c/1"}, 2)
        await call("#unsubscribe", "c/1", 3)
        await call("#publish", {"channel": "c/1", "data": {"n": 1}, "id": "x"}, 4)
        await call("#publish", {"channel": "c/1", "data": {"n": 1}, "id": "x"}, 5)
        data = {"channel": "c/1", "data": {"$recover": place(first["data"])}}
        replayed, _, answer = await call("#subscribe", data, 6)
        assert replayed["data"] == {"channel": "c/1", "data": {"n": 1}, "offset": 1}
        assert answer["data"]["recovered"] is True
        (page,) = await call("$history", {"channel": "c/1"}, 7)
        assert page["data"]["publications"] == [{"data": {"n": 1}, "offset": 1}]


@pytest.mark.parametrize(
    "options",
    [
        {"limits": Limits(subscribe=Rate(100), invoke=Rate(100), publish=Rate(100))},
        {"tracing": Tracing()},
        {"metrics": Metrics(token=None)},
        {"channels_default": "refuse"},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_recovery_beside_other_options(make_server: Any, options: dict[str, Any]) -> None:
    server = await make_server(server_with(**options))
    async with connected(server) as client:
        first = await subscribe(client)
        await client.call("#unsubscribe", "c/1")
        await client.call("#publish", {"channel": "c/1", "data": 1, "id": "x"})
        await client.call("#publish", {"channel": "c/1", "data": 1, "id": "x"})
        assert (await subscribe(client, place(first)))["recovered"] is True
        assert publishes(client) == [(1, 1)]
        page = await client.call("$history", {"channel": "c/1"})
        assert [each["data"] for each in page["publications"]] == [1]
        if "channels_default" in options:
            with pytest.raises(AnswerError, match="cannot subscribe"):
                await subscribe(client, place(first), channel="d/1")


async def test_a_start_is_kept_for_channels_with_history_only(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "plain", "data": {"$recover": None}})
        (socket,) = server.clients.values()
        assert type(socket.subscribed) is Subscriptions, "it has no more than before"
        await subscribe(client)
        await client.call("#subscribe", {"channel": "plain/2"})
        assert list(subscriptions(server).starts) == ["c/1"]
        assert sorted(socket.subscriptions()) == ["c/1", "plain", "plain/2"]
        await client.call("#unsubscribe", "plain")
        await client.call("#unsubscribe", "c/1")
        assert subscriptions(server).starts == {}
        assert socket.subscriptions() == ["plain/2"]


async def test_a_subscription_without_a_number_is_an_event_as_before(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        await client.transmit("#subscribe", {"channel": "c/1", "data": {"$recover": None}})
        await synced(client)
        (socket,) = server.clients.values()
        assert socket.subscriptions() == []


async def test_a_channel_whose_name_is_none_is_refused(make_server: Any) -> None:
    server = await make_server(server_with(max_channel_name_length=10))
    async with connected(server) as client:
        for channel in ("c/" + "x" * 10, "", 5, None):
            with pytest.raises(AnswerError, match="channel name"):
                await client.call("#subscribe", {"channel": channel, "data": {"$recover": None}})


def test_a_recovery_is_narrowed_before_the_decision() -> None:
    recovering = Recovering(Position("e", 5))
    action = AGAction(AGAction.SUBSCRIBE, _recovering=recovering)
    action.recover = Position("e", 7)
    action.recover = Position("e", 7)
    for wrong in (Position("e", 6), Position("f", 9)):
        with pytest.raises(InvalidActionError, match="can only be narrowed"):
            action.recover = wrong
    assert action.recover == recovering.position == Position("e", 7)
    action.allow()
    with pytest.raises(InvalidActionError, match="already been allowed"):
        action.recover = None
    assert recovering.position == Position("e", 7)


def test_an_action_that_recovers_nothing_stays_so() -> None:
    action = AGAction(AGAction.INVOKE)
    action.recover = None
    with pytest.raises(InvalidActionError, match="can only be narrowed"):
        action.recover = Position("e", 7)
    assert action.recover is None


async def publish_with_id(client: Client, data: Any, id: str) -> None:
    await client.call("#publish", {"channel": "c/1", "data": data, "id": id})


async def test_an_id_of_another_sender_suppresses_nothing(make_server: Any) -> None:
    server = await make_server(server_with())
    async with (
        connected(server, token=token("alice")) as alice,
        connected(server, token=token("mallory")) as mallory,
        connected(server) as stranger,
    ):
        for client in (mallory, stranger):
            await publish_with_id(client, "taken", "7")
            await publish_with_id(client, "taken", "order")
        await publish_with_id(alice, "from alice", "7")
        await server.exchange.invoke_publish("c/1", "from the server", id="order")
    # The user repeats it with another connection.
    async with connected(server, token=token("alice")) as alice:
        await publish_with_id(alice, "again", "7")
    page = await server.exchange.history("c/1")
    assert [each.data for each in page.publications] == [
        *["taken"] * 4,
        "from alice",
        "from the server",
    ]


# Beside presence


async def test_a_channel_with_history_has_members(make_server: Any) -> None:
    rule = ChannelRule("c/*", history=history(), presence=Presence())
    server = await make_server(server_with(channels=[rule]))
    async with connected(server, token=token("alice")) as client:
        first = await subscribe(client)
        assert (await server.exchange.occupancy("c/1")).sockets == 1
        await client.call("#unsubscribe", "c/1")
        await publish(server, "missed")
        await subscribe(client, place(first))
        assert publishes(client) == [("missed", 1)]
        assert (await server.exchange.occupancy("c/1")).sockets == 1
        (socket,) = server.clients.values()
        await socket.kick_out("c/1")
        assert (await server.exchange.occupancy("c/1")).sockets == 0


async def test_a_channel_that_shows_members_has_no_history(make_server: Any) -> None:
    rules = [ChannelRule("**", history=history()), ChannelRule("c/*", presence=Presence())]
    server = server_with(channels=rules)
    seen: list[Any] = []

    @server.middleware("inbound")
    async def note(stream: Any) -> None:
        async for action in stream:
            if action.type == action.SUBSCRIBE:
                seen.append((action.channel, action.presence, action.recover))
            action.allow()

    await make_server(server)
    async with connected(server) as client:
        client.messages.clear()
        data = {"channel": "$presence/c/1", "data": {"$recover": None}}
        await client.send({"event": "#subscribe", "cid": 7, "data": data})
        await until(lambda: '{"rid":7}' in client.messages)
        assert seen == [("c/1", True, None)]
        with pytest.raises(AnswerError, match="keeps no history"):
            await client.call("$history", {"channel": "$presence/c/1"})


async def test_a_socket_that_is_lost_by_its_replay_leaves_nothing(
    make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = ChannelRule("c/*", history=history(), presence=Presence())
    server = await make_server(server_with(channels=[rule]))
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, "missed")

    def publish_too_much(outbound: Outbound, run: Any, at_end_of_turn: bool) -> None:
        outbound.overflow()

    monkeypatch.setattr(Outbound, "publish", publish_too_much)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        data = {"channel": "c/1", "data": {"$recover": place(first)}}
        await client.send({"event": "#subscribe", "cid": 2, "data": data})
        await until(lambda: not server.clients)
        await until(lambda: server.exchange.channels_count == 0)
    subscribed = socket.subscribed
    assert isinstance(subscribed, StoredSubscriptions)
    assert (subscribed.channels, subscribed.starts) == ({}, {})
    assert subscribed.shared.clock.count == 0
    assert (await server.exchange.occupancy("c/1")).sockets == 0
