"""Channels of a client: requested, subscribed, lost, and subscribed again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client.fakes import Peer, fake_server
from client.parts import calls_of
from socketcluster import AGAction, AGServer, ReconnectOptionsDict, testing
from socketcluster.errors import InvalidArgumentsError, SocketClusterError
from support import Running, names, record, soon, until

AGAIN: ReconnectOptionsDict = {"initial_delay": 1, "randomness": 1, "multiplier": 1}


def refuse(server: AGServer, channel: str, error: Exception) -> list[Any]:
    """Block a channel; return a list of each attempt's channel and data."""
    asked: list[Any] = []

    async def middleware(stream: Any) -> None:
        async for action in stream:
            if action.type == AGAction.SUBSCRIBE:
                asked.append((action.channel, action.data))
                if action.channel == channel:
                    action.block(error)
                    continue
            action.allow()

    server.set_middleware(server.MIDDLEWARE_INBOUND, middleware)
    return asked


async def test_events_and_states(make_server: Any, make_client: Any) -> None:
    client = make_client(await make_server(), auto_connect=False)
    found = record(client)
    channel = client.subscribe("c", data={"x": 1}, priority=5)
    assert (channel.state, client.get_channel_state("c")) == ("pending", "pending")
    assert (client.subscriptions(), client.subscriptions(True)) == ([], ["c"])
    assert (client.is_subscribed("c"), client.is_subscribed("c", True)) == (False, True)
    assert client.get_channel_options("c") == {
        "wait_for_auth": False,
        "priority": 5,
        "data": {"x": 1},
    }
    own = [channel.listener(n).create_consumer() for n in ("subscribe", "subscribeStateChange")]
    client.connect()
    await until(lambda: channel.state == "subscribed")
    assert client.subscriptions() == ["c"]
    assert client.is_subscribed("c")
    assert names(found) == [
        "connecting",
        "subscribeRequest",
        "connect",
        "subscribeStateChange",
        "subscribe",
    ]
    sent = {"data": {"x": 1}}
    assert (found[1][1].channel, found[1][1].subscription_options) == ("c", sent)
    change, event = found[3][1], found[4][1]
    assert (change.channel, change.subscription_options) == ("c", sent)
    assert (change.old_channel_state, change.new_channel_state) == ("pending", "subscribed")
    assert (event.channel, event.subscription_options) == ("c", sent)
    assert [(await consumer.next()).value for consumer in own] == [event, change]

    del found[:]
    channel.unsubscribe()
    assert (channel.state, client.subscriptions(True)) == ("unsubscribed", [])
    assert names(found) == ["subscribeStateChange", "unsubscribe"]
    assert (found[0][1].old_channel_state, found[0][1].new_channel_state) == (
        "subscribed",
        "unsubscribed",
    )
    assert found[1][1].channel == "c"
    assert client.get_channel_options("c") == {}
    client.unsubscribe("c")
    assert len(found) == 2


async def test_priority_then_order(make_client: Any) -> None:
    asked: list[str] = []
    done = asyncio.Event()

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        while len(asked) < 6:
            packet = await peer.call("#subscribe")
            asked.append(packet["data"]["channel"])
        done.set()

    async with fake_server(handle) as port:
        client = make_client(port)
        for name, priority in (("a", None), ("b", 1), ("c", -1), ("d", 9), ("e", 1), ("f", 0)):
            client.subscribe(name, priority=priority)
        await soon(done.wait())
    assert asked == ["d", "b", "e", "a", "f", "c"]


