"""Guarantee 10 for brokers: the log has the whole error, a client no host, port or engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from socketcluster import AGServer, AGServerSocket
from socketcluster.brokers.base import BrokerListener
from socketcluster.errors import BrokerError
from support import AnswerError, Running, connected, soon, until
from transports import Refused, dial

SECRET = "redis://10.1.2.3:6379 is away"
FAILURES = [BrokerError(SECRET), OSError(SECRET)]


class FailingBroker:
    """Fails what it is told to, at once or later."""

    kind = "failing"
    node_id = "node"
    ready = True

    def __init__(self, error: Exception, later: bool) -> None:
        self.failing: set[str] = set()
        self._error = error
        self._later = later

    def attach(self, listener: BrokerListener) -> None:
        self.listener = listener

    async def start(self) -> None:
        """It is ready."""

    async def close(self) -> None:
        """It keeps nothing."""

    async def check(self) -> None:
        """It is well."""

    def _do(self, what: str) -> Awaitable[None] | None:
        if what not in self.failing:
            return None
        if not self._later:
            raise self._error
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        failed.set_exception(self._error)
        return failed

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        return self._do("subscribe")

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        return self._do("unsubscribe")

    def publish(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        return self._do("publish")


@pytest.mark.parametrize("error", FAILURES, ids=["BrokerError", "OSError"])
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("action", ["#publish", "#subscribe", "#unsubscribe"])
async def test_of_an_action(
    make_server: Any,
    running: Running,
    caplog: Any,
    action: str,
    later: bool,
    error: Exception,
) -> None:
    broker = FailingBroker(error, later)
    server: AGServer = await make_server(broker_engine=broker)
    warnings = running.collect(server.listener("warning"))
    errors = running.collect(server.listener("error"))
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "c"})
        broker.failing.add(action.removeprefix("#"))
        if action == "#unsubscribe":
            await client.call(action, "c")
        else:
            with pytest.raises(AnswerError) as answered:
                await client.call(action, {"channel": "other", "data": 1})
            wire = answered.value.wire
            assert wire["name"] == "BrokerError"
            assert wire["message"] in (
                "The message broker failed",
                "The broker failed to accept the publish",
                "Failed to subscribe socket to the other channel",
            )
        await until(lambda: SECRET in caplog.text)
        await until(lambda: any(SECRET in str(e.warning) for e in warnings) or errors != [])
        assert not [message for message in client.messages if "10.1.2.3" in str(message)]
    assert [r for r in caplog.records if SECRET in caplog.text and r.levelname != "DEBUG"]


@pytest.mark.parametrize("way", ["raised", "given"])
async def test_of_a_handler(make_server: Any, running: Running, caplog: Any, way: str) -> None:
    server: AGServer = await make_server(broker_engine=FailingBroker(BrokerError(SECRET), False))
    server.exchange.broker.failing.add("publish")  # type: ignore[attr-defined]

    async def handle(socket: AGServerSocket) -> None:
        async for request in socket.procedure("say"):
            with request:
                try:
                    await server.exchange.invoke_publish("c", request.data)
                except BrokerError as error:
                    if way == "raised":
                        raise
                    request.error(error)

    running.on_connection(server, handle)
    async with connected(server) as client:
        with pytest.raises(AnswerError) as answered:
            await client.call("say", 1)
        assert answered.value.wire == {
            "name": "BrokerError",
            "message": "The message broker failed",
        }
    assert SECRET in caplog.text
    assert "The handler of 'say' failed" in caplog.text


async def block(stream: Any) -> None:
    async for action in stream:
        if action.type in ("handshakeWS", "message", "publishOut"):
            action.allow()
        else:
            action.block(BrokerError(SECRET))


@pytest.mark.parametrize("action", ["#authenticate", "#subscribe", "#publish", "call"])
async def test_of_middleware(make_server: Any, action: str) -> None:
    server = AGServer(drain_timeout=100)
    server.set_middleware("inbound", block)
    await make_server(server)
    token = server.auth.sign_token({}, server.signature_key, {})
    async with connected(server) as client:
        if action == "#authenticate":
            told = (await client.call(action, token))["authError"]
        else:
            with pytest.raises(AnswerError) as answered:
                await client.call(action, {"channel": "c"})
            told = answered.value.wire
        assert told == {"name": "BrokerError", "message": "The message broker failed"}


async def test_of_handshake_middleware(make_server: Any) -> None:
    server = AGServer(drain_timeout=100)
    server.set_middleware("handshake", block)
    await make_server(server)
    async with connected(server, handshake=False) as client:
        with pytest.raises(AnswerError) as answered:
            await client.handshake()
        assert answered.value.wire["message"] == "The message broker failed"
        assert "10.1.2.3" not in (await soon(client.closed()))[1]


async def test_of_a_refused_upgrade(make_server: Any) -> None:
    server = AGServer(drain_timeout=100)

    async def refuse(stream: Any) -> None:
        async for action in stream:
            action.block(BrokerError(SECRET))

    server.set_middleware("handshake", refuse)
    await make_server(server)
    with pytest.raises(Refused, match="401") as refused:
        await dial(server)
    assert "10.1.2.3" not in str(refused.value)


async def test_of_a_channel_that_is_asked_about_again(make_server: Any) -> None:
    server = AGServer(drain_timeout=100)

    async def ask(stream: Any) -> None:
        async for action in stream:
            if action.type == action.SUBSCRIBE and action.again:
                action.block(BrokerError(SECRET))
            else:
                action.allow()

    server.set_middleware("inbound", ask)
    await make_server(server)
    token = server.auth.sign_token({}, server.signature_key, {})
    async with connected(server, token=str(token)) as client:
        await client.call("#subscribe", {"channel": "c"})
        (socket,) = server.clients.values()
        socket.deauthenticate_self()
        event = await client.event()
        assert event["event"] == "#kickOut"
        assert event["data"] == {"channel": "c", "message": "The message broker failed"}
