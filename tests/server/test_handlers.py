"""Handlers of calls and of events of clients."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pydantic
import pytest

from socketcluster import AGServer, AGServerSocket, Router, testing
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import (
    InternalServerError,
    InvalidArgumentsError,
    RemoteError,
    SocketClusterError,
    UsageError,
)
from socketcluster.server import watchdog
from support import AnswerError, Client, Running, connected, soon, until
from transports import send_at_once

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)
CODECS = pytest.mark.parametrize("codec", [None, MinBinCodec()], ids=["JSON", "min-bin"])
LONG = "x" * 2000


class Add(msgspec.Struct):
    a: int
    b: int = 1
    note: str = ""


class Model(pydantic.BaseModel):
    a: int
    note: str = ""


class BusyError(SocketClusterError):
    """An error of the application."""

    public_fields = ("seconds",)

    def __init__(self, message: str = "", seconds: int = 0) -> None:
        super().__init__(message)
        self.seconds = seconds


async def refusal(client: Client, event: str, data: Any = None) -> dict[str, Any]:
    """The error that answers a call."""
    with pytest.raises(AnswerError) as refused:
        await client.call(event, data)
    wire: dict[str, Any] = refused.value.wire
    return wire


def into(found: list[Any]) -> Any:
    """A handler that keeps the data."""

    def handle(data: Any) -> None:
        found.append(data)

    return handle


def declare_many(server: AGServer) -> None:
    """Declare handlers of all kinds, which add."""

    @server.procedure("plain")
    def plain(data: Add) -> int:
        return data.a + data.b

    @server.procedure("async")
    async def asynchronous(data: Add) -> int:
        await asyncio.sleep(0)
        return data.a + data.b

    @server.procedure("thread", thread=True)
    def in_thread(data: Add) -> int:
        assert threading.current_thread() is not threading.main_thread()
        return data.a + data.b

    @server.procedure("model")
    def model(data: Model) -> Model:
        return Model(a=data.a + 1)

    @server.procedure("any")
    def anything(data):  # type: ignore[no-untyped-def]
        return data

    @server.procedure("optional")
    def optional(data: int | None = 5) -> int | None:
        return data

    @server.procedure("optional async")
    async def optional_async(data: int = 5) -> int:
        return data

    @server.procedure("optional any")
    def optional_any(data: Any = 5) -> Any:
        return data

    @server.procedure("nothing")
    def nothing() -> None: ...

    @server.procedure("socket")
    def socket_id(*, socket: AGServerSocket) -> str:
        return socket.id

    @server.procedure("parts")
    async def parts(it: AGServerSocket, server: AGServer, exchange: Any, data: Any = None) -> bool:
        return it.server is server and exchange is server.exchange

    server.procedure("partial")(functools.partial(plain, data=Add(0)))


@CODECS
async def test_calls_are_answered(codec: Any) -> None:
    async with AGServer(codec_engine=codec) as server:
        declare_many(server)
        async with testing.connect(server) as client:
            for name in ("plain", "async", "thread", "partial"):
                assert await client.invoke(name, {"a": 2}) == 3
                assert await client.invoke(name, {"a": 2, "b": 2, "note": LONG}) == 4
            assert await client.invoke("model", Model(a=1)) == {"a": 2, "note": ""}
            assert await client.invoke("model", {"a": 1, "note": LONG}) == {"a": 2, "note": ""}
            for value in ([1, {"a": None}], LONG, 0, False, None):
                assert await client.invoke("any", value) == value
            assert await client.invoke("nothing", {"ignored": True}) is None
            (socket,) = server.clients.values()
            assert await client.invoke("socket") == socket.id
            assert await client.invoke("parts") is True


@EVERYWHERE
async def test_missing_and_null_data_is_the_default(make_server: Any) -> None:
    server = AGServer()
    declare_many(server)
    await make_server(server)
    async with connected(server) as client:
        for name in ("optional", "optional async", "optional any"):
            for message in (
                '{"event":"%s","cid":%d}',
                '{"event":"%s","cid":%d,"data":null}',
                '{"event":"%s","cid":%d,"data":null,"more":"' + LONG + '"}',
            ):
                packet = client.packet(name)
                answer = client.answer(packet)
                await client.send(message % (name, packet["cid"]))
                assert await soon(answer) == 5, message
            assert await client.call(name, 7) == 7


class MyServer(AGServer):
    """A server of the application."""


async def test_a_subclass_is_asked_for_as_either_class(make_server: Any) -> None:
    server = MyServer()

    @server.procedure("by type")
    def by_type(own: MyServer, base: AGServer) -> bool:
        return own is base is server

    @server.procedure("by name")
    async def by_name(server: AGServer) -> bool:
        return isinstance(server, MyServer)

    await make_server(server)
    async with connected(server) as client:
        assert await client.call("by type")
        assert await client.call("by name")


# Order


class Gated:
    """Calls that wait until the test lets them go on."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[Any] = []
        self.cancelled: list[Any] = []
        self.gates: dict[Any, asyncio.Event] = {}

    async def handle(self, data: Any) -> Any:
        self.begun.append(data)
        self.gates[data] = asyncio.Event()
        try:
            await self.gates[data].wait()
        except asyncio.CancelledError:
            self.cancelled.append(data)
            raise
        self.ended.append(data)
        return data

    def release(self, *which: Any) -> None:
        for each in which:
            self.gates[each].set()


