"""Servers and clients are used from one loop. A call from another thread is refused before
anything has changed, also while the loop is busy, and `from_thread` is the way."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from functools import partial
from typing import Any

import pytest

from socketcluster import (
    AGClientSocket,
    AGServer,
    AGServerSocket,
    AsyncStreamEmitter,
    StreamDemux,
    WritableConsumableStream,
    testing,
)
from socketcluster.errors import InvalidActionError, UsageError
from socketcluster.literals import MiddlewareType
from socketcluster.runtime.loop_binding import LoopBinding, binding_of
from support import Running, soon, until


def in_thread(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What a call returns and raises in another thread. The loop of this one is busy meanwhile."""
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            result = call()
            if inspect.isawaitable(result):
                result = asyncio.run(_wait_for(result))
            outcome.append((result, None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="another")
    thread.start()
    thread.join()
    return outcome[0]


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class World:
    """A server and a client of it, each with a stream of what the other sends."""

    def __init__(self, server: AGServer, client: AGClientSocket) -> None:
        self.server = server
        self.exchange = server.exchange
        self.client = client
        (self.socket,) = server.clients.values()
        self.at_client = client.receiver("event").create_consumer()
        self.at_server = self.socket.receiver("event").create_consumer()
        self.news = client.subscribe("news").create_consumer()
        self.calls = self.socket.procedure("call").create_consumer()
        self.calls_back = client.procedure("call").create_consumer()

    async def works(self) -> None:
        """Everything goes both ways."""
        self.socket.transmit("event", 1)
        assert (await soon(self.at_client.next())).value == 1
        self.client.transmit("event", 2)
        assert (await soon(self.at_server.next())).value == 2
        self.exchange.transmit_publish("news", 3)
        assert (await soon(self.news.next())).value == 3
        self.client.transmit_publish("news", 4)
        assert (await soon(self.news.next())).value == 4
        for caller, calls in ((self.client, self.calls), (self.socket, self.calls_back)):
            call = asyncio.ensure_future(caller.invoke("call"))
            (await soon(calls.next())).value.end("done")
            assert await soon(call) == "done"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    server = AGServer()
    async with testing.connect(server) as client:
        found = World(server, client)
        await until(lambda: client.is_subscribed("news"))
        yield found
    await server.close()


async def _sleep(*_: Any) -> None:
    await asyncio.sleep(0)


class _Nothing:
    """Something to await that does not mind when nobody does."""

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from ()


SOCKET: dict[str, Callable[[World], Any]] = {
    "transmit": lambda w: w.socket.transmit("event", 0),
    "invoke": lambda w: w.socket.invoke("call", 0),
    "send": lambda w: w.socket.send("raw"),
    "disconnect": lambda w: w.socket.disconnect(),
    "terminate": lambda w: w.socket.terminate(),
    "kick_out": lambda w: w.socket.kick_out("news"),
    "kick_out all": lambda w: w.socket.kick_out(),
    "set_auth_token": lambda w: w.socket.set_auth_token({"a": 1}),
    "deauthenticate": lambda w: w.socket.deauthenticate(),
    "deauthenticate_self": lambda w: w.socket.deauthenticate_self(),
    "start_batch": lambda w: w.socket.start_batch(),
    "flush_batch": lambda w: w.socket.flush_batch(),
    "cancel_batch": lambda w: w.socket.cancel_batch(),
    "start_batching": lambda w: w.socket.start_batching(),
    "stop_batching": lambda w: w.socket.stop_batching(),
    "cancel_batching": lambda w: w.socket.cancel_batching(),
    "emit": lambda w: w.socket.emit("event", 0),
    "listener": lambda w: w.socket.listener("event").create_consumer(),
    "receiver": lambda w: w.socket.receiver("event").create_consumer(),
    "procedure": lambda w: w.socket.procedure("call").next(),
    "close_receiver": lambda w: w.socket.close_receiver("event"),
    "kill_procedure": lambda w: w.socket.kill_procedure("call"),
    "kill_all_receivers": lambda w: w.socket.kill_all_receivers(),
    "close_input": lambda w: w.socket.close_input(),
    "kill_output": lambda w: w.socket.kill_output(),
    "close_io": lambda w: w.socket.close_io(),
    "kill_all_streams": lambda w: w.socket.kill_all_streams(),
    "close_all_streams": lambda w: w.socket.close_all_streams(),
    "kill_all_middlewares": lambda w: w.socket.kill_all_middlewares(),
    "get_backpressure": lambda w: w.socket.get_backpressure(),
    "get_outbound_buffer_size": lambda w: w.socket.get_outbound_buffer_size(),
    "outbound_prepared": lambda w: w.socket.outbound_prepared_message_count,
    "return_": lambda w: w.at_server.return_(),
    "next": lambda w: w.at_server.next(),
    "anext": lambda w: w.at_server.__anext__(),
}
EXCHANGE: dict[str, Callable[[World], Any]] = {
    "transmit_publish": lambda w: w.exchange.transmit_publish("news", 0),
    "invoke_publish": lambda w: w.exchange.invoke_publish("news", 0),
    "channel transmit_publish": lambda w: w.exchange.channel("news").transmit_publish(0),
    "subscribe": lambda w: w.exchange.subscribe("news"),
    "unsubscribe": lambda w: w.exchange.unsubscribe("news"),
    "channel consumer": lambda w: w.exchange.channel("news").create_consumer(),
    "close_channel": lambda w: w.exchange.close_all_channels(),
    "kill_channel": lambda w: w.exchange.kill_all_channels(),
    "emit": lambda w: w.exchange.emit("event", 0),
}
SERVER: dict[str, Callable[[World], Any]] = {
    "spawn": lambda w: w.server.spawn(_Nothing()),
    "background": lambda w: w.server.background(_sleep),
    "listen": lambda w: w.server.listen(0),
    "start": lambda w: w.server.start(),
    "close": lambda w: w.server.close(),
    "set_middleware": lambda w: w.server.set_middleware("inbound", _sleep),
    "remove_middleware": lambda w: w.server.remove_middleware("inbound"),
    "set_codec_engine": lambda w: w.server.set_codec_engine(w.server.codec),
    "set_auth_engine": lambda w: w.server.set_auth_engine(w.server.auth),
    "emit": lambda w: w.server.emit("event", 0),
    "listener": lambda w: w.server.listener("connection").once(),
}
CLIENT: dict[str, Callable[[World], Any]] = {
    "transmit": lambda w: w.client.transmit("event", 0),
    "invoke": lambda w: w.client.invoke("call", 0),
    "send": lambda w: w.client.send("raw"),
    "connect": lambda w: w.client.connect(),
    "connect anew": lambda w: w.client.connect(ack_timeout=5),
    "disconnect": lambda w: w.client.disconnect(),
    "reconnect": lambda w: w.client.reconnect(),
    "wait_closed": lambda w: w.client.wait_closed(),
    "aenter": lambda w: w.client.__aenter__(),
    "subscribe": lambda w: w.client.subscribe("other"),
    "unsubscribe": lambda w: w.client.unsubscribe("news"),
    "process_pending_subscriptions": lambda w: w.client.process_pending_subscriptions(),
    "transmit_publish": lambda w: w.client.transmit_publish("news", 0),
    "invoke_publish": lambda w: w.client.invoke_publish("news", 0),
    "authenticate": lambda w: w.client.authenticate("x.y.z"),
    "deauthenticate": lambda w: w.client.deauthenticate(),
    "start_batch": lambda w: w.client.start_batch(),
    "flush_batch": lambda w: w.client.flush_batch(),
    "cancel_batch": lambda w: w.client.cancel_batch(),
    "start_batching": lambda w: w.client.start_batching(),
    "stop_batching": lambda w: w.client.stop_batching(),
    "cancel_batching": lambda w: w.client.cancel_batching(),
    "emit": lambda w: w.client.emit("event", 0),
    "receiver": lambda w: w.client.receiver("event").once(),
    "kill_channel": lambda w: w.client.kill_channel("news"),
    "next": lambda w: w.news.next(),
}
ENTRIES = [
    pytest.param(call, remedy, id=f"{kind} {name}")
    for kind, calls, remedy in (
        ("socket", SOCKET, "server.from_thread"),
        ("exchange", EXCHANGE, "server.from_thread"),
        ("server", SERVER, "server.from_thread"),
        ("client", CLIENT, "socket.from_thread"),
    )
    for name, call in calls.items()
]


@pytest.mark.parametrize(("call", "remedy"), ENTRIES)
@pytest.mark.parametrize("busy", [True, False])
async def test_a_call_from_a_thread_is_refused_and_changes_nothing(
    world: World, call: Callable[[World], Any], remedy: str, busy: bool
) -> None:
    def attempt() -> Any:
        return in_thread(lambda: call(world))

    result, error = attempt() if busy else await asyncio.to_thread(attempt)
    assert result is None
    assert type(error) is UsageError
    assert "'another'" in str(error)
    assert remedy in str(error)
    await world.works()


@pytest.mark.parametrize("answer", ["end", "error"])
@pytest.mark.parametrize("side", ["server", "client"])
async def test_an_answer_from_a_thread_is_refused_and_can_be_given_on_the_loop(
    world: World, answer: str, side: str
) -> None:
    caller, calls = (
        (world.client, world.calls) if side == "server" else (world.socket, world.calls_back)
    )
    call = asyncio.ensure_future(caller.invoke("call"))
    request = (await soon(calls.next())).value
    _, error = in_thread(lambda: getattr(request, answer)("x"))
    assert type(error) is UsageError
    assert not request.sent
    request.end("here")
    assert await soon(call) == "here"
    await world.works()


@pytest.mark.parametrize("decision", ["allow", "block"])
@pytest.mark.parametrize("line", ["handshake", "inboundRaw", "inbound", "outbound"])
async def test_a_decision_from_a_thread_is_refused_and_can_be_made_on_the_loop(
    running: Running, decision: str, line: MiddlewareType
) -> None:
    server = AGServer()
    refused: list[Any] = []

    async def middleware(stream: Any) -> None:
        async for action in stream:
            refused.append(in_thread(getattr(action, decision))[1])
            assert action.outcome is None
            action.allow()

    server.set_middleware(line, middleware)
    running.procedure(server, "echo")
    async with testing.connect(server) as client:
        client.subscribe("news")
        consumer = client.channel("news").create_consumer()
        await until(lambda: client.is_subscribed("news"))
        assert await client.invoke("echo", 1) == 1
        server.exchange.transmit_publish("news", 2)
        assert (await soon(consumer.next())).value == 2
    assert refused
    assert {type(error) for error in refused} == {UsageError}
    await server.close()


# Streams of one's own


def _own(kind: str) -> tuple[Any, Callable[..., Any], dict[str, Callable[[], Any]]]:
    """A consumer, how to write, and calls that change something."""
    if kind == "stream":
        stream = WritableConsumableStream[int]()
        consumer = stream.create_consumer()
        return (
            consumer,
            stream.write,
            {
                "write": lambda: stream.write(0),
                "write_tracked": lambda: stream.write_tracked(0, lambda: None),
                "close": stream.close,
                "kill": stream.kill,
                "write_to_consumer": lambda: stream.write_to_consumer(consumer.id, 0),
                "close_consumer": lambda: stream.close_consumer(consumer.id),
                "kill_consumer": lambda: stream.kill_consumer(consumer.id),
                "consume": stream.create_consumer,
                "return": consumer.return_,
            },
        )
    if kind == "demux":
        demux = StreamDemux[int]()
        consumer = demux.create_consumer("x")
        return (
            consumer,
            lambda n: demux.write("x", n),
            {
                "write": lambda: demux.write("x", 0),
                "write_tracked": lambda: demux.write_tracked("x", 0, lambda: None),
                "close": lambda: demux.close("x"),
                "close_all": demux.close_all,
                "kill": lambda: demux.kill("x"),
                "kill_all": demux.kill_all,
                "write_to_consumer": lambda: demux.write_to_consumer(consumer.id, 0),
                "close_consumer": lambda: demux.close_consumer(consumer.id),
                "kill_consumer": lambda: demux.kill_consumer(consumer.id),
                "consume": lambda: demux.create_consumer("x"),
                "unstream": lambda: demux.unstream("x"),
                "finish": demux.finish,
            },
        )
    emitter = AsyncStreamEmitter()
    consumer = emitter.listener("x").create_consumer()
    return (
        consumer,
        lambda n: emitter.emit("x", n),
        {
            "emit": lambda: emitter.emit("x", 0),
            "emit_tracked": lambda: emitter.emit_tracked("x", 0, lambda: None),
            "close_listener": lambda: emitter.close_listener("x"),
            "kill_all_listeners": emitter.kill_all_listeners,
            "remove_listener": lambda: emitter.remove_listener("x"),
        },
    )


@pytest.mark.parametrize("kind", ["stream", "demux", "emitter"])
async def test_a_stream_is_used_from_the_loop_of_its_consumers(kind: str) -> None:
    consumer, write, calls = _own(kind)
    waiting = asyncio.create_task(consumer.next())
    await asyncio.sleep(0)
    for name, call in calls.items():
        result, error = in_thread(call)
        assert (name, result, type(error)) == (name, None, UsageError)
        assert "call_soon_threadsafe" in str(error)
    assert consumer.get_backpressure() == 0
    write(1)
    assert (await soon(waiting)).value == 1


async def test_a_consumer_that_a_thread_drops_leaves_on_the_loop() -> None:
    stream = WritableConsumableStream[int]()
    held = [stream.create_consumer()]
    waiting = asyncio.create_task(held[0].next())
    await asyncio.sleep(0)
    stream.write(1)
    assert (await soon(waiting)).value == 1
    del waiting
    _, error = in_thread(held.clear)
    assert error is None
    assert stream.get_consumer_count() == 1
    await until(lambda: stream.get_consumer_count() == 0)


def test_streams_go_from_one_loop_to_the_next() -> None:
    stream = WritableConsumableStream[int]()
    consumer = stream.create_consumer()

    async def take() -> Any:
        waiting = asyncio.create_task(consumer.next())
        await asyncio.sleep(0)
        stream.write(1)
        return (await waiting).value

    assert asyncio.run(take()) == 1
    assert in_thread(take) == (1, None)
    stream.write(2)
    assert in_thread(lambda: consumer.next())[0].value == 2


# Finalizers


@pytest.mark.parametrize("side", ["server", "client"])
async def test_a_request_that_a_thread_drops_is_answered(world: World, side: str) -> None:
    caller, calls = (
        (world.client, world.calls) if side == "server" else (world.socket, world.calls_back)
    )
    call = asyncio.ensure_future(caller.invoke("call"))
    held = [(await soon(calls.next())).value]
    assert in_thread(held.clear)[1] is None
    await asyncio.wait({call})
    assert type(call.exception()).__name__ == "InternalServerError"
    await world.works()


async def test_an_action_that_a_thread_drops_is_blocked(running: Running) -> None:
    """Guarantee 5."""
    server = AGServer()

    async def middleware(stream: Any) -> None:
        async for action in stream:
            if action.type == action.INVOKE and action.data == "drop":
                held = [action]
                del action
                assert in_thread(held.clear)[1] is None
            else:
                action.allow()

    server.set_middleware(server.MIDDLEWARE_INBOUND, middleware)
    running.procedure(server, "echo")
    async with testing.connect(server) as client:
        call = asyncio.ensure_future(client.invoke("echo", "drop"))
        await asyncio.wait({call})
        assert type(call.exception()).__name__ == "SilentMiddlewareBlockedError"
        assert await soon(client.invoke("echo", 1)) == 1
    await server.close()


# Before the loop runs


def test_before_the_loop_runs_any_thread_may_use_a_server() -> None:
    server = AGServer()
    consumers: list[Any] = []

    def prepare() -> None:
        async def middleware(stream: Any) -> None:
            async for action in stream:
                action.allow()

        server.set_middleware(server.MIDDLEWARE_INBOUND, middleware)
        server.background(_sleep)
        consumers.append(server.listener("connection").create_consumer())
        consumers.append(server.exchange.subscribe("news").create_consumer())
        server.exchange.transmit_publish("news", 1)

    assert in_thread(prepare) == (None, None)

    async def serve() -> None:
        assert (await consumers[1].next()).value == 1
        async with testing.connect(server):
            assert (await consumers[0].next()).value.socket.state == "open"
        await server.close()

    asyncio.run(serve())


def test_a_closed_server_may_be_used_in_another_thread() -> None:
    server = AGServer()

    async def serve() -> bool:
        async with testing.connect(server) as client:
            server.exchange.subscribe("news")
            await client.invoke_publish("news", 1)
        await server.close()
        return True

    assert asyncio.run(serve())
    assert in_thread(serve) == (True, None)


# from_thread


async def answer_from_a_thread(server: AGServer, function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.to_thread(server.from_thread, function, *args)


async def test_from_thread_calls_on_the_loop(world: World) -> None:
    server = world.server
    loop_thread = threading.get_ident()
    assert await answer_from_a_thread(server, threading.get_ident) == loop_thread

    async def twice(value: int) -> int:
        await asyncio.sleep(0)
        assert threading.get_ident() == loop_thread
        return 2 * value

    assert await answer_from_a_thread(server, twice, 21) == 42
    await answer_from_a_thread(server, world.exchange.transmit_publish, "news", 5)
    assert (await soon(world.news.next())).value == 5
    await answer_from_a_thread(server, world.exchange.invoke_publish, "news", 6)
    assert (await soon(world.news.next())).value == 6
    client = await asyncio.to_thread(world.client.from_thread, world.client.get_state)
    assert client == "open"
    named = await asyncio.to_thread(lambda: server.from_thread(dict, a=1))
    assert named == {"a": 1}


async def test_from_thread_raises_what_the_function_raises(world: World) -> None:
    def fail() -> None:
        raise KeyError("x")

    async def fail_later() -> None:
        await asyncio.sleep(0)
        raise TimeoutError("of the function")

    with pytest.raises(KeyError, match="x"):
        await answer_from_a_thread(world.server, fail)
    with pytest.raises(TimeoutError, match="of the function"):
        await answer_from_a_thread(world.server, fail_later)


async def test_from_thread_keeps_the_context(world: World) -> None:
    variable = contextvars.ContextVar("variable", default="none")

    async def read() -> str:
        await asyncio.sleep(0)
        return variable.get()

    def work() -> Any:
        variable.set("of the thread")
        return world.server.from_thread(variable.get), world.server.from_thread(read)

    assert await asyncio.to_thread(work) == ("of the thread", "of the thread")


async def test_from_thread_waits_for_a_busy_loop(world: World) -> None:
    def work() -> Any:
        started.set()
        return world.server.from_thread(lambda: "done")

    started = threading.Event()
    waiting = asyncio.ensure_future(asyncio.to_thread(work))
    await asyncio.sleep(0)
    started.wait()
    time.sleep(0.3)  # noqa: ASYNC251
    assert await soon(waiting) == "done"


async def test_from_thread_on_the_loop_itself_raises_rather_than_waits(world: World) -> None:
    for owner in (world.server, world.client):
        with pytest.raises(UsageError, match="for other threads"):
            owner.from_thread(owner.get_all_listeners_backpressure)


@pytest.mark.parametrize("state", ["new", "closed", "loop ended"])
def test_from_thread_needs_a_running_server(state: str) -> None:
    server = AGServer()
    client = AGClientSocket(auto_connect=False)
    owners: list[Any] = [server, client] if state != "closed" else [server]

    async def serve() -> None:
        async with testing.connect(server):
            pass
        if state == "closed":
            await server.close()
            check()

    def check() -> None:
        for owner in owners:
            _, error = in_thread(partial(owner.from_thread, print))
            assert isinstance(error, UsageError)
            assert "server.listen" in str(error)

    if state != "new":
        asyncio.run(serve())
    check()


@pytest.mark.parametrize("how", ["cancelled", "never begun", "stopped"])
def test_from_thread_raises_when_the_loop_ends(how: str) -> None:
    binding = binding_of("AGServer", "server")
    begun = threading.Event()
    errors: list[BaseException] = []

    async def for_ever() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    def work() -> None:
        try:
            if how == "never begun":
                begun.set()
            binding.call(for_ever)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)

    async def main() -> None:
        binding.bind()
        thread.start()
        if how == "never begun":
            asyncio.get_running_loop().call_soon_threadsafe = (  # type: ignore[method-assign]
                lambda *args, **more: None  # type: ignore[assignment]
            )
            begun.wait()
        else:
            await asyncio.to_thread(begun.wait)

    if how == "stopped":
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    else:
        asyncio.run(main())
        thread.join()
    assert [type(error) for error in errors] == [InvalidActionError]


async def test_a_binding_is_to_one_loop_at_a_time() -> None:
    binding = LoopBinding("a thing", "Do something else.")
    assert binding.bind() is binding.bind() is asyncio.get_running_loop()

    async def bind() -> Any:
        return binding.bind()

    _, error = in_thread(bind)
    assert str(error) == (
        "The thread 'another' may not use a thing: only the thread of its event loop may. "
        "Do something else."
    )


async def test_a_socket_is_not_mute_after_a_failed_call_without_a_loop() -> None:
    """What is between a public call and the loop asks for the loop before it changes anything."""
    server = AGServer()
    async with testing.connect(server) as client:
        (socket,) = server.clients.values()
        consumer = client.receiver("x").create_consumer()

        def append(socket: AGServerSocket = socket) -> None:
            socket.outbound.send({"event": "x", "data": "from the thread"})

        assert isinstance(in_thread(append)[1], RuntimeError)
        socket.transmit("x", "on the loop")
        assert (await soon(consumer.next())).value == "on the loop"
    await server.close()
