"""Rate limits: each limit, with all that may happen past it, on each path of a packet."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from typing import Any, Literal

import pytest
import websockets

from socketcluster import AGServer, AGServerSocket, Limits, Rate
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import RateLimitError
from support import AnswerError, Client, Running, connected, soon, until
from transports import send_at_once

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)
SLOW = 1000
"""Seconds for one unit: nothing has room again within a test."""


class Seen:
    """What an application saw of its client's packets, in order."""

    def __init__(self, server: AGServer) -> None:
        self.values: list[Any] = []

        @server.procedure("add")
        def add(data: Any) -> Any:
            self.values.append(data)
            return data

        @server.procedure("later")
        async def later(data: Any) -> Any:
            self.values.append(data)
            return data

        @server.receiver("note")
        def note(data: Any) -> None:
            self.values.append(data)


def server_with(ordinary: bool = False, **fields: Any) -> tuple[AGServer, Seen]:
    """A server with limits; INBOUND middleware that allows everything forbids the direct path."""
    server = AGServer(limits=Limits(**fields), drain_timeout=100)
    if ordinary:

        @server.middleware("inbound")
        async def allow(stream: Any) -> None:
            async for action in stream:
                action.allow()

    return server, Seen(server)


PACKETS: dict[str, tuple[str, Any]] = {
    "message": ("add", None),
    "bytes": ("add", None),
    "invoke": ("add", None),
    "publish": ("#publish", "channel"),
    "subscribe": ("#subscribe", "channel"),
}
"""From a limit to the event of a packet that it counts, and whether that names a channel."""


def packets_of(client: Client, kind: str, count: int) -> list[dict[str, Any]]:
    event, channel = PACKETS[kind]
    return [
        client.packet(event, {"channel": f"c{number}", "data": number} if channel else number)
        for number in range(count)
    ]


def rate_of(kind: str, burst: int, exceeded: str, *, handshake: bool = True) -> Rate:
    """A rate that allows some packets, the handshake among them, and then no more for long."""
    if kind == "bytes":  # Each has room until the first has used it up.
        return Rate(1, SLOW, 1, exceeded)  # type: ignore[arg-type]
    more = 1 if kind == "message" and handshake else 0
    return Rate(1, SLOW, burst + more, exceeded)  # type: ignore[arg-type]


async def send(client: Client, packets: list[dict[str, Any]], form: str) -> None:
    if form == "batch":
        await client.send(packets)
    elif form == "at once":
        send_at_once(client.ws, [json.dumps(p, separators=(",", ":")) for p in packets])
    else:
        for packet in packets:
            await client.send(json.dumps(packet, separators=(",", ":")))


async def outcome(answer: asyncio.Future[Any]) -> str:
    try:
        await soon(answer)
    except AnswerError as error:
        name: str = error.wire["name"]
        retry_after = error.wire["retryAfter"]
        return name if 0 < retry_after <= 10 * SLOW * 1000 else f"retry after {retry_after}"
    return "done"


@EVERYWHERE
@pytest.mark.parametrize("form", ["one by one", "at once", "batch"])
@pytest.mark.parametrize("ordinary", [False, True])
@pytest.mark.parametrize("kind", ["message", "invoke", "publish", "subscribe"])
async def test_calls_past_a_limit_are_answered_with_an_error(
    make_server: Any, kind: str, ordinary: bool, form: str
) -> None:
    server, seen = server_with(ordinary, **{kind: rate_of(kind, 3, "error")})
    await make_server(server)
    async with connected(server) as client:
        packets = packets_of(client, kind, 5)
        answers = [client.answer(packet) for packet in packets]
        await send(client, packets, form)
        outcomes = [await outcome(answer) for answer in answers]
        if kind == "message" and form == "batch":
            assert outcomes == ["done"] * 5, "a batch is one message"
            return
        assert outcomes == ["done"] * 3 + ["RateLimitError"] * 2
        assert server.rate_limits.limited[kind] == 2
        if kind in ("message", "invoke"):
            assert seen.values == [0, 1, 2]