async def call_all(client: Client, name: str, values: Any) -> list[asyncio.Future[Any]]:
    """Call without waiting for the answers."""
    answers = []
    for value in values:
        packet = client.packet(name, value)
        answers.append(client.answer(packet))
        await client.send(packet)
    return answers


@EVERYWHERE
async def test_the_calls_of_a_socket_are_carried_out_one_after_the_other(make_server: Any) -> None:
    server, it = AGServer(), Gated()
    server.procedure("a")(it.handle)
    server.procedure("b")(it.handle)
    await make_server(server)
    async with connected(server) as one, connected(server) as other:
        first, second = await call_all(one, "a", ["1", "2"])
        await until(lambda: it.begun == ["1"])
        await call_all(one, "b", ["b"])  # Another name, and another socket, do not wait.
        await call_all(other, "a", ["other"])
        await until(lambda: sorted(it.begun) == ["1", "b", "other"])
        assert not first.done()
        it.release("1")
        assert await soon(first) == "1"
        await until(lambda: "2" in it.begun)
        it.release("2", "b", "other")
        assert await soon(second) == "2"


async def test_free_calls_are_carried_out_at_the_same_time(make_server: Any) -> None:
    server, it = AGServer(), Gated()
    server.procedure("a", order="free", at_once=2)(it.handle)
    await make_server(server)
    async with connected(server) as client:
        one, two, three = await call_all(client, "a", [1, 2, 3])
        await until(lambda: it.begun == [1, 2])
        it.release(2)
        assert await soon(two) == 2
        await until(lambda: it.begun == [1, 2, 3])
        it.release(1, 3)
        assert await soon(asyncio.gather(one, three)) == [1, 3]


async def test_of_those_that_wait_only_the_newest_is_handled(make_server: Any) -> None:
    server, it = AGServer(), Gated()
    server.receiver("a", order="latest")(it.handle)
    server.procedure("sync")(lambda: None)
    await make_server(server)
    async with connected(server) as client:
        for number in range(5):
            await client.transmit("a", number)
        await client.call("sync")
        await until(lambda: it.begun == [0])
        it.release(0)
        await until(lambda: it.begun == [0, 4])
        it.release(4)


async def test_declaring_another_handler_keeps_the_order(make_server: Any) -> None:
    server, it = AGServer(), Gated()
    server.procedure("a")(it.handle)

    @server.procedure("more")
    def declare() -> None:
        server.procedure(f"another {len(server.handlers.procedures)}")(print_)

    await make_server(server)
    async with connected(server) as client:
        one, two = await call_all(client, "a", [1, 2])
        await until(lambda: it.begun == [1])
        await client.call("more")
        (three,) = await call_all(client, "a", [3])
        await client.call("more")
        assert it.begun == [1]
        it.release(1)
        await until(lambda: it.begun == [1, 2])
        it.release(2)
        await until(lambda: it.begun == [1, 2, 3])
        it.release(3)
        assert await soon(asyncio.gather(one, two, three)) == [1, 2, 3]


def print_() -> None: ...


