"""The drain of a closing server: guarantee 8."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import Any

import pytest

from socketcluster import AGServer, AGServerSocket, testing
from socketcluster.errors import BadConnectionError, InvalidOptionsError
from support import Client, Running, connected, soon, until
from transports import dial

EVERY_ENGINE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)


async def shaken(server: AGServer) -> Client:
    client = Client(await dial(server))
    await client.handshake()
    return client


def echo(data: Any) -> Any:
    return data


def no_status(server: AGServer) -> int:
    """What a client sees of a close without a code: ASGI always sends one."""
    return 4001 if type(server.engine).__name__ == "AsgiEngine" else 1005


def times_of_closes(server: AGServer, running: Running) -> list[float]:
    """The seconds from now to each close of a socket."""
    loop = asyncio.get_running_loop()
    started, times = loop.time(), list[float]()
    closures = server.listener("closure").create_consumer()

    async def take() -> None:
        async for _ in closures:
            times.append(loop.time() - started)

    running.start(take())
    return times


@EVERY_ENGINE
async def test_a_process_that_knows_peers_closes_without_a_code(
    make_server: Any, running: Running
) -> None:
    server: AGServer = await make_server()
    server.lifecycle.add_peers(lambda: True)
    disconnections = running.collect(server.listener("disconnection"))
    warnings = running.collect(server.listener("warning"))
    async with connected(server) as client, connected(server, handshake=False) as pending:
        await soon(server.close())
        expected = no_status(server)
        assert (await client.closed())[0] == expected
        assert (await pending.closed())[0] == expected
    assert [event.code for event in disconnections] == [1005]
    assert warnings == []


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_a_process_alone_closes_with_1001(make_server: Any) -> None:
    server: AGServer = await make_server()
    server.lifecycle.add_peers(lambda: False)
    async with connected(server) as client:
        await soon(server.close())
        assert await client.closed() == (1001, "The server is closing")


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
@pytest.mark.parametrize(("code", "seen"), [(1005, 1005), (1001, 1001), (4123, 4123)])
async def test_the_code_may_be_chosen(make_server: Any, code: int, seen: int) -> None:
    server: AGServer = await make_server(drain_code=code)
    server.lifecycle.add_peers(lambda: seen != 1005)  # It makes no difference.
    async with connected(server) as client:
        await soon(server.close())
        assert (await client.closed())[0] == seen


@pytest.mark.parametrize("code", [None, 999, 1004, 1006, 1015, 5000, True, 1001.0, "1001", "none"])
def test_other_codes_are_refused(code: Any) -> None:
    with pytest.raises(InvalidOptionsError, match="drain_code option must be 'auto', 1005"):
        AGServer(drain_code=code)


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_the_sockets_are_closed_one_after_the_other(
    make_server: Any, running: Running
) -> None:
    """2,000 sockets take 4 s, and every tenth of a second has its share."""
    server: AGServer = await make_server(drain_timeout=10_000)
    clients = [await shaken(server) for _ in range(2000)]
    loop = asyncio.get_running_loop()
    started = loop.time()
    times = times_of_closes(server, running)
    await server.close()
    assert len(times) == 2000
    assert 3.9 < max(times) < 4.1
    shares = Counter(math.floor(time * 10) for time in times)
    assert max(shares.values()) <= 60
    assert loop.time() - started < 4.5
    for client in clients:
        await client.close()


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
@pytest.mark.parametrize(
    "options",
    [
        {"drain_spread": 500, "drain_timeout": 10_000},
        {"drain_spread": 10_000, "drain_timeout": 500},
    ],
)
async def test_the_spread_is_bounded(make_server: Any, running: Running, options: Any) -> None:
    """The rate rises, also if `drain_timeout` is shorter: the last ones would leave together."""
    server: AGServer = await make_server(**options)
    clients = [await shaken(server) for _ in range(1000)]
    times = times_of_closes(server, running)
    await server.close()
    assert len(times) == 1000
    assert 0.4 < max(times) < 0.55
    assert max(Counter(math.floor(time * 10) for time in times).values()) <= 250
    for client in clients:
        await client.close()


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
@pytest.mark.parametrize("clients", [0, 3])
async def test_few_sockets_do_not_wait(make_server: Any, clients: int) -> None:
    server: AGServer = await make_server(drain_timeout=10_000)
    dialed = [await shaken(server) for _ in range(clients)]
    loop = asyncio.get_running_loop()
    started = loop.time()
    await server.close()
    assert loop.time() - started < 0.02
    for client in dialed:
        await client.close()


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_a_socket_that_calls_is_closed_right_after_an_answer(
    make_server: Any, running: Running
) -> None:
    """If its client finds another server. A socket that is silent waits for a second."""
    server: AGServer = await make_server(drain_timeout=10_000)
    server.lifecycle.add_peers(lambda: True)
    server.procedure("echo")(echo)
    loop = asyncio.get_running_loop()
    async with connected(server) as silent, connected(server) as calling:
        times = times_of_closes(server, running)
        started = loop.time()
        closing = asyncio.create_task(server.close())
        await asyncio.sleep(0.5)
        assert times == []
        assert await calling.call("echo", 1) == 1
        await calling.closed()
        assert loop.time() - started < 0.6
        await silent.closed()
        assert 1 <= loop.time() - started < 1.1
        await soon(closing)


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_two_that_close_share_the_pace(make_server: Any) -> None:
    server: AGServer = await make_server(drain_timeout=10_000)
    clients = [await shaken(server) for _ in range(1000)]
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(server.close(), server.close())
    assert 1.9 < loop.time() - started < 2.5
    for client in clients:
        await client.close()


@EVERY_ENGINE
async def test_a_call_that_was_received_is_answered_before_the_close(
    make_server: Any,
) -> None:
    """Also one that is received while an earlier one still holds the socket open."""
    server = AGServer(drain_timeout=60_000)
    gates = {"first": asyncio.Event(), "second": asyncio.Event()}
    begun: list[str] = []

    @server.procedure("slow", order="free")
    async def slow(data: str) -> str:
        begun.append(data)
        await gates[data].wait()
        return data

    await make_server(server)
    async with connected(server) as idle, connected(server) as client:
        first = client.answer(packet := client.packet("slow", "first"))
        await client.send(packet)
        await until(lambda: begun == ["first"])
        closing = asyncio.create_task(server.close())
        await idle.closed()
        second = client.answer(packet := client.packet("slow", "second"))
        await client.send(packet)
        await until(lambda: begun == ["first", "second"])
        gates["first"].set()
        assert await soon(first) == "first"
        assert client.ws.close_code is None
        gates["second"].set()
        assert await soon(second) == "second"
        assert (await client.closed())[0] == 1001
        await soon(closing)


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_a_call_is_answered_or_was_not_carried_out(make_server: Any) -> None:
    """Clients that call all the time: the server answers what it has carried out."""
    server = AGServer(drain_timeout=1_000)
    carried_out: list[int] = []

    @server.procedure("count")
    async def count(data: int) -> int:
        carried_out.append(data)
        await asyncio.sleep(0.003)
        return data

    await make_server(server)
    answered: list[int] = []

    async def calls(client: Client, first: int) -> None:
        for number in range(first, first + 1_000_000):
            try:
                answered.append(await client.call("count", number))
            except BadConnectionError:
                return
            await asyncio.sleep(0.002)

    clients = [await shaken(server) for _ in range(200)]
    tasks = [
        asyncio.create_task(calls(client, index * 1_000_000))
        for index, client in enumerate(clients)
    ]
    await asyncio.sleep(0.1)
    before = len(answered)
    await server.close()
    for client in clients:
        await client.closed()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert before > 200
    assert len(answered) > before
    assert sorted(carried_out) == sorted(answered)
    for client in clients:
        await client.close()


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_a_socket_that_is_never_idle_is_closed_between_its_calls(make_server: Any) -> None:
    """After half of `drain_timeout` the calls under way are the last ones."""
    server = AGServer(drain_timeout=10_000)
    carried_out, answered = 0, 0

    @server.procedure("slow", order="free")
    async def slow() -> None:
        nonlocal carried_out
        carried_out += 1
        await asyncio.sleep(1)

    await make_server(server)
    client = await shaken(server)

    async def calls() -> None:
        nonlocal answered
        while True:
            await client.call("slow")
            answered += 1

    tasks = []
    for _ in range(5):
        tasks.append(asyncio.create_task(calls()))
        await asyncio.sleep(0.2)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await server.close()
    assert 5 < loop.time() - started < 6.5
    await client.closed()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert carried_out == answered
    await client.close()


async def test_drain_timeout_ends_calls_that_have_no_answer(
    make_server: Any, running: Running
) -> None:
    server: AGServer = await make_server(drain_timeout=50)
    begun = asyncio.Event()

    async def never(socket: AGServerSocket) -> None:
        async for request in socket.procedure("never"):
            begun.set()
            await asyncio.Event().wait()
            request.end()

    running.on_connection(server, never)
    async with connected(server) as client:
        await client.send(client.packet("never"))
        await soon(begun.wait())
        await soon(server.close())
        assert (await client.closed())[0] == 1001


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_drain_delay_goes_on_accepting(make_server: Any, running: Running) -> None:
    server: AGServer = await make_server(drain_delay=5000)
    running.procedure(server, "echo")
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with connected(server) as early:
        closing = asyncio.create_task(server.close())
        await until(lambda: not server.is_ready)
        async with connected(server) as late:
            assert await late.call("echo", 1) == 1
            assert await early.call("echo", 2) == 2
            again = asyncio.create_task(server.close())
            await soon(closing)
            await soon(again)
            assert 5 <= loop.time() - started < 5.5
            await late.closed()
        await early.closed()
    await server.start()
    assert server.is_ready


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_stop_accepting_ends_the_delay(make_server: Any) -> None:
    server: AGServer = await make_server(drain_delay=3_600_000)
    loop = asyncio.get_running_loop()
    started = loop.time()
    closing = asyncio.create_task(server.close())
    await until(lambda: not server.is_ready)
    await server.close(keep_sockets_open=True)
    await soon(closing)
    assert loop.time() - started < 10


@EVERY_ENGINE
async def test_an_application_closes_without_a_code(make_server: Any, running: Running) -> None:
    server: AGServer = await make_server()
    warnings = running.collect(server.listener("warning"))
    events: list[Any] = []

    async def leave(socket: AGServerSocket) -> None:
        socket.transmit("last")
        consumers = [socket.listener(name).create_consumer() for name in ("disconnect", "close")]
        socket.disconnect(None, "Come again")
        for consumer in consumers:
            event = await anext(consumer)
            events.append((event.code, event.reason))

    running.on_connection(server, leave)
    async with connected(server) as client:
        assert (await client.event())["event"] == "last"
        assert await client.closed() == (no_status(server), "")
        await until(lambda: len(events) == 2)
    assert events == [(1005, "Come again")] * 2
    assert warnings == []


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_a_client_of_this_package_comes_back_at_once(make_server: Any) -> None:
    """At once is within a second, so that the clients of a node do not arrive together."""
    server: AGServer = await make_server()
    loop = asyncio.get_running_loop()
    async with testing.connect(server) as client:
        connects = client.listener("connect").create_consumer()
        started = loop.time()
        next(iter(server.clients.values())).disconnect(None)
        await anext(connects)
        assert loop.time() - started <= 1.1