@EVERYWHERE
@pytest.mark.parametrize("codec", ["json", "min-bin"])
async def test_a_batch_past_the_message_limit_is_refused_as_a_whole(
    make_server: Any, codec: str
) -> None:
    server, seen = server_with(message=rate_of("message", 1, "error"))
    if codec == "min-bin":
        server.set_codec_engine(MinBinCodec())
    await make_server(server)
    wire = server.wire
    async with connected(server, handshake=False) as client:

        async def send_packet(packet: Any) -> None:
            encoded = wire.encode(packet)
            await client.ws.send(encoded)

        def answers_to(cids: set[int]) -> list[Any]:
            packets = [wire.codec.decode(m) for m in client.messages if m not in ("", "#1")]
            flat = [item for p in packets for item in (p if isinstance(p, list) else [p])]
            return [p for p in flat if p.get("rid") in cids]

        await send_packet({"event": "#handshake", "data": {}, "cid": 1})
        await until(lambda: len(answers_to({1})) == 1)
        await send_packet({"event": "add", "data": 1, "cid": 2})
        calls = [{"event": "add", "data": n, "cid": n} for n in range(3, 103)]
        await send_packet([*calls, {"event": "note", "data": "event"}])
        await send_packet({"event": "note", "data": "event"})
        await until(lambda: len(answers_to(set(range(2, 103)))) == 101)
        refused = answers_to(set(range(3, 103)))
        assert {packet["error"]["name"] for packet in refused} == {"RateLimitError"}
        await until(lambda: server.rate_limits.limited["message"] == 2)
        assert seen.values == [1]


@EVERYWHERE
@pytest.mark.parametrize("kind", ["message", "bytes"])
async def test_events_past_a_limit_are_dropped_with_a_warning(make_server: Any, kind: str) -> None:
    server, seen = server_with(False, **{kind: rate_of(kind, 1, "error")})
    await make_server(server)
    warnings: list[Any] = []

    @server.on("warning")
    def warned(event: Any) -> None:
        warnings.append(event.warning)

    async with connected(server) as client:
        for number in range(4):
            await client.transmit("note", number)
        refused = 4 if kind == "bytes" else 3
        await until(lambda: len(warnings) == refused)
        assert server.rate_limits.limited[kind] == refused
        assert seen.values == ([] if kind == "bytes" else [0])
        assert {type(warning) for warning in warnings} == {RateLimitError}
        assert isinstance(warnings[0].retry_after, int)


@EVERYWHERE
async def test_an_event_publish_past_the_limit_is_dropped(make_server: Any) -> None:
    server, _ = server_with(publish=rate_of("publish", 1, "error"))
    await make_server(server)
    found: list[Any] = []
    channel = server.exchange.subscribe("c")
    consumer = channel.create_consumer()
    async with connected(server) as client:
        for number in range(3):
            await client.transmit("#publish", {"channel": "c", "data": number})
        await until(lambda: server.rate_limits.limited["publish"] == 2)
        found.append(await soon(consumer.next()))
        assert found[0].value == 0
        assert consumer.get_backpressure() == 0


@EVERYWHERE
async def test_the_middleware_is_not_asked_about_what_a_limit_refuses(make_server: Any) -> None:
    asked: list[Any] = []
    server = AGServer(limits=Limits(invoke=rate_of("invoke", 2, "error")))

    @server.middleware("inbound")
    async def look(stream: Any) -> None:
        async for action in stream:
            asked.append(action.data)
            action.allow()

    Seen(server)
    await make_server(server)
    async with connected(server) as client:
        packets = packets_of(client, "invoke", 4)
        answers = [client.answer(packet) for packet in packets]
        await send(client, packets, "one by one")
        assert [await outcome(a) for a in answers] == ["done"] * 2 + ["RateLimitError"] * 2
        assert asked == [0, 1]


@EVERYWHERE
@pytest.mark.parametrize("form", ["one by one", "batch"])
@pytest.mark.parametrize("kind", PACKETS)
async def test_a_socket_is_closed_past_a_limit(make_server: Any, kind: str, form: str) -> None:
    server, seen = server_with(False, **{kind: rate_of(kind, 2, "close")})
    await make_server(server)
    async with connected(server) as client:
        packets = packets_of(client, kind, 5)
        await send(client, packets, form)
        if kind == "message" and form == "batch":
            await send(client, packets_of(client, kind, 2), "one by one")
        code, reason = await client.closed()
        assert code == 1008
        assert "is exceeded" in reason
        await until(lambda: server.rate_limits.limited[kind] == 1)
        assert len(seen.values) <= 6
        assert not server.clients


@EVERYWHERE
async def test_a_procedure_has_a_rate_of_its_own(make_server: Any) -> None:
    server, seen = server_with(
        procedures={"add": Rate(1, SLOW, 2)}, invoke=Rate(1, SLOW, 5), exceeded="pause"
    )
    await make_server(server)
    async with connected(server) as client:
        for name, data, expected in [
            ("add", 1, "done"),
            ("add", 2, "done"),
            ("add", 3, "RateLimitError"),
            ("later", 4, "done"),
            ("later", 5, "done"),
            ("add", 6, "RateLimitError"),
            ("later", 7, "done"),
        ]:
            packet = client.packet(name, data)
            answer = client.answer(packet)
            await send(client, [packet], "one by one")
            assert await outcome(answer) == expected
        await client.transmit("add", "an event is no call")
        assert seen.values == [1, 2, 4, 5, 7]
        assert server.rate_limits.limited["procedure"] == 2
        assert server.rate_limits.limited["invoke"] == 0