@CODECS
async def test_a_slow_call_is_cancelled_and_answered(codec: Any, caplog: Any) -> None:
    it = Gated()
    async with AGServer(codec_engine=codec) as server:
        server.procedure("a", timeout=20)(it.handle)
        server.receiver("b", timeout=20)(it.handle)
        async with testing.connect(server) as client:
            with pytest.raises(SocketClusterError, match=r"'a' took longer .* 0.02 s") as slow:
                await client.invoke("a", 1)
            assert slow.value.name == "TimeoutError"
            assert it.cancelled == [1]
            assert not caplog.records
            client.transmit("b", 2)
            await until(lambda: it.cancelled == [1, 2])
            await until(lambda: bool(caplog.records))
            assert "The handler of the event 'b' failed" in caplog.text


async def test_a_timeout_of_the_handlers_own_is_its_error(make_server: Any, caplog: Any) -> None:
    server = AGServer()

    @server.procedure("a", timeout=60_000)
    async def handle() -> None:
        raise TimeoutError("mine")

    await make_server(server)
    async with connected(server) as client:
        assert (await refusal(client, "a"))["name"] == "InternalServerError"
    assert "mine" in caplog.text


# Leaving


@EVERYWHERE
async def test_an_async_handler_runs_to_its_end_when_its_socket_leaves(
    make_server: Any, caplog: Any
) -> None:
    server, it, other = AGServer(), Gated(), Gated()
    server.procedure("a")(it.handle)
    server.procedure("b", cancel_on_disconnect=True)(other.handle)
    await make_server(server)
    async with connected(server) as client:
        await call_all(client, "a", [1, 2])
        await call_all(client, "b", [1, 2])
        await until(lambda: it.begun == other.begun == [1])
        (socket,) = server.clients.values()
    await until(lambda: other.cancelled == [1])
    await until(lambda: socket.handling is not None)
    it.release(1)
    await until(lambda: it.ended == [1])
    await until(lambda: not server._context.handling.tasks.messages)
    assert it.begun == other.begun == [1]  # What waits is dropped.
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.mark.parametrize("mode", ["close", "none"])
async def test_what_waits_is_carried_out_if_streams_are_not_killed(
    make_server: Any, mode: Any
) -> None:
    server, it = AGServer(socket_stream_cleanup_mode=mode), Gated()
    server.procedure("a")(it.handle)
    await make_server(server)
    async with connected(server) as client:
        await call_all(client, "a", [1, 2])
        await until(lambda: it.begun == [1])
    it.release(1)
    await until(lambda: it.begun == [1, 2])
    it.release(2)
    await until(lambda: not server._context.handling.tasks.messages)


@EVERYWHERE
async def test_a_drain_waits_for_handlers(make_server: Any) -> None:
    server, it = AGServer(drain_timeout=60_000), Gated()
    server.procedure("a")(it.handle)
    server.receiver("b")(it.handle)
    await make_server(server)
    async with connected(server) as client:
        (answer,) = await call_all(client, "a", ["call"])
        await client.transmit("b", "event")
        await until(lambda: len(it.begun) == 2)
        closing = asyncio.create_task(server.close())
        await until(lambda: not server.is_ready)
        it.release("call")
        assert await soon(answer) == "call"
        assert not closing.done()
        it.release("event")
        await soon(closing)
    assert sorted(it.ended) == ["call", "event"]


async def test_closing_cancels_the_handlers_that_are_left(make_server: Any) -> None:
    server, it = AGServer(drain_timeout=1), Gated()
    server.procedure("a")(it.handle)
    server.receiver("b", order="free")(it.handle)
    await make_server(server)
    async with connected(server) as client:
        await call_all(client, "a", [1, 2])
        await client.transmit("b", "event")
        await until(lambda: len(it.begun) == 2)
        await soon(server.close())
        assert sorted(it.cancelled, key=str) == [1, "event"]
        assert not server._context.handling.tasks.messages
    assert 2 not in it.begun


@EVERYWHERE
async def test_a_server_that_starts_again_handles_again(make_server: Any) -> None:
    server, it = AGServer(drain_timeout=1), Gated()
    server.procedure("a")(it.handle)
    server.procedure("b")(lambda: "b")
    await make_server(server)
    async with connected(server) as client:
        await call_all(client, "a", [1])
        await until(lambda: it.begun == [1])
        await soon(server.close())
    await make_server(server)
    async with connected(server) as client:
        (answer,) = await call_all(client, "a", [2])
        await until(lambda: it.begun == [1, 2])
        it.release(2)
        assert await soon(answer) == 2
        assert await client.call("b") == "b"


