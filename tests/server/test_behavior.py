"""Behavior that users of the original rely on, across several parts."""

from __future__ import annotations

import asyncio
from typing import Any

import jwt
import pytest

from socketcluster import AGAction, AGServer, AGServerSocket
from socketcluster.errors import BadConnectionError, InvalidActionError
from support import AnswerError, Client, Running, connected, soon, until
from transports import dial

KEY = "k" * 32


def token(name: str) -> str:
    return jwt.encode({"name": name}, KEY)


async def test_switching_between_users(make_server: Any, running: Running) -> None:
    server = await make_server(auth_key=KEY)
    states = running.collect(server.listener("authenticationStateChange"))
    logins = running.collect(server.listener("authentication"))
    async with connected(server, token=token("alice")) as client:
        (socket,) = server.clients.values()
        await client.call("#authenticate", token("bob"))
        assert (socket.auth_token or {})["name"] == "bob"
        await until(lambda: len(logins) == 2)
        assert [event.auth_token["name"] for event in logins] == ["alice", "bob"]
        await socket.set_auth_token({"name": "carol"})
        await until(lambda: len(logins) == 3)
        assert logins[2].auth_token["name"] == "carol"
        assert len(states) == 1
        assert states[0].auth_token["name"] == "alice"


async def test_deauthenticate_after_the_client_left(make_server: Any) -> None:
    server = await make_server(auth_key=KEY)
    async with connected(server, token=token("alice")):
        (socket,) = server.clients.values()
    await until(lambda: socket.state == "closed")
    with pytest.raises(BadConnectionError):
        await socket.deauthenticate(reject_on_failed_delivery=True)
    await socket.deauthenticate()
    assert socket.auth_token is None


async def test_client_that_leaves_during_authentication_leaves_nothing(make_server: Any) -> None:
    gate = asyncio.Event()

    class Engine:
        async def verify_token(self, signed_token: Any, key: Any, options: Any) -> Any:
            await gate.wait()
            return {}

        def sign_token(self, token: Any, key: Any, options: Any) -> str:
            return ""

    server = await make_server(auth_engine=Engine())
    async with connected(server, handshake=False) as client:
        await client.send(client.packet("#handshake", {"authToken": "x"}))
        await until(lambda: server.pending_clients_count == 1)
    await until(lambda: server.pending_clients_count == 0)
    gate.set()
    await asyncio.sleep(0)
    assert server.clients_count == 0


async def test_set_auth_token_is_refused_in_handshake_middleware(make_server: Any) -> None:
    server = AGServer(drain_timeout=100)
    refused: list[BaseException] = []

    async def too_early(stream: Any) -> None:
        async for action in stream:
            if action.type == AGAction.HANDSHAKE_SC:
                try:
                    await action.socket.set_auth_token({"name": "x"})
                except InvalidActionError as error:
                    refused.append(error)
            action.allow()

    server.set_middleware(server.MIDDLEWARE_HANDSHAKE, too_early)
    await make_server(server)
    async with connected(server):
        assert len(refused) == 1


@pytest.mark.parametrize("kind", ["handshakeWS", "handshakeSC"])
async def test_a_delayed_handshake_delays_nobody_else(make_server: Any, kind: str) -> None:
    server = AGServer(drain_timeout=100)
    gate = asyncio.Event()

    async def delay(stream: Any) -> None:
        async for action in stream:
            if action.type == kind and "slow" in action.request.url:
                await gate.wait()
            action.allow()

    server.set_middleware(server.MIDDLEWARE_HANDSHAKE, delay)
    await make_server(server)

    async def slow() -> Any:
        client = Client(await dial(server, "?slow=1"))
        try:
            return await client.handshake()
        finally:
            await client.close()

    waiting = asyncio.create_task(slow())
    async with connected(server):
        assert server.clients_count == 1
        assert not waiting.done()
        gate.set()
        assert (await soon(waiting))["isAuthenticated"] is False


async def test_a_delayed_publish_delays_nobody_else(make_server: Any, running: Running) -> None:
    server = AGServer(drain_timeout=100)
    gate = asyncio.Event()

    async def delay(stream: Any) -> None:
        async for action in stream:
            if action.data == "slow":
                await gate.wait()
            action.allow()

    server.set_middleware(server.MIDDLEWARE_INBOUND, delay)
    await make_server(server)
    published = running.collect(server.exchange.subscribe("c"))
    async with connected(server) as slow, connected(server) as quick:
        packets = [slow.packet("#publish", {"channel": "c", "data": d}) for d in ("slow", "next")]
        answers = [slow.answer(p) for p in packets]
        for packet in packets:
            await slow.send(packet)
        await quick.call("#publish", {"channel": "c", "data": "quick"})
        await until(lambda: published == ["quick"])
        gate.set()
        await soon(asyncio.gather(*answers))
        await until(lambda: published == ["quick", "slow", "next"])


async def test_subscribe_and_publish_keep_their_order(make_server: Any, running: Running) -> None:
    server = AGServer(drain_timeout=100)

    async def delay(stream: Any) -> None:
        async for action in stream:
            if action.type == AGAction.SUBSCRIBE:
                for _ in range(5):
                    await asyncio.sleep(0)
            action.allow()

    server.set_middleware(server.MIDDLEWARE_INBOUND, delay)
    await make_server(server)
    async with connected(server, handshake=False) as client:
        publish = {"event": "#publish", "data": {"channel": "c", "data": "own"}}
        await client.send(client.packet("#handshake", {}))
        await client.send(client.packet("#subscribe", {"channel": "c"}))
        await client.send(publish)
        assert (await client.event())["data"]["data"] == "own"


async def test_events_of_a_lost_socket_come_in_their_order(
    make_server: Any, running: Running
) -> None:
    server = await make_server()
    heard: list[tuple[str, bool]] = []

    async def handle(socket: AGServerSocket) -> None:
        async def hear(name: str) -> None:
            async for _ in socket.listener(name):
                heard.append((name, socket.id in server.clients))

        for name in ("end", "unsubscribe", "close", "disconnect"):
            running.start(hear(name))

    running.on_connection(server, handle)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "c"})
    await until(lambda: len(heard) == 4)
    order = ["disconnect", "close", "unsubscribe", "end"]
    assert heard == [(name, False) for name in order]


async def test_many_clients_call_at_once(make_server: Any, running: Running) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    connections = running.collect(server.listener("connection"))

    async def one(number: int) -> Any:
        async with connected(server) as client:
            return await client.call("echo", number)

    answers = await soon(asyncio.gather(*(one(n) for n in range(100))))
    assert answers == list(range(100))
    assert len(connections) == 100
    await until(lambda: server.clients_count == 0)


async def test_subscribing_before_the_handshake_is_refused(make_server: Any) -> None:
    server = await make_server(strict_handshake=False)
    async with connected(server, handshake=False) as client:
        with pytest.raises(AnswerError):
            await client.call("#subscribe", {"channel": "a"})
        await client.handshake()
        (socket,) = server.clients.values()
        assert socket.subscriptions() == []
