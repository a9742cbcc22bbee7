"""The life of a server: who may close it, and what waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from socketcluster import AGAction, AGServer, AGServerSocket
from socketcluster.errors import UsageError
from support import Running, connected, soon, until


@pytest.fixture
def over() -> asyncio.Event:
    """Set when the code behind `close()` has run."""
    return asyncio.Event()


async def test_a_spawned_handler_may_close_the_server(
    make_server: Any, running: Running, over: asyncio.Event
) -> None:
    """Guarantee 8: it is not cancelled, and does not wait for itself."""
    server: AGServer = await make_server()
    others: list[str] = []

    async def shutdown(socket: AGServerSocket) -> None:
        async for request in socket.procedure("shutdown"):
            request.end("bye")
            await server.close()
            over.set()

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            others.append("cancelled")

    async def connect(socket: AGServerSocket) -> None:
        server.spawn(shutdown(socket))

    running.on_connection(server, connect)
    server.spawn(other())
    async with connected(server) as client:
        assert await client.call("shutdown") == "bye"
        await soon(over.wait())
        assert (await client.closed())[0] == 1001
    assert others == ["cancelled"]
    await soon(server.serve_forever())


async def test_a_background_function_may_close_the_server(
    make_server: Any, over: asyncio.Event
) -> None:
    server = AGServer(drain_timeout=100)
    go = asyncio.Event()

    @server.background
    async def ends() -> None:
        await go.wait()
        await server.close()
        over.set()

    await make_server(server)
    go.set()
    await soon(server.serve_forever())
    await soon(over.wait())


async def test_middleware_may_close_the_server(make_server: Any, over: asyncio.Event) -> None:
    server = AGServer(drain_timeout=100)

    async def inbound(stream: Any) -> None:
        async for action in stream:
            if action.type == AGAction.TRANSMIT:
                await server.close()
                over.set()
            action.allow()

    server.set_middleware("inbound", inbound)
    await make_server(server)
    async with connected(server) as client:
        await client.transmit("close")
        assert (await client.closed())[0] == 1001
        await soon(over.wait())
    await soon(server.serve_forever())


async def test_handshake_middleware_may_close_the_server(
    make_server: Any, over: asyncio.Event
) -> None:
    server = AGServer(drain_timeout=100)

    async def handshake(stream: Any) -> None:
        async for action in stream:
            if action.type == AGAction.HANDSHAKE_SC:
                await server.close()
                over.set()
            action.allow()

    server.set_middleware("handshake", handshake)
    await make_server(server)
    async with connected(server, handshake=False) as client:
        await client.send(client.packet("#handshake", {}))
        assert (await client.closed())[0] == 1001
        await soon(over.wait())


async def test_those_that_close_it_when_they_are_cancelled_wait_for_nobody(
    make_server: Any,
) -> None:
    server: AGServer = await make_server()
    closed = 0

    async def closes(begin: Callable[[], Awaitable[Any]]) -> None:
        nonlocal closed
        try:
            await begin()
        finally:
            await server.close()
            closed += 1

    begin = asyncio.Event()
    server.spawn(closes(begin.wait))
    server.spawn(closes(asyncio.Event().wait))
    server.spawn(closes(asyncio.Event().wait))
    await asyncio.sleep(0)
    begin.set()
    await soon(server.serve_forever())
    await until(lambda: closed == 3)
    await soon(server.close())


async def test_what_was_spawned_in_the_turn_of_the_close(make_server: Any) -> None:
    """It never begins, and nothing complains of that."""
    server: AGServer = await make_server()

    async def handler() -> None:
        raise AssertionError

    server.spawn(handler()).cancel()
    server.spawn(handler()).cancel()
    await soon(server.close())


@pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)
async def test_an_http_request_may_close_the_server(make_server: Any, over: asyncio.Event) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await server.close()
            over.set()

    server = AGServer(app=app, drain_timeout=100)
    await make_server(server)
    _, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await soon(over.wait())
    await soon(server.serve_forever())
    writer.close()


async def test_serve_forever_wants_a_server_that_listens() -> None:
    server = AGServer()
    with pytest.raises(UsageError, match=r"call 'await server.listen\(port\)' first"):
        await server.serve_forever()
    # Started by an ASGI server, say, it has nothing of its own that listens.
    await server.start()
    serving = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0)
    assert not serving.done()
    await server.close()
    await soon(serving)
    await soon(server.serve_forever())


async def test_run_wants_a_loop_of_its_own() -> None:
    with pytest.raises(UsageError, match="one runs already"):
        AGServer().run(0)


async def test_a_close_that_fails_ends_serve_forever(make_server: Any) -> None:
    class FailingError(Exception):
        """A part that cannot be closed."""

    server: AGServer = await make_server()

    class Listener:
        port = None

        def stop_accepting(self) -> None:
            pass

        async def close(self) -> None:
            raise FailingError

    server.lifecycle.listening.listeners.append(Listener())
    serving = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0)
    with pytest.raises(FailingError):
        await server.close()
    await soon(serving)


async def test_stop_accepting_keeps_the_sockets(make_server: Any, running: Running) -> None:
    """A worker that is to be replaced stops accepting first; `close` then does the rest."""
    server: AGServer = await make_server()
    running.procedure(server, "add", lambda data: data + 1)
    async with connected(server) as client:
        server.lifecycle.stop_accepting()
        assert not server.is_ready
        assert await client.call("add", 1) == 2
        await soon(server.close())
        await client.closed()


async def test_any_source_may_know_peers(make_server: Any) -> None:
    server: AGServer = await make_server()
    assert not server.lifecycle.knows_peers
    server.lifecycle.add_peers(lambda: False)
    assert not server.lifecycle.knows_peers
    others = [True]
    server.lifecycle.add_peers(lambda: bool(others))
    assert server.lifecycle.knows_peers
    others.clear()
    assert not server.lifecycle.knows_peers


@pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)
async def test_a_server_that_accepts_again_runs_its_background_functions_once(
    make_server: Any,
) -> None:
    server: AGServer = await make_server()
    runs: list[str] = []

    def add(name: str) -> None:
        @server.background
        async def work() -> None:
            runs.append(name)
            await asyncio.Event().wait()

    add("first")
    async with connected(server):
        await server.close(keep_sockets_open=True)
        add("second")
        await server.listen(0)
        async with connected(server):
            assert server.clients_count == 2
        assert runs == ["first", "second"]
    await server.close()
    await server.listen(0)
    add("third")
    await until(lambda: runs == ["first", "second", "first", "second", "third"])
