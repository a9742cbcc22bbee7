"""Guarantee 6: text cut inside an emoji, as JavaScript's slice makes it, loses nothing.

Half a character (a lone surrogate) becomes U+FFFD, in what is received and in what is sent, with
every codec; what still cannot be taken is answered by its number.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from socketcluster import AGServer, AGServerSocket, create
from socketcluster.brokers.base import BrokerListener
from socketcluster.codecs.json import JSONCodec
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import SocketClusterError
from support import AnswerError, Running, connected, soon, until

CUT = "hi \ud83d"
WHOLE = "hi \ufffd"
LONG = "x" * 700


class Escaping:
    """A codec of somebody's own that lets half characters through, both ways."""

    def encode(self, obj: Any) -> str:
        return json.dumps(obj)

    def decode(self, message: Any) -> Any:
        assert isinstance(message, str), "text is given as text"
        return json.loads(message)


class Unescaped(Escaping):
    """One whose messages have them as they are."""

    def encode(self, obj: Any) -> str:
        return json.dumps(obj, ensure_ascii=False)


class Backend:
    """What is between the processes: a list of them."""

    def __init__(self) -> None:
        self.brokers: list[BackendBroker] = []


class BackendBroker:
    """A broker whose publishes come back through a backend, as those of Redis do."""

    ready = True

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._channels: set[bytes] = set()
        backend.brokers.append(self)

    def attach(self, listener: BrokerListener) -> None:
        self._listener = listener

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def check(self) -> None:
        pass

    def subscribe(self, channel: str) -> None:
        self._channels.add(channel.encode())

    def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel.encode())

    def publish(self, channel: str, payload: bytes) -> None:
        name = channel.encode()
        for broker in self._backend.brokers:
            if name in broker._channels:
                broker._listener.backend_message_received(channel, bytes(payload))


def escaped(packet: Any) -> str:
    """JSON text as a JavaScript client sends it."""
    return json.dumps(packet)


@pytest.mark.parametrize("pad", ["", LONG])
async def test_a_call_is_answered(make_server: Any, running: Running, pad: str) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    async with connected(server) as client:
        assert await client.call("echo", {CUT: [CUT, pad]}) == {WHOLE: [WHOLE, pad]}
        with pytest.raises(AnswerError, match="no procedure 'hi \ufffd'"):
            await client.call(CUT, pad)


@pytest.mark.parametrize("pad", ["", LONG])
async def test_the_rest_of_a_batch_lives(make_server: Any, running: Running, pad: str) -> None:
    """Guarantee 6: what cannot be taken is answered by its number, and loses no other packet."""
    server = await make_server()
    running.procedure(server, "echo")
    async with connected(server) as client:
        good = [client.packet("echo", CUT + pad), client.packet("echo", pad)]
        bad = client.packet("echo", [pad, 0])
        deep = client.packet("#subscribe", {"channel": "c", "data": 0})
        answers = [client.answer(packet) for packet in (good[0], bad, deep, good[1])]
        message = json.dumps([good[0], bad, deep, good[1]])
        message = message.replace(", 0]", ", 1e999]")
        message = message.replace('"data": 0}', f'"data": {"[" * 200}{"]" * 200}}}')
        await client.send(message)
        assert await soon(answers[0]) == WHOLE + pad
        assert await soon(answers[3]) == pad
        for answer in answers[1:3]:
            with pytest.raises(AnswerError, match=r"out of range|levels"):
                await soon(answer)


async def test_a_call_that_cannot_be_decoded_is_answered(
    make_server: Any, running: Running
) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    async with connected(server) as client:
        for data in ("[1,]", "[" * 300 + "]" * 300, "[" * 5000 + "]" * 5000, f'["{LONG}",1e999]'):
            packet = client.packet("echo")
            answer = client.answer(packet)
            await client.send(f'{{"event":"echo","data":{data},"cid":{packet["cid"]}}}')
            with pytest.raises(AnswerError) as raised:
                await soon(answer)
            assert raised.value.wire["name"] == "InvalidMessageError"
        assert await client.call("echo", 1) == 1


@pytest.mark.parametrize("pad", ["", LONG])
@pytest.mark.parametrize("middleware", [False, True])
async def test_channels_and_publishes(
    make_server: Any, running: Running, pad: str, middleware: bool
) -> None:
    server: AGServer = await make_server()
    if middleware:

        async def allow(stream: Any) -> None:
            async for action in stream:
                action.allow()

        server.set_middleware("inbound", allow)
        server.set_middleware("outbound", allow)
    watched = running.collect(server.exchange.subscribe(CUT))
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": CUT})
        (socket,) = server.clients.values()
        assert socket.subscriptions() == [WHOLE]
        await client.call("#publish", {"channel": CUT, "data": CUT + pad})
        server.exchange.transmit_publish(CUT, [CUT])
        assert (await client.event())["data"] == {"channel": WHOLE, "data": WHOLE + pad}
        assert (await client.event())["data"] == {"channel": WHOLE, "data": [WHOLE]}
        assert not any("\\ud83d" in str(message) for message in client.messages)
        await until(lambda: watched == [WHOLE + pad, [WHOLE]])
        await client.call("#unsubscribe", CUT)
        assert socket.subscriptions() == []