async def test_sockets_that_stay_open_keep_their_order_when_the_server_listens_again(
    make_server: Any,
) -> None:
    server, it = AGServer(), Gated()
    server.procedure("a")(it.handle)
    await make_server(server)
    async with connected(server) as client:
        await call_all(client, "a", [1])
        await until(lambda: it.begun == [1])
        await server.close(keep_sockets_open=True)
        server.procedure("late")(lambda: "late")
        assert await client.call("late") == "late"
        await server.start()
        (answer,) = await call_all(client, "a", [2])
        await client.call("late")
        assert it.begun == [1]
        it.release(1)
        await until(lambda: it.begun == [1, 2])
        it.release(2)
        assert await soon(answer) == 2


async def test_nothing_is_left_of_a_socket(make_server: Any) -> None:
    server = AGServer()

    @server.procedure("a")
    async def handle(socket: AGServerSocket) -> None:
        await asyncio.sleep(0)

    @server.provide(scope="socket")
    def provide(socket: AGServerSocket) -> Add:
        return Add(1)

    @server.receiver("b")
    def note(data: str, add: Add, socket: AGServerSocket) -> None: ...

    await make_server(server)
    async with connected(server) as client:
        await client.call("a")
        await client.transmit("b", "text")
        await client.call("a")
        (socket,) = server.clients.values()
        kept = weakref.ref(socket)
        del socket
    await until(lambda: not server.clients)
    handling = server._context.handling
    await until(lambda: not handling.running(()))
    await until(lambda: gc.collect() >= 0 and kept() is None)


# Receivers


@EVERYWHERE
async def test_loops_see_the_plain_value_after_the_handler(
    make_server: Any, running: Running
) -> None:
    server = AGServer()
    seen: list[Any] = []
    server.receiver("add")(_append(seen))
    server.procedure("sync")(lambda: None)

    async def loop(socket: AGServerSocket) -> None:
        async for data in socket.receiver("add"):
            seen.append(data)

    running.on_connection(server, loop)
    await asyncio.sleep(0)
    await make_server(server)
    async with connected(server) as client:
        for note in ("short", LONG):
            seen.clear()
            await client.transmit("add", {"a": 1, "note": note})
            await client.call("sync")
            await until(lambda: len(seen) == 2)
            assert seen == [Add(1, note=note), {"a": 1, "note": note}]


def _append(seen: list[Any]) -> Any:
    def handle(data: Add) -> None:
        seen.append(data)

    return handle


@CODECS
@pytest.mark.parametrize("note", ["", LONG])
async def test_typed_and_plain_values_in_both_codecs(
    codec: Any, note: str, running: Running
) -> None:
    seen: list[Any] = []
    async with AGServer(codec_engine=codec) as server:

        async def handle(data: Add) -> None:
            seen.append(data)

        server.receiver("add")(handle)

        @server.on("connection")
        def connection(event: Any) -> None:
            running.start(loop(event.socket))

        async def loop(socket: AGServerSocket) -> None:
            async for data in socket.receiver("add"):
                seen.append(data)

        async with testing.connect(server) as client:
            client.transmit("add", {"a": 1, "note": note})
            await until(lambda: len(seen) == 2)
            assert Add(1, note=note) in seen
            assert {"a": 1, "note": note} in seen


# Middleware, batches, last words, the handshake


async def rewrite(stream: Any) -> None:
    async for action in stream:
        if action.type == action.INVOKE and action.data == {"a": 5}:
            action.allow({"a": 50})
        elif action.data == {"a": 6}:
            action.block(BusyError("Not six", 6))
        elif action.data == {"a": 7}:
            error = SocketClusterError("silent")
            error.silent = True
            action.block(error)
        else:
            action.allow()


@EVERYWHERE
async def test_middleware_comes_before_the_handler(make_server: Any) -> None:
    server = AGServer()
    declare_many(server)
    await make_server(server)
    async with connected(server) as client:
        assert await client.call("plain", {"a": 5}) == 6
        server.set_middleware("inbound", rewrite)
        for name in ("plain", "async"):
            assert await client.call(name, {"a": 5}) == 51
            assert await client.call(name, {"a": 1, "note": LONG}) == 2
            found = await refusal(client, name, {"a": 6})
            assert (found["name"], found["seconds"]) == ("BusyError", 6)
        server.remove_middleware("inbound")
        assert await client.call("plain", {"a": 5}) == 6


