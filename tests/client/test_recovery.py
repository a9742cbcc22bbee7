"""Recovery in a client: over reconnections it receives each publish of a channel once."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any

import pytest

from client.fakes import Peer, fake_server
from cut_lines import CUTS, CutLine, publish_over_cuts
from recovering import StoppableBroker, history, publish, server_with
from socketcluster import AGClientSocket, AGServer, RecoverFailEvent, testing
from socketcluster.brokers.storing import Position
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import InvalidArgumentsError
from support import Running, names, record, soon, until

AGAIN: Any = {"initial_delay": 1, "randomness": 1, "multiplier": 1}
CODECS = pytest.mark.parametrize("codec", [None, MinBinCodec()], ids=["json", "min-bin"])
FIRST = {"epoch": "e", "offset": 17, "since": "s"}


def cut(server: AGServer) -> None:
    for socket in list(server.clients.values()):
        socket.terminate()


async def take(channel: Any, into: list[Any]) -> None:
    async for data in channel:
        into.append(data)
        if data == "end":
            return


async def subscribed(client: AGClientSocket, channel: str = "c/1", **options: Any) -> Any:
    view = client.subscribe(channel, recover=True, **options)
    await until(lambda: view.state == "subscribed")
    return view


async def resubscribed(server: AGServer, client: AGClientSocket) -> None:
    """Cut the line, and wait for the next subscription."""
    again = client.listener("subscribe").create_consumer()
    cut(server)
    await soon(again.next())
    again.return_()


# Over a line that is cut


@CODECS
async def test_nothing_is_lost_or_repeated_over_tcp(
    make_server: Any, make_client: Any, running: Running, codec: Any
) -> None:
    server = await make_server(server_with(history(size=1000), codec_engine=codec))
    seed = f"tcp {codec is None}"
    received: list[Any] = []
    async with CutLine(server.source_port, random.Random(seed)) as line:
        client = make_client(line.port, codec_engine=codec, auto_reconnect_options=AGAIN)
        found = record(client)
        taking = asyncio.ensure_future(take(await subscribed(client), received))
        published = await publish_over_cuts(server, "c/1", line.cut, seed)
        await asyncio.wait_for(taking, 30)
    assert received == published
    assert line.cuts > CUTS // 2
    assert names(found).count("disconnect") == line.cuts
    assert "recoverFail" not in names(found)


async def test_nothing_is_lost_or_repeated_while_the_server_believes_the_line_is_open(
    make_server: Any, make_client: Any
) -> None:
    server = await make_server(server_with(history(size=1000)))
    received: list[Any] = []
    async with CutLine(server.source_port, random.Random("open"), half_open=True) as line:
        client = make_client(line.port, auto_reconnect_options=AGAIN)
        taking = asyncio.ensure_future(take(await subscribed(client), received))
        published = await publish_over_cuts(server, "c/1", line.cut, "open")
        await asyncio.wait_for(taking, 30)
        assert received == published
        assert server.clients_count > line.cuts > CUTS // 2  # The former ones count as connected.


@CODECS
async def test_nothing_is_lost_or_repeated_in_memory(codec: Any) -> None:
    server = server_with(history(size=1000), codec_engine=codec)
    received: list[Any] = []
    async with testing.connect(server, auto_reconnect_options=AGAIN) as client:
        found = record(client)
        taking = asyncio.ensure_future(take(await subscribed(client), received))
        seed = f"memory {codec is None}"
        published = await publish_over_cuts(server, "c/1", lambda: cut(server), seed)
        await asyncio.wait_for(taking, 30)
    await server.close()
    assert received == published
    assert names(found).count("disconnect") > CUTS // 2
    assert "recoverFail" not in names(found)


async def test_publishes_of_every_form_are_counted(make_server: Any, make_client: Any) -> None:
    """Long ones, and ones with a lone surrogate: none comes twice."""
    server = await make_server(server_with())
    client = make_client(server, auto_reconnect_options=AGAIN)
    channel = await subscribed(client)
    consumer = channel.create_consumer()
    for value in ["short", "long" * 5000, {"deep": [[["é"]]]}, None, "x\ud83d", [0.5]] * 2:
        await publish(server, value)
        expected = "x\ufffd" if value == "x\ud83d" else value
        assert (await soon(consumer.next())).value == expected
        await resubscribed(server, client)
        assert consumer.get_backpressure() == 0


async def test_a_missed_publish_comes_before_the_subscription_is_told(
    make_server: Any, make_client: Any
) -> None:
    server = await make_server(server_with())
    client = make_client(server, auto_reconnect_options={"initial_delay": 50, "randomness": 1})
    channel = await subscribed(client)
    received: list[Any] = []
    await publish(server, "a")
    consumer = channel.create_consumer()
    again = client.listener("subscribe").create_consumer()
    cut(server)
    await until(lambda: client.state == "closed")
    await publish(server, "b", "c")
    await soon(again.next())
    while consumer.get_backpressure():
        received.append((await consumer.next()).value)
    assert received in (["a", "b", "c"], ["b", "c"])  # "a" may have come before the consumer.


async def test_channels_are_recovered_under_a_prefix(make_server: Any, make_client: Any) -> None:
    server = await make_server(server_with())
    client = make_client(server, channel_prefix="c/", auto_reconnect_options=AGAIN)
    channel = await subscribed(client, "1")
    consumer = channel.create_consumer()
    await publish(server, "a")
    assert (await soon(consumer.next())).value == "a"
    cut(server)
    await publish(server, "b")
    assert (await soon(consumer.next())).value == "b"
    await resubscribed(server, client)
    assert consumer.get_backpressure() == 0
    assert (await client.history("1")).publications[-1].data == "b"


# What it sends


async def asked_of(peer: Peer) -> tuple[Any, Any]:
    """The cid and the data of the next '#subscribe'."""
    packet = await peer.call("#subscribe")
    return packet["cid"], packet["data"].get("data")


def published(offset: int | None, data: Any = None, channel: str = "c") -> dict[str, Any]:
    fields: dict[str, Any] = {"channel": channel, "data": offset if data is None else data}
    return {"event": "#publish", "data": fields if offset is None else {**fields, "offset": offset}}


class Scripted:
    """A fake server that answers each subscription with what the test gives it."""

    def __init__(self, *answers: Any) -> None:
        self.asked: list[Any] = []
        self._answers = list(answers)

    async def __call__(self, peer: Peer) -> None:
        await peer.handshake()
        cid, data = await asked_of(peer)
        self.asked.append(data)
        *before, answer, after = self._answers.pop(0)
        for packet in before:
            await peer.send(packet)
        await peer.send({"rid": cid, "data": answer})
        for packet in after:
            await peer.send(packet)
        if self._answers:
            await peer.call("next")
            await peer.ws.close(4000)


def has_subscribed(found: list[tuple[str, Any]], times: int) -> bool:
    return names(found).count("subscribe") == times


async def run_script(
    make_client: Any, *answers: Any, count: int, **options: Any
) -> tuple[list[Any], list[Any], list[tuple[str, Any]]]:
    """Return what the server was asked, what the channel received, and the events."""
    script = Scripted(*answers)
    received: list[Any] = []
    async with fake_server(script) as port:
        client = make_client(port, auto_connect=False, auto_reconnect_options=AGAIN)
        found = record(client)
        channel = client.subscribe("c", recover=True, **options)
        consumer = channel.create_consumer()
        client.connect()
        for number in range(1, len(answers) + 1):
            await until(partial(has_subscribed, found, number))
            if number < len(answers):
                client.transmit("next")
        while len(received) < count:
            received.append((await soon(consumer.next())).value)
        assert consumer.get_backpressure() == 0
    return script.asked, received, found


async def test_it_returns_what_it_was_told_and_received(make_client: Any) -> None:
    asked, received, found = await run_script(
        make_client,
        ({**FIRST, "recovered": False}, [published(18), published(20)]),
        (published(21), {**FIRST, "offset": 21, "since": "t", "recovered": True}, []),
        ({**FIRST, "offset": 21, "since": "t", "recovered": True}, []),
        count=3,
        data={"mine": 1},
    )
    assert asked == [
        {"mine": 1, "$gap": True, "$recover": None},
        {"mine": 1, "$gap": True, "$recover": {**FIRST, "offset": 20}},
        {"mine": 1, "$gap": True, "$recover": {**FIRST, "offset": 21, "since": "t"}},
    ]
    assert received == [18, 20, 21]
    events = dict(found)
    assert events["subscribe"].subscription_options == {"data": {"mine": 1}}
    assert "recoverFail" not in events


async def test_it_drops_publishes_that_it_has(make_client: Any) -> None:
    _, received, _ = await run_script(
        make_client,
        (
            {**FIRST, "recovered": False},
            [
                published(18),
                published(18),
                [published(17), published(19), published(19)],
                published(None, "plain"),
                {"event": "#publish", "data": {"channel": "c", "data": "odd", "offset": "9"}},
                {"event": "#publish", "data": {"offset": 20, "data": "early", "channel": "c"}},
                {"event": "#publish", "data": {"channel": "c", "data": "again", "offset": 20}},
                published(1, "other", "d"),
                published(21),
            ],
        ),
        count=6,
    )
    assert received == [18, 19, "plain", "odd", "early", 21]


async def test_a_new_epoch_begins_where_the_server_says(make_client: Any) -> None:
    new = {"epoch": "f", "offset": 2, "since": "n"}
    asked, received, found = await run_script(
        make_client,
        (
            {**FIRST, "recovered": False},
            [published(18), {"event": "$positions", "data": {"c": new}}, published(3)],
        ),
        ({**FIRST, "epoch": "g", "offset": 1, "recovered": False}, [published(2)]),
        count=3,
    )
    assert asked[1]["$recover"] == {**new, "offset": 3}
    assert received == [18, 3, 2]
    assert dict(found)["recoverFail"] == RecoverFailEvent("c", Position("f", 3))


async def test_positions_move_it_past_publishes_that_it_cannot_see(make_client: Any) -> None:
    odd = [
        None,
        "c",
        {"c": None},
        {"c": {**FIRST, "offset": True}},
        {"c": {"epoch": "x"}},
        {"d": FIRST},
    ]
    asked, received, _ = await run_script(
        make_client,
        (
            {**FIRST, "recovered": False},
            [
                *({"event": "$positions", "data": each} for each in odd),
                {"event": "$positions", "data": {"c": {**FIRST, "offset": 30, "since": "t"}}},
                published(31),
            ],
        ),
        ({**FIRST, "offset": 31, "recovered": True}, []),
        count=1,
    )
    assert asked[1]["$recover"] == {"epoch": "e", "offset": 31, "since": "t"}
    assert received == [31]


async def test_the_newest_publish_of_another_epoch_is_received(make_client: Any) -> None:
    """With recover="latest" it comes before the client learns of the epoch."""
    asked, received, _ = await run_script(
        make_client,
        (published(17), {**FIRST, "recovered": False}, []),
        (published(1), {"epoch": "f", "offset": 1, "since": "t", "recovered": False}, []),
        ({"epoch": "f", "offset": 1, "since": "t", "recovered": True}, []),
        count=2,
    )
    assert received == [17, 1]
    assert asked[2]["$recover"] == {"epoch": "f", "offset": 1, "since": "t"}


# What it tells


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "odd",
        {},
        {"epoch": None, "offset": None, "since": None, "recovered": False},
        {**FIRST, "recovered": False},
        {**FIRST, "recovered": 1},
    ],
)
async def test_a_failed_recovery_is_told(make_client: Any, answer: Any) -> None:
    _, _, found = await run_script(
        make_client, ({**FIRST, "recovered": False}, [published(18)]), (answer, []), count=1
    )
    told = [each for each in found if each[0] in ("subscribe", "recoverFail")]
    assert names(told) == ["subscribe", "subscribe", "recoverFail"]
    assert told[-1][1] == RecoverFailEvent("c", Position("e", 18))


async def test_a_channel_without_history_tells_after_each_reconnection(
    make_server: Any, make_client: Any
) -> None:
    server = await make_server()
    client = make_client(server, auto_reconnect_options=AGAIN)
    channel = await subscribed(client)
    fails = channel.listener("recoverFail").create_consumer()
    await resubscribed(server, client)
    assert (await soon(fails.next())).value == RecoverFailEvent("c/1", None)
    await resubscribed(server, client)
    assert (await soon(fails.next())).value == RecoverFailEvent("c/1", None)


async def test_more_than_the_limit_is_told_and_can_be_read(
    make_server: Any, make_client: Any
) -> None:
    server = await make_server(server_with(history(size=100, recover_limit=5)))
    client = make_client(server, auto_reconnect_options={"initial_delay": 50, "randomness": 1})
    channel = await subscribed(client)
    consumer = channel.create_consumer()
    await publish(server, 0)
    assert (await soon(consumer.next())).value == 0
    fails = client.listener("recoverFail").create_consumer()
    cut(server)
    await until(lambda: client.state == "closed")
    await publish(server, *range(1, 11))
    fail = (await soon(fails.next())).value
    assert consumer.get_backpressure() == 0
    page = await client.history("c/1", since=fail.since)
    assert [each.data for each in page.publications] == list(range(1, 11))
    assert page.complete
    await publish(server, 11)
    assert (await soon(consumer.next())).value == 11


async def test_a_history_that_is_lost_while_connected_is_told(
    make_server: Any, make_client: Any
) -> None:
    broker = StoppableBroker()
    server = await make_server(server_with(broker_engine=broker))
    client = make_client(server, auto_reconnect_options=AGAIN)
    channel = await subscribed(client)
    consumer = channel.create_consumer()
    gaps = client.receiver("$gap").create_consumer()
    positions = client.receiver("$positions").create_consumer()
    fails = channel.listener("recoverFail").create_consumer()
    await publish(server, "a", "b")
    before = (await client.history("c/1")).position
    broker.lose()
    assert (await soon(fails.next())).value == RecoverFailEvent("c/1", before)
    assert (await soon(gaps.next())).value["channel"] == "c/1"  # The application's own, too.
    await publish(server, "c")
    assert [(await soon(consumer.next())).value for _ in range(3)] == ["a", "b", "c"]
    told = [(await soon(positions.next())).value["c/1"] for _ in range(2)]
    assert told[-1]["epoch"] != before.epoch
    await resubscribed(server, client)
    await publish(server, "d")
    assert (await soon(consumer.next())).value == "d"
    assert (consumer.get_backpressure(), fails.get_backpressure()) == (0, 0)


# Who it is for


async def test_other_clients_read_no_offsets(make_server: Any, make_client: Any) -> None:
    server = await make_server(server_with())
    client = make_client(server)
    client.subscribe("c/2")
    settings = client._settings
    assert settings.reader is settings.wire
    client.subscribe("c/1", recover=True)
    assert settings.reader is not settings.wire
    client.disconnect()
    client.connect(hostname="127.0.0.1")
    assert settings.reader is not settings.wire
    assert client.get_channel_options("c/1") == {"wait_for_auth": False, "recover": True}


async def test_a_new_subscription_begins_anew(make_server: Any, make_client: Any) -> None:
    server = await make_server(server_with())
    client = make_client(server, auto_reconnect_options=AGAIN)
    channel = await subscribed(client)
    consumer = channel.create_consumer()
    await publish(server, "a")
    assert (await soon(consumer.next())).value == "a"
    channel.unsubscribe()
    await until(
        lambda: (
            not server.exchange.is_subscribed("c/1")
            and not any(socket.is_subscribed("c/1") for socket in server.clients.values())
        )
    )
    await publish(server, "b")
    channel.subscribe(recover=True)
    await until(lambda: channel.state == "subscribed")
    await publish(server, "c")
    assert (await soon(consumer.next())).value == "c"


async def test_recovery_can_be_turned_on_and_off(make_server: Any, make_client: Any) -> None:
    server = await make_server(server_with())
    client = make_client(server, auto_reconnect_options={"initial_delay": 50, "randomness": 1})
    channel = client.subscribe("c/1")
    await until(lambda: channel.state == "subscribed")
    consumer = channel.create_consumer()
    channel.subscribe(recover=True)  # From the next subscription on.
    found = record(client)
    await resubscribed(server, client)
    cut(server)
    await until(lambda: client.state == "closed")
    await publish(server, "a")
    assert (await soon(consumer.next())).value == "a"
    channel.subscribe()
    await until(lambda: channel.state == "subscribed")
    cut(server)
    await until(lambda: client.state == "closed")
    await publish(server, "b")
    await until(lambda: channel.state == "subscribed")
    await publish(server, "c")
    assert (await soon(consumer.next())).value == "c"
    assert "recoverFail" not in names(found)


@pytest.mark.parametrize("data", [1, "text", ["list"], True])
async def test_data_that_cannot_have_a_position_is_refused(make_client: Any, data: Any) -> None:
    client = make_client(1, auto_connect=False)
    with pytest.raises(InvalidArgumentsError, match=r"must be a dict or None.*data=\{'value': …\}"):
        client.subscribe("c", recover=True, data=data)
    assert client.subscriptions(True) == []


@pytest.mark.parametrize("name", ["$recover", "$gap"])
async def test_data_with_names_of_the_client_is_refused(make_client: Any, name: str) -> None:
    client = make_client(1, auto_connect=False)
    with pytest.raises(InvalidArgumentsError, match=r"sets \$recover and \$gap"):
        client.subscribe("c", recover=True, data={name: None})
    client.subscribe("c", data={name: None})
