"""Channels: subscribing, publishing, limits, kick-out, the exchange."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketcluster import AGServer
from socketcluster.errors import BrokerError, InvalidActionError, InvalidArgumentsError
from support import AnswerError, Running, connected, soon, until


async def test_publish_reaches_subscribers_and_the_server(
    make_server: Any, running: Running
) -> None:
    server = await make_server()
    watched = running.collect(server.exchange.subscribe("room"))
    async with connected(server) as alice, connected(server) as bob:
        await alice.call("#subscribe", {"channel": "room"})
        await bob.call("#subscribe", {"channel": "room"})
        assert await alice.call("#publish", {"channel": "room", "data": {"n": 1}}) is None
        expected = {"event": "#publish", "data": {"channel": "room", "data": {"n": 1}}}
        assert await alice.event() == await bob.event() == expected
        await bob.transmit("#publish", {"channel": "room", "data": "two"})
        assert (await alice.event())["data"]["data"] == "two"
        await until(lambda: watched == [{"n": 1}, "two"])
        server.exchange.transmit_publish("room", [3])
        await server.exchange.invoke_publish("other", 4)
        await bob.event()
        assert (await bob.event())["data"]["data"] == [3]
        await until(lambda: watched[2:] == [[3]])


async def test_unsubscribed_gets_nothing(make_server: Any, running: Running) -> None:
    server = await make_server()
    events = running.collect(server.listener("unsubscription"))
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await client.call("#subscribe", {"channel": "a"})
        await client.call("#subscribe", {"channel": "b"})
        assert socket.subscriptions() == ["a", "b"]
        assert socket.channel_subscriptions == {"a": True, "b": True}
        await client.call("#unsubscribe", "a")
        assert socket.subscriptions() == ["b"]
        assert not socket.is_subscribed("a")
        server.exchange.transmit_publish("a", 1)
        server.exchange.transmit_publish("b", 2)
        assert (await client.event())["data"] == {"channel": "b", "data": 2}
        await until(lambda: len(events) == 1)
        assert events[0].channel == "a"
        with pytest.raises(AnswerError) as refused:
            await client.call("#unsubscribe", "a")
        assert refused.value.wire["name"] == "BrokerError"
        assert refused.value.wire["message"].startswith(
            "Failed to unsubscribe socket from the a channel - InvalidActionError: Socket "
        )
    await until(lambda: len(events) == 2)
    assert server.exchange._index.channels == {}


async def test_subscription_event_carries_the_options(make_server: Any, running: Running) -> None:
    server = await make_server()
    events = running.collect(server.listener("subscription"))
    async with connected(server) as client:
        (socket,) = server.clients.values()
        own = running.collect(socket.listener("subscribe"))
        await client.call("#subscribe", {"channel": "a", "waitForAuth": True, "data": {"k": 1}})
        await until(lambda: len(events) == len(own) == 1)
        assert events[0].channel == "a"
        assert events[0].channel_options == {"waitForAuth": True, "data": {"k": 1}}
        assert own[0].subscription_options == events[0].channel_options


@pytest.mark.parametrize(
    ("event", "data", "message"),
    [
        ("#publish", None, "Publish channel name was malformatted"),
        ("#publish", {"channel": 5}, "Publish channel name was malformatted"),
        ("#publish", "x", "Publish channel name was malformatted"),
        ("#subscribe", {"channel": None}, "Subscribe channel name was malformatted"),
        ("#subscribe", ["a"], "Subscribe channel name was malformatted"),
        ("#unsubscribe", {"channel": "a"}, "Unsubscribe channel name was malformatted"),
    ],
)
async def test_malformed_channel_names(
    make_server: Any, running: Running, event: str, data: Any, message: str
) -> None:
    server = await make_server()
    warnings = running.collect(server.listener("warning"))
    async with connected(server) as client:
        with pytest.raises(AnswerError) as refused:
            await client.call(event, data)
        assert refused.value.wire == {"name": "InvalidActionError", "message": message}
        await client.transmit(event, data)
        await until(lambda: len(warnings) == 2)


async def test_client_publish_can_be_disabled(make_server: Any) -> None:
    server = await make_server(allow_client_publish=False)
    async with connected(server) as client:
        with pytest.raises(AnswerError, match="Client publish feature is disabled"):
            await client.call("#publish", {"channel": "a", "data": 1})


async def test_channel_limit(make_server: Any) -> None:
    server = await make_server(socket_channel_limit=2)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        for name in ("__proto__", "constructor", "__proto__"):
            await client.call("#subscribe", {"channel": name})
        with pytest.raises(AnswerError) as refused:
            await client.call("#subscribe", {"channel": "third"})
        assert refused.value.wire["name"] == "BrokerError"
        assert refused.value.wire["message"] == (
            "Failed to subscribe socket to the third channel - InvalidActionError: "
            f"Socket {socket.id} tried to exceed the channel subscription limit of 2"
        )
        assert socket.channel_subscriptions_count == 2


async def test_kick_out(make_server: Any) -> None:
    server = await make_server()
    async with connected(server) as client:
        (socket,) = server.clients.values()
        for name in "abc":
            await client.call("#subscribe", {"channel": name})
        await socket.kick_out("a", "Bye")
        assert await client.event() == {
            "event": "#kickOut",
            "data": {"channel": "a", "message": "Bye"},
        }
        await socket.kick_out()
        assert (await client.event())["data"] == {"channel": "b"}
        assert (await client.event())["data"] == {"channel": "c"}
        assert socket.subscriptions() == []
        with pytest.raises(InvalidActionError):
            await socket.kick_out("a")


async def test_kick_out_of_several_goes_on_past_a_failure(make_server: Any) -> None:
    server = await make_server()
    async with connected(server) as client:
        (socket,) = server.clients.values()
        for name in "ab":
            await client.call("#subscribe", {"channel": name})
        with pytest.raises(InvalidActionError, match="which it is not subscribed to"):
            await socket.kick_out(["a", "none", "b"])
        assert socket.channel_subscriptions == {}
        assert socket.channel_subscriptions_count == 0
        kicked = [(await client.event())["data"]["channel"] for _ in range(3)]
        assert kicked == ["a", "none", "b"]


async def test_only_a_call_subscribes(make_server: Any, running: Running) -> None:
    server = await make_server()
    async with connected(server) as client:
        (socket,) = server.clients.values()
        received = running.collect(socket.receiver("#subscribe"))
        await client.transmit("#subscribe", {"channel": "c", "data": "x"})
        await until(lambda: received == ["x"])
        assert socket.subscriptions() == []


async def test_exchange_states_and_events(make_server: Any, running: Running) -> None:
    server = await make_server()
    exchange = server.exchange
    subscribed = running.collect(exchange.listener("subscribe"))
    left = running.collect(exchange.channel("a").listener("unsubscribe"))
    channel = exchange.subscribe("a")
    assert (channel.state, channel.name) == ("subscribed", "a")
    assert exchange.subscriptions() == ["a"]
    assert exchange.is_subscribed("a")
    channel.unsubscribe()
    assert channel.state == channel.UNSUBSCRIBED
    assert exchange.subscriptions(include_pending=True) == []
    await until(lambda: len(subscribed) == len(left) == 1)
    assert subscribed[0].channel == "a"
    with pytest.raises(InvalidArgumentsError):
        exchange.transmit_publish("a", object())


async def test_channel_backpressure_and_killing(make_server: Any) -> None:
    server = await make_server()
    channel = server.exchange.subscribe("a")
    consumer = channel.create_consumer()
    other = channel.create_consumer()
    for number in range(3):
        channel.transmit_publish(number)
    assert channel.get_output_backpressure() == channel.get_backpressure() == 3
    assert server.exchange.get_all_channels_backpressure() == 3
    assert [s.backpressure for s in channel.get_output_consumer_stats_list()] == [3, 3]
    channel.kill_output_consumer(other.id)
    assert not channel.has_output_consumer(other.id)
    assert (await soon(other.next())).done
    channel.close()
    assert [(await soon(consumer.next())).value for _ in range(3)] == [0, 1, 2]
    assert (await soon(consumer.next())).done
    killed = channel.create_consumer()
    channel.transmit_publish(4)
    channel.kill()
    assert (await soon(killed.next())).done


class SlowBroker:
    """A broker whose operations wait for the test."""

    def __init__(self) -> None:
        self.operations: list[tuple[str, str, asyncio.Future[None]]] = []
        self.listener: Any = None

    def attach(self, listener: Any) -> None:
        self.listener = listener

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def check(self) -> None:
        pass

    def _operation(self, kind: str, channel: str) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.operations.append((kind, channel, done))
        return done

    def subscribe(self, channel: str) -> asyncio.Future[None]:
        return self._operation("subscribe", channel)

    def unsubscribe(self, channel: str) -> asyncio.Future[None]:
        return self._operation("unsubscribe", channel)

    def publish(self, channel: str, payload: bytes) -> asyncio.Future[None]:
        return self._operation("publish", channel)

    async def settle(self, kind: str, error: Exception | None = None) -> None:
        await until(lambda: bool(self.operations))
        found, _, done = self.operations.pop(0)
        assert found == kind
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


async def test_two_first_subscribers_share_one_operation(make_server: Any) -> None:
    broker = SlowBroker()
    server = await make_server(broker_engine=broker)
    async with connected(server) as alice, connected(server) as bob:
        first, second = (c.packet("#subscribe", {"channel": "a"}) for c in (alice, bob))
        answers = [alice.answer(first), bob.answer(second)]
        await alice.send(first)
        await bob.send(second)
        sockets = list(server.clients.values())
        await until(lambda: all(s.channel_subscriptions_count == 1 for s in sockets))
        assert not any(s.is_subscribed("a") for s in sockets)
        await broker.settle("subscribe")
        await soon(asyncio.gather(*answers))
        assert broker.operations == []
        broker.listener.message_received("a", b'"hi"')
        assert (await alice.event())["data"]["data"] == "hi"
        assert (await bob.event())["data"]["data"] == "hi"
    await broker.settle("unsubscribe")
    await until(lambda: server.exchange._index.channels == {})


async def test_failed_subscription_is_answered_and_can_be_repeated(make_server: Any) -> None:
    broker = SlowBroker()
    server = await make_server(broker_engine=broker)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        packet = client.packet("#subscribe", {"channel": "a"})
        answer = client.answer(packet)
        await client.send(packet)
        await broker.settle("subscribe", OSError("no route"))
        with pytest.raises(AnswerError, match="Failed to subscribe socket to the a channel"):
            await soon(answer)
        assert socket.channel_subscriptions_count == 0
        packet = client.packet("#subscribe", {"channel": "a"})
        answer = client.answer(packet)
        await client.send(packet)
        await broker.settle("subscribe")
        await soon(answer)
        assert socket.is_subscribed("a")


async def test_socket_that_closes_while_subscribing_is_not_subscribed(make_server: Any) -> None:
    broker = SlowBroker()
    server = await make_server(broker_engine=broker)
    async with connected(server) as client:
        await client.send(client.packet("#subscribe", {"channel": "a"}))
        await until(lambda: len(broker.operations) == 1)
    await until(lambda: server.clients_count == 0)
    await broker.settle("subscribe")
    await broker.settle("unsubscribe")
    await until(lambda: server.exchange._index.channels == {})
    assert broker.operations == []


async def test_publish_that_the_broker_refuses_is_not_acknowledged(
    make_server: Any, running: Running, caplog: Any
) -> None:
    broker = SlowBroker()
    server: AGServer = await make_server(broker_engine=broker)
    errors = running.collect(server.exchange.listener("error"))
    async with connected(server) as client:
        packet = client.packet("#publish", {"channel": "a", "data": 1})
        answer = client.answer(packet)
        await client.send(packet)
        await broker.settle("publish", BrokerError("Queue full"))
        with pytest.raises(AnswerError, match="The message broker failed"):
            await soon(answer)
    publishing = asyncio.create_task(server.exchange.invoke_publish("a", 1))
    await broker.settle("publish", BrokerError("Queue full"))
    with pytest.raises(BrokerError):
        await soon(publishing)
    server.exchange.transmit_publish("a", 1)
    await broker.settle("publish", BrokerError("Queue full"))
    await until(lambda: len(errors) == 1)
    channel = server.exchange.subscribe("b")
    assert channel.is_subscribed(include_pending=True)
    assert server.exchange.subscriptions(include_pending=True) == ["b"]
    failed = running.collect(channel.listener("subscribeFail"))
    caplog.clear()
    await broker.settle("subscribe", BrokerError("No"))
    await until(lambda: len(failed) == 1)
    assert channel.state == "unsubscribed"
    assert not caplog.records
    server.exchange.subscribe("d")
    await broker.settle("subscribe", BrokerError("Nobody listens"))
    await until(lambda: "Nobody listens" in caplog.text)  # Guarantee 10.


@pytest.mark.parametrize("bound", ["messages", "bytes"])
async def test_publishes_do_not_wait_for_each_other(
    make_server: Any, monkeypatch: Any, bound: str
) -> None:
    """Guarantee 4: publishes that the broker has not taken are bounded, in messages and bytes."""
    monkeypatch.setattr("socketcluster.server.packets.channels.MAX_UNCONFIRMED_PUBLISHES", 3)
    broker = SlowBroker()
    options: dict[str, Any] = {}
    if bound == "bytes":
        monkeypatch.setattr("socketcluster.server.packets.channels.MAX_UNCONFIRMED_PUBLISHES", 1000)
        options["max_inbound_backlog_bytes"] = 25_000
    server: AGServer = await make_server(broker_engine=broker, drain_timeout=10_000, **options)
    async with connected(server) as client:
        data = "x" * 10_000
        packets = [client.packet("#publish", {"channel": "a", "data": data}) for _ in range(4)]
        answers = [client.answer(packet) for packet in packets]
        for packet in packets:
            await client.send(packet)
        await until(lambda: len(broker.operations) == 3)
        await soon(await client.ws.ping())
        assert len(broker.operations) == 3  # The fourth waits for the third.
        assert not any(answer.done() for answer in answers)
        for _ in range(3):
            await broker.settle("publish")
        await soon(asyncio.gather(*answers[:3]))
        await until(lambda: len(broker.operations) == 1)
        closing = asyncio.create_task(server.close())
        await broker.settle("publish")
        await soon(answers[3])  # Before the drain ends.
        await soon(closing)


async def test_failed_unsubscription_is_reported_and_can_be_followed(
    make_server: Any, running: Running
) -> None:
    broker = SlowBroker()
    server = await make_server(broker_engine=broker)
    warnings = running.collect(server.listener("warning"))
    async with connected(server) as client:
        packet = client.packet("#subscribe", {"channel": "a"})
        answer = client.answer(packet)
        await client.send(packet)
        await broker.settle("subscribe")
        await soon(answer)
        await client.call("#unsubscribe", "a")
        packet = client.packet("#subscribe", {"channel": "a"})
        answer = client.answer(packet)
        await client.send(packet)
        await broker.settle("unsubscribe", OSError("no route"))
        await broker.settle("subscribe")
        await soon(answer)
        await until(lambda: len(warnings) == 1)
        assert str(warnings[0].warning) == "no route"
        broker.listener.message_received("a", b"1")
        assert (await client.event())["data"]["data"] == 1


async def test_a_large_batch_of_publishes_stalls_nobody(make_server: Any, running: Running) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    published = running.collect(server.exchange.subscribe("a"))
    async with connected(server) as busy, connected(server) as other:
        publish = {"event": "#publish", "data": {"channel": "a", "data": "x" * 500}}
        for _ in range(3):
            await busy.send([publish] * 1000)
        before = len(published)
        await other.call("echo", 1)
        assert len(published) - before < 1500
        await until(lambda: len(published) == 3000)


async def test_an_unsubscription_that_hangs_holds_up_nothing(
    make_server: Any, running: Running
) -> None:
    broker = SlowBroker()
    server = await make_server(broker_engine=broker)
    closed = running.collect(server.listener("closure"))
    async with connected(server) as client:
        for channel in ("a", "b"):
            packet = client.packet("#subscribe", {"channel": channel})
            answer = client.answer(packet)
            await client.send(packet)
            await broker.settle("subscribe")
            await soon(answer)
        (socket,) = server.clients.values()
        ended = asyncio.create_task(socket.listener("end").once())
        await asyncio.sleep(0)
    await soon(ended)
    await until(lambda: len(closed) == 1)
    assert [(kind, name) for kind, name, _ in broker.operations] == [
        ("unsubscribe", "a"),
        ("unsubscribe", "b"),
    ]
    assert socket.subscriptions() == []
    await soon(server.close())


@pytest.mark.parametrize(
    "data", ["1e999", "NaN", "-Infinity", "[" * 5000 + "]" * 5000, "{", '{"a":1e999}']
)
async def test_what_could_not_be_delivered_is_not_acknowledged(make_server: Any, data: str) -> None:
    server = await make_server()
    async with connected(server) as reader, connected(server) as client:
        await reader.call("#subscribe", {"channel": "a"})
        packet = client.packet("#publish")
        answer = client.answer(packet)
        await client.send(
            f'{{"event":"#publish","data":{{"channel":"a","data":{data}}},"cid":{packet["cid"]}}}'
        )
        await client.call("#publish", {"channel": "a", "data": "next"})
        assert (await reader.event())["data"]["data"] == "next"
        with pytest.raises(AnswerError):
            await answer


@pytest.mark.parametrize("event", ["#subscribe", "#publish"])
async def test_a_channel_without_a_name_is_refused(make_server: Any, event: str) -> None:
    server = await make_server()
    async with connected(server) as client:
        with pytest.raises(AnswerError, match="channel name was malformatted: it is empty"):
            await client.call(event, {"channel": "", "data": 1})
        (socket,) = server.clients.values()
        assert socket.channel_subscriptions_count == 0


@pytest.mark.parametrize("name", ["", None, 5, b"c"])
async def test_the_exchange_refuses_a_channel_without_a_name(make_server: Any, name: Any) -> None:
    server = await make_server()
    with pytest.raises(InvalidArgumentsError, match="must be a text that is not empty"):
        server.exchange.subscribe(name)
    with pytest.raises(InvalidArgumentsError, match="must be a text that is not empty"):
        server.exchange.transmit_publish(name, 1)
    with pytest.raises(InvalidArgumentsError, match="must be a text that is not empty"):
        await server.exchange.invoke_publish(name, 1)
    assert server.exchange.subscriptions(True) == []