async def test_what_is_sent(make_server: Any, running: Running) -> None:
    server = await make_server()

    async def talk(socket: AGServerSocket) -> None:
        async for request in socket.procedure("talk"):
            socket.transmit(CUT, {CUT: CUT})
            socket.send(CUT)
            socket.start_batch()
            socket.transmit("batched", CUT)
            socket.flush_batch()
            if request.data:
                request.end(CUT)
            else:
                request.error(SocketClusterError(CUT))

    running.on_connection(server, talk)
    async with connected(server) as client:
        assert await client.call("talk", True) == WHOLE
        assert await client.event() == {"event": WHOLE, "data": {WHOLE: WHOLE}}
        assert await client.event() == {"event": "batched", "data": WHOLE}
        assert WHOLE in client.messages
        with pytest.raises(AnswerError, match=WHOLE):
            await client.call("talk", False)


OVER_TCP = pytest.mark.parametrize("make_server", ["picows"], indirect=True)
CODECS = [JSONCodec(), MinBinCodec(), Escaping(), Unescaped()]


@OVER_TCP
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
async def test_every_codec_with_our_client(make_server: Any, running: Running, codec: Any) -> None:
    """Both ways, in calls, events, publishes and answers; nothing is lost."""
    server: AGServer = await make_server(codec_engine=codec)
    running.procedure(server, "echo")
    heard: list[Any] = []

    async def hear(socket: AGServerSocket) -> None:
        async for data in socket.receiver("note"):
            heard.append(data)

    running.on_connection(server, hear)
    client = create(port=server.source_port, codec_engine=codec)
    async with client:
        published = running.collect(client.subscribe(CUT))
        await client.channel(CUT).listener("subscribe").once(5000)
        answer = await client.invoke("echo", [CUT, LONG])
        client.transmit("note", CUT)
        await client.invoke_publish(CUT, CUT)
        await until(lambda: len(published) == len(heard) == 1)
        # A codec of somebody's own decides what becomes of them in data.
        for text in (answer[0], heard[0], published[0]):
            assert text == WHOLE or type(codec) is Escaping
        assert server.exchange.get_channel_state(CUT) == "unsubscribed"
        assert client.subscriptions() == [WHOLE]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
async def test_through_an_engine_to_a_process_that_only_receives(
    make_server: Any, running: Running, codec: Any
) -> None:
    """A codec that makes text is given text, also where nothing has ever been published."""
    backend = Backend()
    sender = await make_server(broker_engine=BackendBroker(backend), codec_engine=codec)
    receiver = await make_server(broker_engine=BackendBroker(backend), codec_engine=codec)
    faults = running.collect(receiver.listener("warning"))
    watched = running.collect(receiver.exchange.subscribe(CUT))
    async with connected(receiver, handshake=False) as client:
        for packet in (
            {"event": "#handshake", "data": {}, "cid": 1},
            {"event": "#subscribe", "data": {"channel": WHOLE}, "cid": 2},
        ):
            await client.send(codec.encode(packet))
        await until(lambda: len(client.messages) == 2)
        await sender.exchange.invoke_publish(CUT, CUT + LONG)
        await until(lambda: len(watched) == 1 and len(client.messages) == 3)
    found = codec.decode(client.messages[2])["data"]
    assert found["channel"] == WHOLE
    for data in (watched[0], found["data"]):
        assert data == WHOLE + LONG or type(codec) is Escaping
    assert not faults


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
async def test_what_is_no_message_of_the_codec_is_reported_as_foreign(
    make_server: Any, running: Running, codec: Any
) -> None:
    backend = Backend()
    broker = BackendBroker(backend)
    server = await make_server(broker_engine=broker, codec_engine=codec)
    faults = running.collect(server.listener("warning"))
    watched = running.collect(server.exchange.subscribe("c"))
    server.exchange.subscribe("d")
    server.exchange.unsubscribe("d")
    for payload in (b"\xc1", b"[1,", b'"' + b"\xff" * 600 + b'"'):
        broker._listener.backend_message_received("c", payload)
    await until(lambda: len(faults) == 3)
    assert all("foreign" in str(fault.warning) for fault in faults)
    await server.exchange.invoke_publish("c", 1)
    await until(lambda: watched == [1])


async def test_binary_data_beside_a_half_character_stays(make_server: Any) -> None:
    codec = MinBinCodec()
    message = msgspec.msgpack.encode({"e": ["x", [b"\x00\xff", "a???b"], 1]})
    decoded = codec.decode(message.replace(b"???", b"\xed\xa0\xbd"))
    assert decoded == {"event": "x", "data": [b"\x00\xff", "a\ufffdb"], "cid": 1}


@OVER_TCP
async def test_the_client_answers_what_it_cannot_decode(make_server: Any, running: Running) -> None:
    server: AGServer = await make_server()
    running.procedure(server, "echo")
    client = create(port=server.source_port)
    errors = running.collect(client.listener("error"))
    async with client:
        await client.invoke("echo", 1)
        (socket,) = server.clients.values()
        batch = '[{"event":"a","data":1},{"event":"b","data":1e999,"cid":7},{"event":"a","data":2}]'
        heard = running.collect(client.receiver("a"))
        await asyncio.sleep(0)
        raw = running.collect(socket.listener("message"))
        socket.send(batch)
        socket.send('{"event":"b","data":[1,],"cid":8}')
        await until(lambda: heard == [1, 2])
        await until(lambda: len([m for m in raw if "InvalidMessageError" in str(m.message)]) == 2)
        await until(lambda: len(errors) == 2)