@EVERYWHERE
async def test_raw_middleware_comes_before_the_handler(make_server: Any) -> None:
    server = AGServer()
    declare_many(server)
    await make_server(server)

    async def raw(stream: Any) -> None:
        async for action in stream:
            if "blocked" in action.data:
                action.block(SocketClusterError("no"))
            else:
                action.allow()

    seen: list[Any] = []
    server.receiver("note")(into(seen))
    async with connected(server) as client:
        server.set_middleware("inboundRaw", raw)
        await client.transmit("note", "blocked")
        await client.transmit("note", "fine")
        assert await client.call("plain", {"a": 1}) == 2
        assert seen == ["fine"]
        server.remove_middleware("inboundRaw")
        await client.transmit("note", "blocked")
        assert await client.call("plain", {"a": 1}) == 2
        assert seen == ["fine", "blocked"]


@EVERYWHERE
async def test_batches_are_handled_in_order(make_server: Any) -> None:
    server = AGServer()
    declare_many(server)
    seen: list[Any] = []
    server.receiver("note")(into(seen))
    await make_server(server)
    async with connected(server) as client:
        packets = [client.packet("plain", {"a": n}) for n in range(100)]
        answers = [client.answer(packet) for packet in packets]
        notes = [{"event": "note", "data": n} for n in range(100)]
        await client.send([each for pair in zip(packets, notes, strict=True) for each in pair])
        assert await soon(asyncio.gather(*answers)) == [n + 1 for n in range(100)]
        await until(lambda: seen == list(range(100)))


async def test_last_words_reach_the_handler(make_server: Any) -> None:
    server = AGServer()
    seen: list[Any] = []
    entered = asyncio.Event()
    gate = asyncio.Event()

    async def hold(stream: Any) -> None:
        async for action in stream:
            entered.set()
            await gate.wait()
            action.allow()

    server.middleware("inbound")(hold)
    server.procedure("a")(into(seen))
    await make_server(server)
    async with connected(server) as client:
        await call_all(client, "a", [1, 2])
        await soon(entered.wait())
        (socket,) = server.clients.values()
        await client.ws.close()
        await until(lambda: socket.state == "closed")
        gate.set()
        await until(lambda: seen == [1, 2])


async def test_no_handler_runs_before_the_handshake(make_server: Any) -> None:
    server = AGServer(strict_handshake=False)
    seen: list[Any] = []
    server.procedure("a")(into(seen))
    server.receiver("b")(into(seen))
    await make_server(server)
    async with connected(server, handshake=False) as client:
        found = await refusal(client, "a", 1)
        assert found["message"] == "Cannot handle a call before the handshake is complete"
        await client.transmit("b", 1)
        await client.handshake()
        await client.call("a", 2)
        assert seen == [2]


@EVERYWHERE
async def test_a_handshake_and_calls_in_one_segment(make_server: Any) -> None:
    server = AGServer()
    declare_many(server)
    await make_server(server)
    async with connected(server, handshake=False) as client:
        packets = [client.packet("#handshake", {})]
        packets += [client.packet("plain", {"a": n}) for n in range(100)]
        answers = [client.answer(packet) for packet in packets]
        send_at_once(client.ws, [json.dumps(packet) for packet in packets])
        found = await soon(asyncio.gather(*answers))
        assert found[1:] == [n + 1 for n in range(100)]


# Bad input


