"""Requests that wait for their turn: early bytes, clients that leave, heads in pieces."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop
from websockets.frames import Frame, Opcode

from conformance.sites import REQUEST, Endpoint, Site
from socketcluster.engines import request_limits, uvicorn_http
from socketcluster.engines.request_limits import MAX_REQUEST_HEAD
from support import soon, until

PIECES = (REQUEST[:20], REQUEST[20:])
FRAME = Frame(Opcode.TEXT, b"early").serialize(mask=True)
ECHO = b"\x81\x05early"


class Held:
    """A site whose pace admits nothing until `go`."""

    def __init__(self, engine: str) -> None:
        self.site = Site(engine)
        self.pace = self.site.endpoint.pace
        self.pace._left = 0

    @property
    def waiting(self) -> int:
        return len(self.pace._waiting)

    @property
    def connections(self) -> set[object]:
        connections: set[object] = self.site.listeners[0]._server.server_state.connections
        return connections

    def go(self) -> None:
        self.pace._turn()


@pytest.fixture(params=["picows", "asgi"])
async def held(request: pytest.FixtureRequest) -> AsyncIterator[Held]:
    held = Held(request.param)
    await held.site.listen()
    yield held
    for listener in held.site.listeners:
        await listener.close()


picows_only = pytest.mark.parametrize("held", ["picows"], indirect=True)


async def test_bytes_that_arrive_meanwhile_are_kept(held: Held) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", held.site.port)
    writer.write(REQUEST)
    await until(lambda: held.waiting == 1)
    writer.write(FRAME)
    held.go()
    await soon(reader.readuntil(b"\r\n\r\n"))
    assert await soon(reader.readexactly(len(ECHO))) == ECHO
    writer.close()


async def test_a_client_that_leaves_meanwhile_is_not_opened(held: Held) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", held.site.port)
    writer.write(REQUEST)
    await until(lambda: held.waiting == 1)
    writer.transport.abort()
    await until(lambda: not held.connections and not held.site.listeners[0]._connections)
    reader, second = await asyncio.open_connection("127.0.0.1", held.site.port)
    second.write(REQUEST)
    await until(lambda: held.waiting == 2)
    held.go()
    assert b"101" in await soon(reader.readuntil(b"\r\n\r\n"))
    assert len(held.site.endpoint.requests) == 1
    second.close()


async def test_a_closing_server_ends_those_that_wait(held: Held) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", held.site.port)
    writer.write(REQUEST)
    await until(lambda: held.waiting == 1)
    await held.site.listeners[0].close()
    assert b"101" not in await soon(reader.read())
    held.go()
    await asyncio.sleep(0)
    assert held.site.endpoint.requests == []
    writer.close()


@picows_only
async def test_a_head_in_pieces_waits_too(held: Held) -> None:
    held.pace._left = 2  # One for the first bytes, which have no whole head.
    reader, writer = await asyncio.open_connection("127.0.0.1", held.site.port)
    writer.write(PIECES[0])
    await until(
        lambda: any(isinstance(c, uvicorn_http.UpgradingProtocol) for c in held.connections)
    )
    held.pace._left = 0
    writer.write(PIECES[1] + FRAME)
    await until(lambda: held.waiting == 1)
    held.go()
    await soon(reader.readuntil(b"\r\n\r\n"))
    assert await soon(reader.readexactly(len(ECHO))) == ECHO
    writer.close()


@picows_only
async def test_only_the_time_of_the_client_counts_for_its_head(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_limits, "HEAD_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", held.site.port)
    writer.write(PIECES[0])
    await until(lambda: held.waiting == 1)
    await asyncio.sleep(0.1)  # The server's time, however long it is.
    assert not reader.at_eof()
    held.go()
    # From now on it is the client's, and it is up at some time.
    assert await soon(reader.read()) == b""
    writer.close()


@picows_only
async def test_a_flood_of_early_bytes_pauses_reading(held: Held) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", held.site.port)
    writer.write(REQUEST)
    await until(lambda: held.waiting == 1)
    (opening,) = held.connections
    assert isinstance(opening, uvicorn_http.OpeningProtocol)
    frames = FRAME * (2 * MAX_REQUEST_HEAD // len(FRAME))
    writer.write(frames)
    await until(lambda: len(opening._waiting) > MAX_REQUEST_HEAD)
    assert not opening.transport.is_reading()
    held.go()
    await soon(reader.readuntil(b"\r\n\r\n"))
    answer = ECHO * (len(frames) // len(FRAME))
    assert await soon(reader.readexactly(len(answer))) == answer
    writer.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("engine", ["picows", "asgi"])
def test_a_turn_accepts_few_connections(
    engine: str, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def run() -> None:
        site = Site(engine)
        await site.listen()
        accepted: list[int] = []
        turn, marked = 0, False

        def next_turn() -> None:
            nonlocal turn, marked
            turn, marked = turn + 1, False

        class Counted(set[object]):
            """uvicorn's connections, each of which is added in `connection_made`."""

            def add(self, connection: object) -> None:
                nonlocal marked
                super().add(connection)
                accepted.append(turn)
                if not marked:
                    marked = True
                    asyncio.get_running_loop().call_soon(next_turn)

        site.listeners[0]._server.server_state.connections = Counted()
        clients = [socket.create_connection(("127.0.0.1", site.port), 5) for _ in range(200)]
        await until(lambda: len(accepted) == len(clients))
        assert max(Counter(accepted).values()) <= 16
        for client in clients:
            client.close()
        for listener in site.listeners:
            await listener.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


def test_the_pace_of_the_endpoint_is_asked() -> None:
    assert Endpoint().pace.limit == 16