async def test_a_consumer_made_before_the_answer_misses_nothing(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        packet = await peer.call("#subscribe")
        await peer.send(
            [
                {"event": "#publish", "data": {"channel": "c", "data": 0}},
                {"rid": packet["cid"]},
                {"event": "#publish", "data": {"channel": "c", "data": 1}},
                {"event": "#publish", "data": {"channel": "c"}},
                {"event": "#publish", "data": {"channel": "other", "data": 3}},
            ]
        )

    async with fake_server(handle) as port:
        consumer = make_client(port).subscribe("c").create_consumer()
        assert [(await consumer.next(4000)).value for _ in range(3)] == [0, 1, None]
        assert consumer.get_backpressure() == 0


@pytest.mark.parametrize(
    "given",
    [{"channel": 5}, {"priority": "x"}, {"priority": True}, {"data": object()}],
    ids=lambda given: next(iter(given)),
)
async def test_wrong_arguments(make_client: Any, given: dict[str, Any]) -> None:
    client = make_client(1, auto_connect=False)
    with pytest.raises(InvalidArgumentsError):
        client.subscribe(**{"channel": "c", **given})
    assert client.subscriptions(True) == []


async def test_a_refused_subscription_is_reported_and_forgotten(
    make_server: Any, make_client: Any
) -> None:
    server = await make_server()
    asked = refuse(server, "c", ValueError("Not you"))
    client = make_client(server)
    channel = client.subscribe("c", data=5)
    event = await channel.listener("subscribeFail").once(4000)
    assert (event.channel, event.error.name, str(event.error)) == ("c", "ValueError", "Not you")
    assert event.subscription_options == {"data": 5}
    assert client.subscriptions(True) == []
    assert asked == [("c", 5)]
    client.subscribe("c")
    await channel.listener("subscribeFail").once(4000)


async def test_it_can_be_tried_again(make_server: Any, make_client: Any) -> None:
    server = await make_server()
    asked = refuse(server, "c", ValueError("Not you"))
    client = make_client(server, subscription_retry_options=AGAIN)
    found = record(client)
    channel = client.subscribe("c")
    await until(lambda: names(found).count("subscribeFail") == 3)
    assert channel.state == "pending"
    server.remove_middleware(server.MIDDLEWARE_INBOUND)
    await until(lambda: channel.state == "subscribed" or client.state != "open")
    assert len(asked) >= 3
    client.disconnect()


async def test_unsubscribing_stops_the_attempts() -> None:
    server = AGServer(drain_timeout=0)
    asked = refuse(server, "c", ValueError("Not you"))
    retrying: ReconnectOptionsDict = {**AGAIN, "initial_delay": 1000}
    async with (
        testing.clock() as clock,
        testing.connect(server, subscription_retry_options=retrying) as client,
    ):
        channel = client.subscribe("c")
        await clock.advance(1.5)
        assert len(asked) == 2
        channel.unsubscribe()
        await clock.advance(60)
        assert len(asked) == 2
        assert channel.state == "unsubscribed"
    await server.close()


async def test_an_error_of_that_name_from_the_server_is_a_refusal(
    make_server: Any, make_client: Any
) -> None:
    server = await make_server()

    class BadConnectionError(Exception):
        pass

    refuse(server, "c", BadConnectionError("made up"))
    channel = make_client(server).subscribe("c")
    event = await channel.listener("subscribeFail").once(4000)
    assert str(event.error) == "made up"
    assert channel.state == "unsubscribed"


async def test_wait_for_auth_that_is_refused_waits_on(make_server: Any, make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake(isAuthenticated=True)
        packet = await peer.call("#subscribe")
        await peer.send(
            [
                {"event": "#removeAuthToken"},
                {"rid": packet["cid"], "error": {"name": "OddError", "message": "no token"}},
            ]
        )

    async with fake_server(handle) as port:
        client = make_client(port)
        found = record(client)
        channel = client.subscribe("c", wait_for_auth=True)
        await client.listener("deauthenticate").once(4000)
        await until(lambda: not len(calls_of(client)))
        assert channel.state == "pending"
        assert "subscribeFail" not in names(found)


async def test_kicked_out(make_server: Any, make_client: Any) -> None:
    server = await make_server()
    client = make_client(server)
    channel = client.subscribe("c")
    await channel.listener("subscribe").once(4000)
    found = record(client)
    own = channel.listener("kickOut").create_consumer()
    await server.clients[client.id].kick_out("c", {"why": 1})
    event = (await own.next(4000)).value
    assert (event.channel, event.message) == ("c", {"why": 1})
    assert names(found) == ["kickOut", "subscribeStateChange", "unsubscribe"]
    assert channel.state == "unsubscribed"
    client.reconnect()
    await client.listener("connect").once(4000)
    assert client.subscriptions(True) == []


async def test_channels_are_got_back(make_server: Any, make_client: Any, running: Running) -> None:
    server = await make_server()
    client = make_client(server, auto_reconnect_options=AGAIN)
    received = running.collect(client.subscribe("c"))
    await client.listener("subscribe").once(4000)
    found = record(client)
    server.clients[client.id].terminate()
    await until(lambda: "subscribe" in names(found))
    assert names(found) == [
        "subscribeStateChange",
        "unsubscribe",
        "disconnect",
        "close",
        "error",
        "connecting",
        "subscribeRequest",
        "connect",
        "subscribeStateChange",
        "subscribe",
    ]
    server.exchange.transmit_publish("c", "again")
    await until(lambda: received == ["again"])


async def test_pending_channels_can_be_left_to_the_application(
    make_server: Any, make_client: Any
) -> None:
    server = await make_server()
    client = make_client(server, auto_subscribe_on_connect=False)
    found = record(client)
    channel = client.subscribe("c")
    event = await client.listener("connect").once(4000)
    client.subscribe("d")
    assert "subscribeRequest" not in names(found)
    event.process_pending_subscriptions()
    await until(lambda: client.subscriptions() == ["c", "d"])
    assert channel.state == "subscribed"
    client.subscribe("e")  # Now they are asked for at once again.
    await until(lambda: client.is_subscribed("e"))


async def test_a_prefix_is_on_the_wire_only(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = await make_server()
    client = make_client(server, channel_prefix="app.")
    channel = client.subscribe("c")
    received = running.collect(channel)
    await channel.listener("subscribe").once(4000)
    socket = server.clients[client.id]
    assert socket.subscriptions() == ["app.c"]
    server.exchange.transmit_publish("app.c", 1)
    await client.invoke_publish("c", 2)
    client.transmit_publish("c", 3)
    await until(lambda: received == [1, 2, 3])
    await socket.kick_out("app.c", "x")
    event = await client.listener("kickOut").once(4000)
    assert event.channel == "c"
    client.subscribe("d")
    await client.listener("subscribe").once(4000)
    client.unsubscribe("d")
    await until(lambda: socket.subscriptions() == [])


async def test_unsubscribing_during_the_request(make_server: Any, make_client: Any) -> None:
    server = await make_server()
    client = make_client(server)
    await client.listener("connect").once(4000)
    found = record(client)
    channel = client.subscribe("c")
    channel.unsubscribe()
    again = client.subscribe("c")
    await until(lambda: again.state == "subscribed")
    assert names(found) == [
        "subscribeRequest",
        "subscribeRequest",
        "subscribeStateChange",
        "subscribe",
    ]
    assert server.clients[client.id].subscriptions() == ["c"]


async def test_a_publish_that_is_refused(make_server: Any, make_client: Any) -> None:
    server = await make_server(allow_client_publish=False)
    client = make_client(server)
    with pytest.raises(SocketClusterError, match="publish"):
        await client.invoke_publish("c", 1)


@pytest.mark.parametrize("name", ["", None, 5])
async def test_a_channel_without_a_name_is_refused(make_client: Any, name: Any) -> None:
    socket = make_client(1, auto_connect=False)
    with pytest.raises(InvalidArgumentsError, match="must be a text that is not empty"):
        socket.subscribe(name)
    with pytest.raises(InvalidArgumentsError, match="must be a text that is not empty"):
        socket.transmit_publish(name, 1)
    with pytest.raises(InvalidArgumentsError, match="must be a text that is not empty"):
        await socket.invoke_publish(name, 1)
    assert socket.subscriptions(True) == []


@pytest.mark.parametrize("listening", ["nobody", "on the channel", "on the client"])
async def test_a_refused_subscription_that_nobody_listens_for_is_logged(
    make_server: Any, make_client: Any, running: Running, caplog: Any, listening: str
) -> None:
    """Guarantee 10."""
    server = AGServer(drain_timeout=100)
    refuse(server, "secret", SocketClusterError("Members only"))
    client = make_client(await make_server(server))
    channel = client.channel("secret")
    if listening == "on the channel":
        running.collect(channel.listener("subscribeFail"))
    elif listening == "on the client":
        running.collect(client.listener("subscribeFail"))
    await asyncio.sleep(0)
    for _ in range(3):
        client.subscribe("secret")
        assert channel.state == "pending"
        await until(lambda: channel.state == "unsubscribed")
    await client.invoke_publish("other", 1)
    told = [r for r in caplog.records if "subscribeFail" in r.getMessage()]
    if listening != "nobody":
        assert told == []
        return
    assert told[0].levelname == "WARNING"
    assert told[0].getMessage() == (
        "The subscription to 'secret' failed, and nobody listens to 'subscribeFail': "
        "SocketClusterError: Members only"
    )
    assert len(told) == 1