@pytest.mark.parametrize("version", [1, 2])
@EVERYWHERE
async def test_pongs_and_the_answers_to_calls_of_the_server_pass(
    make_server: Any, version: Literal[1, 2]
) -> None:
    server = AGServer(
        limits=Limits(message=Rate(1, SLOW)), protocol_version=version, drain_timeout=100
    )
    await make_server(server)
    async with connected(server) as client:
        pong = "#2" if version == 1 else ""
        for _ in range(5):
            await client.send(pong)
        (socket,) = server.clients.values()
        call = asyncio.create_task(socket.invoke("ask", 1))
        packet = await client.event()
        await client.send({"rid": packet["cid"], "data": "answer"})
        assert await soon(call) == "answer"
        assert server.rate_limits.limited["message"] == 1
        assert server.clients_count == 1


# Pausing, on a clock


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
@pytest.mark.parametrize("form", ["one by one", "at once", "batch"])
@pytest.mark.parametrize("ordinary", [False, True])
@pytest.mark.parametrize("kind", PACKETS)
async def test_a_pause_loses_nothing_and_holds_the_rate(
    make_server: Any, kind: str, ordinary: bool, form: str
) -> None:
    count, rate = 300, 20
    if kind == "bytes":
        limit = Rate(rate * 40, burst=40 * rate, exceeded="pause")
    else:
        limit = Rate(rate, exceeded="pause")
    server, seen = server_with(ordinary, **{kind: limit})
    await make_server(server)
    loop = asyncio.get_running_loop()
    async with connected(server) as client:
        began = loop.time()
        packets = packets_of(client, kind, count)
        times: list[float] = []
        for packet in packets:
            client.answer(packet).add_done_callback(lambda _: times.append(loop.time() - began))
        answers = [client.answer(packet) for packet in packets]
        await send(client, packets, form)
        await asyncio.gather(*answers)
        if kind in ("message", "bytes", "invoke"):
            assert seen.values == list(range(count)), "all, in order"
        assert len(times) == count
        if form == "batch" and kind in ("message", "bytes"):
            return  # It is one message.
        # One packet exceeds its limit before the reading pauses.
        size = len(json.dumps(packets[0], separators=(",", ":"))) if kind == "bytes" else 1
        for done, time in enumerate(sorted(times), 1):
            assert (done - 2) * size <= limit.burst + limit.count * time + 1e-3
        assert server.rate_limits.limited[kind] > 0
        await until(lambda: server.rate_limits.paused == 0)


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_a_paused_socket_is_read_from_each_second(make_server: Any) -> None:
    server, seen = server_with(invoke=Rate(1, 60, burst=1), exceeded="pause")
    await make_server(server)
    async with connected(server) as client:
        await client.call("add", 1)
        await client.call("add", 2)
        (socket,) = server.clients.values()
        flow = socket.inbound.flow_control
        await until(lambda: flow.paused)
        assert server.rate_limits.paused == 1
        await until(lambda: not flow.paused)
        call = asyncio.create_task(socket.invoke("ask", 1))
        packet = await client.event()
        await client.send({"rid": packet["cid"], "data": "answer"})
        assert await soon(call) == "answer", "answers are seen during a pause"
        await until(lambda: not flow.paused)
        await client.transmit("note", "waits")
        await until(lambda: flow.paused)
        assert seen.values == [1, 2]
        await asyncio.sleep(150)
        assert seen.values == [1, 2, "waits"]
        assert not flow.paused
        assert server.clients_count == 1, "a paused socket is not timed out"


@EVERYWHERE
async def test_the_last_words_of_a_paused_socket_are_carried_out(make_server: Any) -> None:
    server, seen = server_with(invoke=Rate(1, SLOW), exceeded="pause")
    await make_server(server)
    async with connected(server) as client:
        await send(client, packets_of(client, "invoke", 10), "at once")
        await until(lambda: server.rate_limits.paused == 1)
        await client.ws.close()
    await until(lambda: not server.clients)
    assert seen.values == list(range(10))
    assert server.rate_limits.paused == 0


@EVERYWHERE
async def test_closing_a_paused_socket_ends_its_pause(make_server: Any) -> None:
    server, _ = server_with(invoke=Rate(1, SLOW), exceeded="pause")
    await make_server(server)
    async with connected(server) as client:
        await send(client, packets_of(client, "invoke", 10), "at once")
        await until(lambda: server.rate_limits.paused == 1)
        (socket,) = server.clients.values()
        socket.disconnect(4500, "enough")
        assert await client.closed() == (4500, "enough")
        await until(lambda: server.rate_limits.paused == 0)
        assert not socket.inbound.flow_control.paused