@CODECS
@pytest.mark.parametrize("name", ["plain", "async", "thread"])
@pytest.mark.parametrize("note", ["", LONG], ids=["short", "long"])
async def test_data_of_another_type_is_refused(
    codec: Any, name: str, note: str, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    async with AGServer(codec_engine=codec) as server:
        declare_many(server)
        warnings: list[Any] = []
        server.on("warning")(_note(warnings))
        async with testing.connect(server) as client:
            for data, path in (
                ({"a": "x", "note": note}, "$.a"),
                ({"note": note}, "$"),
                ({"a": 1, "b": [], "note": note}, "$.b"),
                ([note], "$"),
                (None, "$"),
                ({"a": 1.5, "note": note}, "$.a"),
            ):
                with pytest.raises(InvalidArgumentsError) as refused:
                    await client.invoke(name, data)
                assert "Expected" in str(refused.value) or "missing" in str(refused.value)
                assert refused.value.fields == {"path": path}
            assert await client.invoke(name, {"a": 1}) == 2
            assert server.handlers.procedures[name].invalid == 6
            assert len(warnings) == 6
            (socket,) = server.clients.values()
            assert not socket.messaging.unanswered
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert "Traceback" not in caplog.text


def _note(found: list[Any]) -> Any:
    def handle(event: Any) -> None:
        found.append(event)

    return handle


async def test_an_event_of_another_type_is_reported_and_counted(
    make_server: Any, caplog: Any
) -> None:
    server = AGServer()
    for name, function in (("plain", _append([])), ("async", Gated().handle)):
        server.receiver(name)(function)
    errors: list[Any] = []
    server.on("connection")(_listen_to_errors(errors))
    server.procedure("sync")(lambda: None)
    await make_server(server)
    async with connected(server) as client:
        await client.transmit("plain", "no")
        await client.transmit("plain", [LONG])
        await client.call("sync")
        assert server.handlers.receivers["plain"].invalid == 2
        await until(lambda: len(errors) == 2)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def _listen_to_errors(found: list[Any]) -> Any:
    def handle(event: Any, server: AGServer) -> None:
        async def loop() -> None:
            async for error in event.socket.listener("error"):
                found.append(error)

        server.spawn(loop())

    return handle


async def test_data_that_is_no_json_counts_as_malformed(make_server: Any) -> None:
    server = AGServer(max_malformed_messages=2)
    declare_many(server)
    await make_server(server)
    async with connected(server) as client:
        deep = "[" * 200 + "]" * 200
        for cid in range(3):
            await client.send(f'{{"event":"plain","cid":{cid},"data":{deep}}}')
        code, _ = await client.closed()
        assert code == 1008


async def test_the_handlers_own_errors_about_data_are_not_the_clients(make_server: Any) -> None:
    server = AGServer(max_malformed_messages=2)

    @server.procedure("a")
    def decode(socket: AGServerSocket) -> Any:
        return socket.decode("{no")

    @server.procedure("b")
    async def decode_async(socket: AGServerSocket) -> Any:
        return socket.decode("{no")

    await make_server(server)
    async with connected(server) as client:
        for _ in range(5):
            for name in ("a", "b"):
                assert (await refusal(client, name))["name"] == "InvalidMessageError"
    assert [each.invalid for each in server.handlers.procedures.values()] == [0, 0]


async def test_a_procedure_has_a_handler_or_loops(make_server: Any, running: Running) -> None:
    server = AGServer()
    declare_many(server)
    await make_server(server)
    async with connected(server):
        (socket,) = server.clients.values()
        place = r"\(.*test_handlers.py:\d+\)"
        with pytest.raises(
            UsageError, match=rf"'plain' has a handler, .*{place}, and a loop, .*\d"
        ):
            socket.procedure("plain")
        consumer = socket.procedure("loop").create_consumer()
        with pytest.raises(UsageError, match=rf"'loop' has a handler, .*print_ {place}"):
            server.procedure("loop")(print_)
        assert "loop" not in server.handlers.procedures
        consumer.return_()
        server.procedure("loop")(print_)


# Errors of handlers


def raising(error: BaseException) -> Any:
    def handle() -> None:
        raise error

    return handle


def raising_async(error: BaseException) -> Any:
    async def handle() -> None:
        raise error

    return handle


@CODECS
@pytest.mark.parametrize("kind", [raising, raising_async])
async def test_errors_reach_the_caller_as_far_as_they_are_meant(
    codec: Any, kind: Any, caplog: Any
) -> None:
    async with AGServer(codec_engine=codec) as server:
        server.procedure("busy")(kind(BusyError("Later", 5)))
        server.procedure("bug")(kind(KeyError("secret")))
        server.procedure("misuse")(kind(UsageError("secret")))
        async with testing.connect(server) as client:
            with pytest.raises(RemoteError, match="Later") as busy:
                await client.invoke("busy")
            assert (busy.value.name, busy.value.fields) == ("BusyError", {"seconds": 5})
            assert not caplog.records
            for name in ("bug", "misuse"):
                with pytest.raises(InternalServerError) as hidden:
                    await client.invoke(name)
                assert "secret" not in str(hidden.value)
                (record,) = caplog.records
                assert record.levelno == logging.ERROR
                assert f"The handler of '{name}' failed" in caplog.text
                assert "secret" in caplog.text
                assert "Traceback" in caplog.text
                caplog.clear()


@pytest.mark.parametrize("kind", [raising, raising_async])
async def test_the_cancellation_of_something_else_is_answered(
    make_server: Any, kind: Any, caplog: Any
) -> None:
    server = AGServer()
    server.procedure("a")(kind(asyncio.CancelledError()))
    server.receiver("b")(kind(asyncio.CancelledError()))
    server.procedure("sync")(lambda: "fine")
    await make_server(server)
    async with connected(server) as client:
        await client.transmit("b")
        assert (await refusal(client, "a"))["name"] == "InternalServerError"
        assert await client.call("sync") == "fine"
        await until(lambda: len(caplog.records) == 2)
        assert "CancelledError" in caplog.text


async def test_a_handler_that_cancels_itself_is_answered(make_server: Any, caplog: Any) -> None:
    server = AGServer()

    @server.procedure("a")
    async def handle() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    await make_server(server)
    async with connected(server) as client:
        answers = await call_all(client, "a", [1, 2])
        for answer in answers:
            with pytest.raises(AnswerError) as refused:
                await soon(answer)
            assert refused.value.wire["name"] == "InternalServerError"
    assert "A call of 'a' was dropped unanswered" in caplog.text


@CODECS
@pytest.mark.parametrize("wait", [False, True])
async def test_a_result_that_cannot_be_encoded(codec: Any, wait: bool, caplog: Any) -> None:
    async with AGServer(codec_engine=codec) as server:

        def plain() -> Any:
            return object()

        async def asynchronous() -> Any:
            return object()

        server.procedure("a")(asynchronous if wait else plain)
        async with testing.connect(server) as client:
            with pytest.raises(InternalServerError):
                await client.invoke("a")
            assert "EncodeError" in caplog.text
            (socket,) = server.clients.values()
            assert not socket.messaging.unanswered


async def inner() -> int:
    return 5


@pytest.mark.parametrize("kind", ["procedure", "receiver", "event"])
@pytest.mark.parametrize("wait", [False, True])
async def test_a_coroutine_that_nothing_awaits_is_an_error(
    make_server: Any, kind: str, wait: bool, caplog: Any
) -> None:
    def plain() -> Any:
        return inner()

    async def asynchronous() -> Any:
        return inner()

    server = AGServer()
    function = asynchronous if wait else plain
    if kind == "event":
        server.on("connection")(function)
    else:
        getattr(server, kind)("a")(function)
    await make_server(server)
    async with connected(server) as client:
        if kind == "procedure":
            assert (await refusal(client, "a"))["name"] == "InternalServerError"
        else:
            await client.transmit("a")
        await until(lambda: bool(caplog.records))
    assert "returned a coroutine, and nothing awaits it" in caplog.text


async def test_a_wrapper_of_an_async_function_is_awaited(make_server: Any) -> None:
    @functools.wraps(inner)
    def wrapper() -> Any:
        return inner()

    server = AGServer()
    server.procedure("a")(wrapper)
    await make_server(server)
    async with connected(server) as client:
        assert await client.call("a") == 5


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
async def test_a_thread_that_raises_stop_iteration_is_answered(make_server: Any) -> None:
    server = AGServer()

    @server.procedure("a", thread=True)
    def handle() -> None:
        next(iter(()))

    await make_server(server)
    async with connected(server) as client:
        assert (await refusal(client, "a"))["name"] == "InternalServerError"


# Bounds


@EVERYWHERE
@pytest.mark.parametrize("size", [0, 50_000])
async def test_a_flood_of_calls_to_a_slow_handler_pauses_reading(
    make_server: Any, size: int
) -> None:
    options = {"max_inbound_backlog_bytes": 400_000} if size else {"max_inbound_backlog": 20}
    server, it = AGServer(**options, drain_timeout=100), Gated()  # type: ignore[arg-type]

    @server.procedure("slow")
    async def slow(data: Any) -> None:
        await it.handle(len(it.begun))

    server.procedure("quick")(lambda: "quick")
    await make_server(server)
    async with connected(server) as flooding, connected(server) as other:
        socket = next(iter(server.clients.values()))
        sending = asyncio.create_task(call_all(flooding, "slow", ["x" * size] * 60))
        await until(lambda: socket.inbound.flow_control.paused)
        await until(lambda: len(it.begun) == 1)
        assert await other.call("quick") == "quick"
        assert (400_000 if size else -1) < socket.inbound.get_held_size() < 1_000_000
        for number in range(60):
            await until(lambda n=number: len(it.begun) > n)  # type: ignore[misc]
            it.release(number)
        answers = await soon(sending)
        assert await soon(asyncio.gather(*answers)) == [None] * 60
        assert not socket.inbound.flow_control.paused
        assert socket.inbound.get_held_size() == 0
        assert not socket.messaging.unanswered


# Handlers that do to their socket and server what they want


@EVERYWHERE
@pytest.mark.parametrize("wait", [False, True])
async def test_a_handler_may_disconnect_its_own_socket(
    make_server: Any, wait: bool, caplog: Any
) -> None:
    server = AGServer()
    seen: list[Any] = []

    def leave(socket: AGServerSocket) -> str:
        socket.disconnect(4100, "enough")
        return "unheard"

    async def leave_later(socket: AGServerSocket) -> str:
        await asyncio.sleep(0)
        return leave(socket)

    server.procedure("leave")(leave_later if wait else leave)
    server.receiver("note")(into(seen))
    await make_server(server)
    async with connected(server) as client:
        packets = [client.packet("leave"), {"event": "note", "data": 1}]
        send_at_once(client.ws, [json.dumps(packet) for packet in packets])
        assert await client.closed() == (4100, "enough")
    assert seen == ([1] if wait else [])
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.mark.parametrize("wait", [False, True])
async def test_a_handler_may_kill_the_streams_of_its_socket(make_server: Any, wait: bool) -> None:
    server = AGServer()

    def kill(socket: AGServerSocket) -> None:
        socket.kill_all_streams()

    async def kill_later(socket: AGServerSocket) -> None:
        await asyncio.sleep(0)
        socket.kill_all_streams()

    server.procedure("kill")(kill_later if wait else kill)
    await make_server(server)
    async with connected(server) as client:
        await call_all(client, "kill", [1, 2])
        (socket,) = server.clients.values()
        await until(lambda: socket.inbound.closed)
        socket.disconnect()
        await client.closed()


@EVERYWHERE
async def test_a_handler_may_close_its_server(make_server: Any) -> None:
    server = AGServer(drain_timeout=1)
    done: list[str] = []

    @server.provide(scope="socket")
    async def provide() -> AsyncIterator[Add]:
        yield Add(1)
        done.append("cleaned up")

    @server.procedure("close")
    async def close(add: Add) -> None:
        await server.close()
        done.append("closed")

    await make_server(server)
    async with connected(server) as client:
        await call_all(client, "close", [None])
        code, _ = await client.closed()
        assert code == 1001
    await until(lambda: done == ["closed", "cleaned up"])


async def test_a_background_function_may_declare_handlers(make_server: Any) -> None:
    server = AGServer()

    @server.background
    async def declare() -> None:
        server.procedure("a")(lambda: "a")

    await make_server(server)
    async with connected(server) as client:
        assert await client.call("a") == "a"


async def test_two_servers_of_one_router(make_server: Any) -> None:
    router = Router()

    @router.procedure("name")
    def name(server: AGServer) -> str:
        return type(server).__name__

    @router.procedure("slow name")
    async def slow_name(server: AGServer) -> str:
        return type(server).__name__

    servers = AGServer(), MyServer()
    for server in servers:
        server.include(router, prefix="x/")
        await make_server(server)
        async with connected(server) as client:
            for each in ("x/name", "x/slow name"):
                assert await client.call(each) == type(server).__name__


# The watchdog


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
@pytest.mark.parametrize("kind", ["procedure", "channel"])
async def test_a_blocked_loop_names_the_plain_handler(
    make_server: Any, monkeypatch: Any, caplog: Any, kind: str
) -> None:
    monkeypatch.setattr(watchdog, "LATE_SECONDS", 0.1)
    server = AGServer(ping_interval=80)  # So that it ticks a hundred times a second.

    @getattr(server, kind)("compute")  # type: ignore[untyped-decorator]
    def compute() -> None:
        time.sleep(0.3)

    await make_server(server)
    start = server.ticker.time
    await until(lambda: server.ticker.time > start + 0.1)
    async with connected(server) as client:
        if kind == "procedure":
            await client.call("compute")
        else:
            await client.call("#subscribe", {"channel": "compute"})
        handling = server._context.handling
        await until(lambda: handling.latest is None and bool(caplog.records))
    assert "The last plain handler was test_a_blocked_loop" in caplog.text
    assert "test_handlers.py:" in caplog.text
