"""A client that leaves in the loop turn of its message leaves nothing behind: no coroutine that was
never awaited, no subscription, no task. Warnings are errors, those of the interpreter too."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.test_broker_failures import FailingBroker
from socketcluster import AGServer, AGServerSocket
from socketcluster.brokers.base import BrokerListener
from socketcluster.codecs.json import JSONCodec
from support import until
from transports import MemoryWebSocket, dial

HANDSHAKE = {"event": "#handshake", "data": {"authToken": None}, "cid": 1}

PACKETS = {
    "handshake": HANDSHAKE,
    "handshake with a token": {"event": "#handshake", "data": {"authToken": "a.b.c"}, "cid": 2},
    "authenticate": {"event": "#authenticate", "data": "a.b.c", "cid": 2},
    "remove token": {"event": "#removeAuthToken", "cid": 2},
    "subscribe": {"event": "#subscribe", "data": {"channel": "a"}, "cid": 2},
    "unsubscribe": {"event": "#unsubscribe", "data": "b", "cid": 2},
    "publish": {"event": "#publish", "data": {"channel": "a", "data": 1}, "cid": 2},
    "call": {"event": "add", "data": 1, "cid": 2},
    "transmit": {"event": "hello", "data": 1},
    "answer": {"rid": 1, "data": 1},
}


class LaterBroker(FailingBroker):
    """Does everything later, in coroutines."""

    def __init__(self) -> None:
        super().__init__(OSError(), True)
        self.subscribed: set[str] = set()

    async def _change(self, channel: str, wanted: bool) -> None:
        await asyncio.sleep(0)
        (self.subscribed.add if wanted else self.subscribed.discard)(channel)

    def subscribe(self, channel: str) -> Any:
        return self._change(channel, True)

    def unsubscribe(self, channel: str) -> Any:
        return self._change(channel, False)

    def publish(self, channel: str, payload: bytes) -> Any:
        return asyncio.sleep(0)

    def attach(self, listener: BrokerListener) -> None:
        self.listener = listener


async def allow(stream: Any) -> None:
    async for action in stream:
        await asyncio.sleep(0)
        action.allow()


async def hold(stream: Any) -> None:
    async for _ in stream:
        await asyncio.Event().wait()


MIDDLEWARE = {"none": None, "allows later": allow, "never decides": hold}


@pytest.fixture
async def left_behind() -> AsyncIterator[list[str]]:
    """What the loop was told of, and that no task is left at the end."""
    faults: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context["message"]))
    yield faults
    gc.collect()
    assert faults == []


def leave(how: str, ws: MemoryWebSocket, socket: AGServerSocket) -> None:
    if how == "close frame":
        ws.transport.close(1000, "")
    elif how == "line breaks":
        ws.transport.abort()
    else:
        socket.disconnect()


FORMS = ["alone", "in a batch", "in a long batch", "behind another"]
HOWS = ["close frame", "line breaks", "disconnect"]
CASES = [
    (kind, middleware, form, HOWS[(a + b + c) % len(HOWS)])
    for a, kind in enumerate(PACKETS)
    for b, middleware in enumerate(MIDDLEWARE)
    for c, form in enumerate(FORMS)
]
"""Any three of a packet's kind, middleware, a form and a way to leave meet in one of these."""


@pytest.mark.parametrize(("kind", "middleware", "form", "how"), CASES)
async def test_nothing_is_left_behind(
    left_behind: list[str], kind: str, middleware: str, form: str, how: str
) -> None:
    broker = LaterBroker()
    server = AGServer(broker_engine=broker, last_words_timeout=50)
    function = MIDDLEWARE[middleware]
    if function is not None:
        server.set_middleware(server.MIDDLEWARE_INBOUND, function)
        server.set_middleware(server.MIDDLEWARE_INBOUND_RAW, allow)
    await server.start()
    ws = await dial(server)
    assert isinstance(ws, MemoryWebSocket)
    (socket,) = server.pending_clients.values()
    encode = JSONCodec().encode
    if not kind.startswith("handshake"):
        await ws.send(_text(encode(HANDSHAKE)))
        await until(lambda: server.clients_count == 1)
    packet = PACKETS[kind]
    message: Any = {
        "alone": packet,
        "in a batch": [packet, packet],
        "in a long batch": [packet] * 50,
        "behind another": packet,
    }[form]
    if form == "behind another":
        socket.inbound.message(_bytes(encode(PACKETS["subscribe"])))
    socket.inbound.message(_bytes(encode(message)))
    leave(how, ws, socket)
    await until(lambda: socket.life.ended)
    await until(lambda: ws.close_code is not None)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not broker.subscribed
    assert server.clients_count == server.pending_clients_count == 0
    await server.close()
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert others == set()


def _text(message: str | bytes) -> str:
    return message if isinstance(message, str) else message.decode()


def _bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


async def test_a_spawned_coroutine_that_never_began_is_closed(left_behind: list[str]) -> None:
    server = AGServer()
    await server.start()
    server.spawn(asyncio.sleep(1))
    await server.close()


async def test_an_exchange_is_closed_in_the_turn_of_a_subscription(left_behind: list[str]) -> None:
    server = AGServer(broker_engine=LaterBroker())
    await server.start()
    server.exchange.subscribe("a")
    await server.close()
