"""Which connections a server takes, and how many handshakes in one turn of the event loop."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from socketcluster import AGServer
from socketcluster.errors import InvalidOptionsError
from support import until

STORM = 500
REQUEST = (
    b"GET /socketcluster/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
OVER_NETWORK = pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)


class Counting:
    """An auth engine that counts the handshakes of each turn; it knows no token."""

    def __init__(self) -> None:
        self.turn = 0
        self.opened: list[int] = []
        self.verified: list[int] = []
        self._marked = False

    def count(self, what: list[int]) -> None:
        what.append(self.turn)
        if not self._marked:
            self._marked = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self.turn += 1
        self._marked = False

    async def verify_token(self, token: str, key: Any, options: Any) -> Any:
        self.count(self.verified)
        raise ValueError("unknown")

    async def sign_token(self, token: Any, key: Any, options: Any) -> str:
        raise NotImplementedError


class CountedServer(AGServer):
    """Counts the sockets made in each turn."""

    counting: Counting

    def generate_id(self) -> str:
        self.counting.count(self.counting.opened)
        return super().generate_id()


def most(turns: list[int]) -> int:
    return max(Counter(turns).values())


class Crowd:
    """Clients without a loop of their own, so that what they send arrives in one turn."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def connect(self, server: AGServer, count: int = 1, request: bytes = REQUEST) -> None:
        for _ in range(count):
            self.sockets.append(socket.create_connection(("127.0.0.1", server.source_port), 5))
        self.send(request)

    def send(self, data: bytes) -> None:
        for each in self.sockets:
            each.sendall(data)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    for each in crowd.sockets:
        each.close()


def packet(**fields: Any) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(fields).encode()).serialize(mask=True)


HANDSHAKE = packet(event="#handshake", data={"authToken": "of nobody"}, cid=1)


@OVER_NETWORK
async def test_a_storm_is_handled_a_few_handshakes_a_turn(make_server: Any, crowd: Crowd) -> None:
    counting = Counting()
    server = CountedServer(auth_engine=counting, ping_timeout_disabled=True)
    server.counting = counting
    await make_server(server)
    during: list[int] = []
    server.procedure("where")(lambda: during.append(len(counting.opened + counting.verified)))
    connected = Crowd()
    connected.connect(server)
    await until(lambda: server.pending_clients_count == 1)
    connected.send(HANDSHAKE)
    await until(lambda: server.clients_count == 1)

    crowd.connect(server, STORM)
    connected.send(packet(event="where", cid=2))
    await until(lambda: server.pending_clients_count == STORM)
    crowd.send(HANDSHAKE)
    connected.send(packet(event="where", cid=3))
    await until(lambda: server.clients_count == STORM + 1)

    assert most(counting.opened) <= 16
    assert most(counting.verified) <= 16
    assert len(counting.opened) == len(counting.verified) == STORM + 1
    assert during[0] < STORM / 2  # It did not wait for the storm's requests,
    assert during[1] < STORM * 3 / 2  # nor for its handshakes.
    connected.sockets[0].close()


@OVER_NETWORK
async def test_a_handshake_that_waits_for_its_turn_is_not_timed_out(
    make_server: Any, crowd: Crowd
) -> None:
    server = await make_server(ping_timeout_disabled=True)
    pace = server._context.handshake_pace
    crowd.connect(server, 2)
    await until(lambda: server.pending_clients_count == 2)
    pace._left = 0  # As if this turn had no place left, until `_turn` is called.
    crowd.sockets[0].sendall(HANDSHAKE)
    await until(lambda: len(pace._waiting) == 1)
    server.keepalive.tick(server.ticker.now + 1000)
    await until(lambda: server.pending_clients_count == 1)  # The silent one was closed.
    pace._turn()
    await until(lambda: server.clients_count == 1)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "16"])
def test_handshakes_per_turn_is_a_number_above_0(value: Any) -> None:
    with pytest.raises(InvalidOptionsError, match="handshakes_per_turn"):
        AGServer(handshakes_per_turn=value)
