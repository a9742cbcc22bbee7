"""Events, calls and raw messages both ways; batches; back-pressure; figures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from client.fakes import Peer, fake_server
from client.parts import calls_of, connection_of
from interop.servers import npm_server
from socketcluster import AGClientSocket, AGServer, MemoryTokenStore
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import (
    BadConnectionError,
    InvalidActionError,
    InvalidArgumentsError,
    ResourceLimitError,
    SocketClusterError,
    TimeoutError,
    UnknownProcedureError,
)
from support import Running, names, record, soon, until, until_full

AGAIN = {"initial_delay": 1, "randomness": 1, "multiplier": 1}


async def connected(server: AGServer, make_client: Any, **options: Any) -> tuple[Any, Any]:
    """Return the client and the server's socket for it."""
    client = make_client(server, **options)
    await client.listener("connect").once(4000)
    return client, server.clients[client.id]


async def test_calls(make_server: Any, make_client: Any, running: Running) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    running.procedure(server, "fail", lambda data: 1 // data)
    client, _ = await connected(server, make_client)
    values: list[Any] = [None, 0, "", [], {"a": [1.5, "é", None]}]
    for data in values:
        assert await client.invoke("echo", data) == data
    calls = [client.invoke("echo", number) for number in range(100)]
    assert await asyncio.gather(*calls) == list(range(100))
    with pytest.raises(UnknownProcedureError):
        await client.invoke("nobody")
    with pytest.raises(SocketClusterError, match="division") as raised:
        await client.invoke("fail", 0)
    assert raised.value.name == "ZeroDivisionError"
    assert len(calls_of(client)) == 0


@pytest.mark.parametrize("timeout", [30, timedelta(milliseconds=30)])
async def test_a_call_has_a_timeout_of_its_own(
    make_server: Any, make_client: Any, running: Running, timeout: Any
) -> None:
    server = await make_server()

    async def never(socket: Any) -> None:
        held = [request async for request in socket.procedure("never")]
        del held

    running.on_connection(server, never)
    client, _ = await connected(server, make_client)
    with pytest.raises(TimeoutError, match="never"):
        await client.invoke("never", ack_timeout=timeout)
    assert len(calls_of(client)) == 0


async def test_a_cancelled_call_is_forgotten(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        packet = await peer.call("call")
        cancelled.set()
        await peer.call("go on")
        await peer.send({"rid": packet["cid"], "data": "late"})
        await peer.send({"event": "then"})

    cancelled = asyncio.Event()
    async with fake_server(handle) as port:
        client = make_client(port)
        then = client.receiver("then").create_consumer()
        calling = asyncio.create_task(client.invoke("call"))
        await soon(cancelled.wait())
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert len(calls_of(client)) == 0
        client.transmit("go on")
        await then.next(4000)


async def test_data_that_cannot_be_encoded_is_refused_without_other_effect(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    client, _ = await connected(server, make_client)
    client.start_batch()
    for _ in range(2):
        with pytest.raises(InvalidArgumentsError):
            client.transmit("note", object())
        with pytest.raises(InvalidArgumentsError):
            await client.invoke("echo", {1, 2}.__iter__())
        client.flush_batch()
    assert await client.invoke("echo", 1) == 1
    assert len(calls_of(client)) == 0


async def test_a_batch_cannot_be_started_before_the_handshake(
    make_server: Any, make_client: Any
) -> None:
    class Slow(MemoryTokenStore):
        async def load_token(self, name: str) -> str | None:  # type: ignore[override]
            loading.set()
            await go_on.wait()
            return None

    loading, go_on = asyncio.Event(), asyncio.Event()
    client = make_client(await make_server(), auth_engine=Slow())
    await soon(loading.wait())
    client.start_batch()
    assert not client.is_buffering_batch
    go_on.set()
    await client.listener("connect").once(4000)


async def test_the_server_calls(make_server: Any, make_client: Any, running: Running) -> None:
    server = await make_server()
    client, socket = await connected(server, make_client)
    requests = client.procedure("double").create_consumer()
    calling = running.start(socket.invoke("double", 21))
    request = (await requests.next(4000)).value
    assert (request.procedure, request.data, request.socket) == ("double", 21, client)
    request.end(42)
    assert await calling == 42
    with pytest.raises(InvalidActionError):
        request.end(42)
    refused = asyncio.create_task(socket.invoke("double", 0))
    (await requests.next(4000)).value.error(ValueError("odd"))
    with pytest.raises(Exception, match="odd"):
        await refused
    with pytest.raises(UnknownProcedureError):
        await socket.invoke("nobody")


async def test_an_answer_over_a_lost_connection_is_an_error(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = await make_server()
    client, socket = await connected(server, make_client)
    requests = client.procedure("double").create_consumer()
    calling = asyncio.create_task(socket.invoke("double", 21))
    request = (await requests.next(4000)).value
    client.reconnect()
    await client.listener("connect").once(4000)
    found = record(client)
    request.end(42)
    (error,) = [event.error for name, event in found if name == "error"]
    assert isinstance(error, BadConnectionError)
    with pytest.raises(BadConnectionError):
        await calling


async def test_raw_messages(make_server: Any, make_client: Any, running: Running) -> None:
    server = await make_server()
    client, socket = await connected(server, make_client)
    there, here = running.collect(socket.listener("raw")), running.collect(client.listener("raw"))
    messages = running.collect(client.listener("message"))
    for message in ("text", b"\x00\x01"):
        client.send(message)
        socket.send(message)
    await until(lambda: len(there) == len(here) == 2)
    assert [event.message for event in there] == ["text", b"\x00\x01"]
    assert [event.message for event in here] == ["text", b"\x00\x01"]
    assert [event.message for event in messages] == ["text", b"\x00\x01"]


async def test_a_raw_message_without_a_connection_is_an_error(make_client: Any) -> None:
    client = make_client(1, auto_connect=False)
    found = record(client)
    client.send("text")
    (error,) = [event.error for _, event in found]
    assert isinstance(error, BadConnectionError)
    assert client.state == "closed"


async def test_codecs(make_server: Any, make_client: Any, running: Running) -> None:
    server = await make_server(codec_engine=MinBinCodec())
    running.procedure(server, "echo")
    client = make_client(server, codec_engine=MinBinCodec(), auto_connect=False)
    changing = [1]
    calling = asyncio.create_task(client.invoke("echo", changing))
    await asyncio.sleep(0)
    changing.append(2)  # What waits is kept as it was.
    assert await calling == [1]
    assert await client.invoke("echo", {"b": b"\x00\xff"}) == {"b": b"\x00\xff"}
    assert client.decode(client.encode({"a": 1})) == {"a": 1}


# Batches


class Batches:
    """A fake server that records messages."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def handle(self, peer: Peer) -> None:
        await peer.handshake()
        while True:
            packet = await peer.receive()
            self.messages.append(packet)
            for item in packet if isinstance(packet, list) else [packet]:
                if "cid" in item:
                    await peer.send({"rid": item["cid"]})


async def test_a_batch_is_one_message(make_client: Any) -> None:
    batches = Batches()
    async with fake_server(batches.handle) as port:
        client = make_client(port)
        await client.listener("connect").once(4000)
        assert not client.is_buffering_batch
        client.start_batch()
        assert client.is_buffering_batch
        client.transmit("a", 1)
        client.transmit("b")
        client.flush_batch()
        assert not client.is_buffering_batch
        client.start_batch()
        client.transmit("dropped")
        client.cancel_batch()
        await client.invoke("last")
        assert batches.messages[0] == [{"event": "a", "data": 1}, {"event": "b"}]
        assert [message["event"] for message in batches.messages[1:]] == ["last"]
        client.start_batch()
        client.transmit("at the end")
        client.disconnect()
        await until(lambda: len(batches.messages) == 3)


async def test_a_large_batch_is_several_messages_in_order(make_client: Any) -> None:
    messages: list[Any] = []

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        while sum(map(len, messages)) < 2513:
            messages.append(await peer.receive())
        await peer.send({"event": "done"})

    async with fake_server(handle) as port:
        client = make_client(port, auto_connect=False)
        done = client.receiver("done").create_consumer()
        client.connect()
        await client.listener("connect").once(4000)
        client.start_batch()
        for number in range(2500):
            client.transmit("small", number)
        for number in range(10):
            client.transmit("large", [number, "x" * 100_000])
        client.transmit("huge", "x" * 300_000)
        client.transmit("small", "after")
        client.transmit("small", "last")
        client.flush_batch()
        await done.next(4000)
    sizes = [len(message) for message in messages]
    assert sizes[:2] == [1000, 1000]
    assert all(len(json.dumps(message)) < 310_000 for message in messages)
    sent = [packet["data"] for message in messages for packet in message]
    assert sent[:2500] == list(range(2500))
    assert [data[0] for data in sent[2500:2510]] == list(range(10))
    assert sent[2511:] == ["after", "last"]


@pytest.mark.parametrize("kind", ["ours", "ours, 1,000 packets in a batch", "npm 20"])
async def test_three_thousand_channels_in_batches(
    make_server: Any, make_client: Any, kind: str
) -> None:
    with ExitStack() as stack:
        if kind == "npm 20":
            port = stack.enter_context(npm_server("server20", {"socketChannelLimit": 5000}))
        else:
            limits = (
                {"socket_channel_limit": 5000}
                if kind == "ours"
                else {"socket_channel_limit": 0, "max_batch_items": 1000}
            )
            port = (await make_server(**limits)).source_port
        client = make_client(port, batch_on_handshake=True, auto_connect=False)
        found = record(client)
        for number in range(3000):
            client.subscribe(f"channel {number}")
        client.connect()
        for _ in range(2):
            await until(lambda: len(client.subscriptions()) == 3000)
            client.reconnect()
        await until(lambda: len(client.subscriptions()) == 3000)
        assert not {"error", "subscribeFail"} & set(names(found))
        assert names(found).count("disconnect") == 2


async def test_batching_goes_on_over_connections(make_client: Any) -> None:
    batches = Batches()
    async with fake_server(batches.handle) as port:
        client = make_client(port, batch_interval=10, auto_connect=False)
        client.start_batching()
        assert client.is_batching
        for _ in range(2):
            client.transmit("a")
            client.transmit("b")
            await until(lambda: bool(batches.messages))
            assert batches.messages.pop() == [{"event": "a"}, {"event": "b"}]
            client.disconnect()
        client.connect()
        await client.listener("connect").once(4000)
        client.transmit("c")
        client.stop_batching()
        client.transmit("d")
        await until(lambda: len(batches.messages) == 2)
        assert batches.messages == [[{"event": "c"}], {"event": "d"}]
        client.start_batching()
        client.transmit("dropped")
        client.cancel_batching()
        assert not client.is_batching
        await client.invoke("e")
        assert [message["event"] for message in batches.messages[2:]] == ["e"]


async def test_batching_after_the_handshake(make_client: Any) -> None:
    batches = Batches()
    async with fake_server(batches.handle) as port:
        client = make_client(
            port, batch_on_handshake=True, batch_on_handshake_duration=40, batch_interval=1000
        )
        for number in range(50):
            client.subscribe(f"c{number}")
        await until(lambda: len(client.subscriptions()) == 50)
        (message,) = batches.messages
        assert len(message) == 50
        await until(lambda: not client.is_buffering_batch)
        client.transmit("single")
        await until(lambda: len(batches.messages) == 2)
        assert batches.messages[1] == {"event": "single"}


async def test_a_batch_that_was_accepted_is_sent(make_client: Any) -> None:
    """The brackets and commas of a full batch do not make it too long."""
    batches = Batches()
    async with fake_server(batches.handle) as port:
        client = make_client(port, max_outbound_buffer=2000)
        await client.listener("connect").once(4000)
        client.start_batch()
        sent = until_full(lambda: client.transmit("n"))
        client.flush_batch()
        await until(lambda: len(batches.messages) == 1)
        assert len(batches.messages[0]) == sent


# Back-pressure and figures


@pytest.mark.parametrize("kind", ["receiver", "channel"])
async def test_a_slow_consumer_stops_the_reading_and_loses_nothing(
    make_client: Any, kind: str
) -> None:
    sent = pongs = 0
    ended = asyncio.Event()

    async def count_pongs(peer: Peer) -> None:
        nonlocal pongs
        async for message in peer.ws:
            pongs += not message

    async def handle(peer: Peer) -> None:
        nonlocal sent
        await peer.handshake(pingTimeout=250)
        packet = await peer.call("#subscribe")
        await peer.send({"rid": packet["cid"]})
        await peer.call("go")
        counting = asyncio.create_task(count_pongs(peer))
        payload = "x" * 4000
        while sent < 3000:
            packet = {"event": "n", "data": [sent, payload]}
            if kind == "channel":
                packet = {"event": "#publish", "data": {"channel": "c", "data": packet["data"]}}
            await peer.send(packet)
            sent += 1
        ended.set()
        await counting

    async with fake_server(handle) as port:
        client = make_client(port, max_inbound_backlog=10)
        channel = client.subscribe("c")
        stream = client.receiver("n") if kind == "receiver" else channel
        consumer = stream.create_consumer()
        await channel.listener("subscribe").once(4000)
        client.transmit("go")
        await until(lambda: consumer.get_backpressure() > 10)
        # It sends four pongs per ping timeout without being asked: longer than the timeout.
        await until(lambda: pongs >= 6)
        assert client.state == "open"
        assert not ended.is_set()
        assert client.get_backpressure() == consumer.get_backpressure() < 200
        for number in range(3000):
            assert (await consumer.next(4000)).value[0] == number
        await soon(ended.wait())
        assert client.state == "open"


async def test_messages_received_before_the_end_are_not_lost(
    make_server: Any, make_client: Any
) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        for number in range(100):
            await peer.send({"event": "n", "data": number})
        await peer.ws.close(4600)

    async with fake_server(handle) as port:
        client = make_client(port, max_inbound_backlog=5)
        consumer = client.receiver("n").create_consumer()
        closed = client.listener("disconnect").create_consumer()
        await until(lambda: consumer.get_backpressure() > 5)
        assert [(await consumer.next(4000)).value for _ in range(100)] == list(range(100))
        assert (await closed.next(4000)).value.code == 4600


async def test_a_loop_that_is_behind_can_call_the_server(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    client = make_client(server, max_inbound_backlog=10)
    await client.listener("connect").once(4000)
    (there,) = server.clients.values()
    received = running.collect(there.listener("message"))
    channel = client.subscribe("c")
    consumer = channel.create_consumer()
    await channel.listener("subscribe").once(4000)
    for number in range(60):
        server.exchange.transmit_publish("c", number)
    await until(lambda: consumer.get_backpressure() > 10)
    for number in range(60):
        value = (await consumer.next(4000)).value
        assert await client.invoke("echo", value) == number
    # It is not told with every call that the client is alive.
    assert [event.message for event in received].count("") <= 1


ANSWERS: dict[str, Callable[[int], str]] = {
    "plain": lambda cid: json.dumps({"rid": cid, "data": "ok"}),
    "other order": lambda cid: json.dumps({"data": "ok", "error": None, "rid": cid}),
    "indented": lambda cid: json.dumps({"rid": cid, "data": "ok"}, indent=4),
    "batch": lambda cid: json.dumps([{"event": "n", "data": 0}, {"rid": cid, "data": "ok"}]),
    "a batch of answers": lambda cid: json.dumps([{"rid": 999}, {"rid": cid, "data": "ok"}]),
    "a number with a point": lambda cid: f'{{"data":"ok","rid":{cid}.0}}',
}


@pytest.mark.parametrize("form", ANSWERS)
@pytest.mark.parametrize("behind", ["receiver", "channel", "procedure", "batch"])
async def test_an_answer_does_not_wait_behind_a_loop_that_waits_for_it(
    make_client: Any, running: Running, behind: str, form: str
) -> None:
    """Whichever stream is behind, and however the answer is encoded."""

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        subscribing = await peer.call("#subscribe")
        await peer.send({"rid": subscribing["cid"]})
        await peer.call("go")
        data: Any = {"channel": "c", "data": 1}
        packets: list[dict[str, Any]] = [
            {"event": "#publish", "data": data}
            if behind == "channel"
            else {"event": "n", "data": 1, **({"cid": n} if behind == "procedure" else {})}
            for n in range(1, 31)
        ]
        for packet in [packets] if behind == "batch" else packets:
            await peer.send(packet)
        while True:
            call = await peer.call("ask")
            await peer.send(ANSWERS[form](call["cid"]))

    async with fake_server(handle) as port:
        client = make_client(port, max_inbound_backlog=5)
        channel = client.subscribe("c")
        streams = {"channel": channel, "procedure": client.procedure("n")}
        consumer = streams.get(behind, client.receiver("n")).create_consumer()
        await channel.listener("subscribe").once(4000)
        client.transmit("go")
        await until(lambda: not connection_of(client).reading)
        for _ in range(3):
            assert await client.invoke("ask", ack_timeout=4000) == "ok"

        async def loop() -> None:
            for _ in range(30):
                await consumer.next(4000)
                assert await client.invoke("ask", ack_timeout=4000) == "ok"

        await soon(loop())


async def test_a_handshake_does_not_wait_behind_a_loop(make_client: Any) -> None:
    count = 0

    async def handle(peer: Peer) -> None:
        nonlocal count
        count += 1
        await peer.handshake()
        if count == 1:
            for number in range(60):
                await peer.send({"event": "n", "data": number})
            await peer.call("leave")
            peer.ws.transport.abort()

    async with fake_server(handle) as port:
        client = make_client(port, max_inbound_backlog=5, auto_reconnect_options=AGAIN)
        consumer = client.receiver("n").create_consumer()
        connected = client.listener("connect").create_consumer()
        await connected.next(4000)
        asking = asyncio.ensure_future(client.invoke("nothing"))
        await until(lambda: consumer.get_backpressure() >= 50)

        def leave() -> bool:
            client.transmit("leave")  # What is not read from is found lost when it is written to.
            return bool(asking.done())

        await until(leave)
        with pytest.raises(BadConnectionError):
            await asking
        # The loop is as far behind as it may be; the next connection is made all the same.
        await connected.next(4000)
        assert consumer.get_backpressure() >= 50


async def test_calls_do_not_fill_the_memory(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        call = await peer.call("ask")
        for number in range(2000):
            await peer.send({"event": "n", "data": [number, "x" * 4000]})
        await peer.send({"rid": call["cid"], "data": "late"})

    async with fake_server(handle) as port:
        client = make_client(port, max_inbound_backlog=10)
        found = record(client)
        consumer = client.receiver("n").create_consumer()
        asking = asyncio.ensure_future(client.invoke("ask"))
        await until(lambda: "error" in names(found))
        ((_, event),) = [entry for entry in found if entry[0] == "error"]
        assert isinstance(event.error, ResourceLimitError)
        assert "max_inbound_backlog" in str(event.error)
        assert 100 <= consumer.get_backpressure() < 200
        for number in range(2000):
            assert (await consumer.next(4000)).value[0] == number
        assert await soon(asking) == "late"
        assert set(names(found)) == {"connect", "error"}


async def wait_twice_the_ping_timeout(client: AGClientSocket) -> None:
    """Wait for 16 pings of a server that pings every 50 ms, and allows 400 ms for a pong."""
    pings = 0
    async for event in client.listener("message"):
        pings += event.message == ""
        if pings == 16:
            break


@pytest.mark.parametrize("disabled", [False, True])
@pytest.mark.parametrize("kind", ["ours", "npm 20"])
async def test_a_client_that_does_not_read_stays_connected(
    make_server: Any, make_client: Any, kind: str, disabled: bool
) -> None:
    settings = {"pingInterval": 50, "pingTimeout": 400}
    with ExitStack() as stack:
        if kind == "ours":
            port = (await make_server(ping_interval=50, ping_timeout=400)).source_port
        else:
            port = stack.enter_context(npm_server("server20", settings))
        client = make_client(port, max_inbound_backlog=5, ping_timeout_disabled=disabled)
        found = record(client)
        channel = client.subscribe("c")
        consumer = channel.create_consumer()
        await channel.listener("subscribe").once(4000)
        async with AGClientSocket(hostname="127.0.0.1", port=port, auto_connect=False) as other:
            for number in range(20):
                await other.invoke_publish("c", number)
            await until(lambda: consumer.get_backpressure() > 5)
            await wait_twice_the_ping_timeout(other)
            assert [(await consumer.next(4000)).value for _ in range(20)] == list(range(20))
            await other.invoke_publish("c", "more")
            assert (await consumer.next(4000)).value == "more"
            # Nor is it later.
            await wait_twice_the_ping_timeout(other)
            assert not {"disconnect", "error"} & set(names(found))


async def test_a_server_that_does_not_read(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        peer.ws.transport.pause_reading()
        await peer.send({"event": "paused"})
        await resume.wait()
        peer.ws.transport.resume_reading()
        await peer.call("last")
        await peer.send({"event": "got it"})

    resume = asyncio.Event()
    async with fake_server(handle, max_size=None) as port:
        client = make_client(port, max_outbound_buffer=1_000_000)
        await client.receiver("paused").once(4000)
        answer = client.receiver("got it").create_consumer()
        assert until_full(lambda: client.transmit("note", "x" * 100_000)) > 5
        assert client.state == "open"
        assert 800_000 < client.get_outbound_buffer_size() <= 1_000_000
        resume.set()
        await until(lambda: client.get_outbound_buffer_size() == 0)
        client.transmit("last")
        await answer.next(4000)


async def test_bytes_received(make_server: Any, make_client: Any, running: Running) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    client = make_client(server, auto_connect=False)
    assert (client.get_bytes_received(), client.get_outbound_buffer_size()) == (0, 0)
    await client.invoke("echo", "x" * 1000)
    assert 1000 < client.get_bytes_received() < 1500
    assert client.get_outbound_buffer_size() == 0


@pytest.mark.parametrize("family", ["receiver", "procedure"])
async def test_stream_management(make_server: Any, make_client: Any, family: str) -> None:
    client, socket = await connected(await make_server(), make_client)
    both = "procedures" if family == "procedure" else "receivers"
    stream = getattr(client, family)
    first, second = stream("a").create_consumer(), stream("b").create_consumer()

    def call(name: str, *arguments: Any) -> Any:
        return getattr(client, name)(*arguments)

    calls = []
    for number in range(3):
        if family == "receiver":
            socket.transmit("a", number)
        else:
            calls.append(asyncio.create_task(socket.invoke("a", number)))
    await until(lambda: first.get_backpressure() == 3)
    assert call(f"get_{family}_backpressure", "a") == 3
    assert call(f"get_{family}_backpressure", "b") == 0
    assert call(f"get_all_{both}_backpressure") == client.get_backpressure() == 3
    assert call(f"get_{family}_consumer_backpressure", first.id) == 3
    assert call(f"has_{family}_consumer", "a", first.id)
    assert not call(f"has_{family}_consumer", "b", first.id)
    assert call(f"has_any_{family}_consumer", second.id)
    stats = call(f"get_all_{both}_consumer_stats_list")
    assert [(entry.id, entry.stream, entry.backpressure) for entry in stats] == [
        (first.id, "a", 3),
        (second.id, "b", 0),
    ]
    assert call(f"get_{family}_consumer_stats_list", "b") == [stats[1]]
    assert call(f"get_{family}_consumer_stats", first.id) == stats[0]
    call(f"kill_{family}_consumer", first.id)
    assert [value async for value in first] == []
    call(f"close_{family}", "b")
    assert [value async for value in second] == []
    for end in (f"kill_{family}", f"close_all_{both}", f"kill_all_{both}"):
        consumer = stream("c").create_consumer()
        call(end, *(["c"] if end == f"kill_{family}" else []))
        assert [value async for value in consumer] == []
    assert call(f"get_all_{both}_consumer_stats_list") == []
    for task in calls:
        task.cancel()