@EVERYWHERE
@pytest.mark.parametrize("form", ["at once", "batch"])
async def test_closing_the_input_ends_the_pauses(make_server: Any, form: str) -> None:
    server, seen = server_with(invoke=Rate(1, SLOW), exceeded="pause")
    await make_server(server)
    async with connected(server) as client:
        packets = packets_of(client, "invoke", 10)
        answers = [client.answer(packet) for packet in packets]
        await send(client, packets, form)
        await until(lambda: server.rate_limits.paused == 1)
        (socket,) = server.clients.values()
        socket.close_input()
        for answer in answers:
            await soon(answer)
        assert seen.values == list(range(10))
        assert server.rate_limits.paused == 0


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_a_closing_server_carries_out_what_waits_in_a_pause(make_server: Any) -> None:
    server = AGServer(limits=Limits(invoke=Rate(1, SLOW), exceeded="pause"), drain_timeout=10_000)
    seen = Seen(server)
    await make_server(server)
    async with connected(server) as client:
        packets = packets_of(client, "invoke", 10)
        answers = [client.answer(packet) for packet in packets]
        await send(client, packets, "at once")
        await until(lambda: server.rate_limits.paused == 1)
        began = asyncio.get_running_loop().time()
        await server.close()
        assert asyncio.get_running_loop().time() - began < 9, "it did not take all of its time"
        for answer in answers:
            await soon(answer)
        assert seen.values == list(range(10))


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_a_pause_that_has_not_begun_ends_with_its_socket(make_server: Any) -> None:
    server, _ = server_with(invoke=Rate(1, SLOW), exceeded="pause")

    @server.procedure("leave")
    def leave(socket: AGServerSocket, data: Any) -> None:
        asyncio.get_running_loop().call_soon(socket.disconnect, 4500, "enough")

    await make_server(server)
    async with connected(server) as client:
        await client.call("add", 1)
        await client.send(client.packet("leave", None))
        assert await client.closed() == (4500, "enough")
    gc.collect()  # A coroutine that was not awaited would warn.
    assert server.rate_limits.paused == 0


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
@pytest.mark.parametrize("form", ["one by one", "batches"])
@pytest.mark.parametrize("refusing", ["bytes", "procedures"])
async def test_what_another_limit_refuses_counts_for_a_pause(
    make_server: Any, refusing: str, form: str
) -> None:
    refuses = Rate(1, SLOW, exceeded="error")
    limits = Limits(
        message=Rate(20, exceeded="pause"),
        bytes=refuses if refusing == "bytes" else None,
        procedures={"add": refuses} if refusing == "procedures" else {},
    )
    server = AGServer(limits=limits, drain_timeout=100)
    Seen(server)
    await make_server(server)
    loop = asyncio.get_running_loop()
    async with connected(server) as client:
        began = loop.time()
        packets = packets_of(client, "message", 200)
        for packet in packets:
            answer = client.answer(packet)
            await client.send([packet] if form == "batches" else packet)
            last = await outcome(answer)
        assert last != "done"
        await until(lambda: server.rate_limits.paused == 0)
        assert loop.time() - began > 8


@pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)
async def test_a_paused_flood_is_bounded(make_server: Any, running: Running) -> None:
    server = AGServer(
        limits=Limits(message=Rate(1, SLOW), exceeded="pause"),
        max_inbound_backlog=50,
        drain_timeout=100,
    )
    await make_server(server)
    async with connected(server) as client:

        async def flood() -> None:
            with contextlib.suppress(websockets.ConnectionClosed):
                while True:
                    await client.transmit("n", "x" * 1000)

        running.start(flood())
        await until(lambda: server.rate_limits.paused == 1)
        (socket,) = server.clients.values()
        flow = socket.inbound.flow_control
        await until(lambda: flow.paused)
        for _ in range(300):
            await asyncio.sleep(0)
        assert flow.size < 512 * 1024
        socket.terminate()


async def test_limits_that_are_off_take_no_part(make_server: Any) -> None:
    server = await make_server(limits=Limits(connections_per_ip=5))
    async with connected(server):
        (socket,) = server.clients.values()
        assert socket.rates is None
    assert set(server.rate_limits.limited) == {
        *("message", "invoke", "publish", "subscribe", "procedure", "bytes"),
        *("max_connections", "connections_per_ip", "connect_per_ip", "sockets_per_user"),
    }
