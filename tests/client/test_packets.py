"""Packets of the server, and moments of the client, that are rare: each has its error."""

from __future__ import annotations

from typing import Any

import pytest

from client.fakes import Peer, fake_server
from socketcluster import AGClientSocket
from socketcluster.engines.base import ConnectionHandler
from socketcluster.engines.connector import ConnectRequest
from socketcluster.errors import (
    InvalidArgumentsError,
    InvalidMessageError,
    ResourceLimitError,
    SocketProtocolError,
)
from support import names, record, soon, until, until_full


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        ({"code": 4100, "data": "Go away"}, 4100, "Go away"),
        ({"code": 4100, "data": {"not": "text"}}, 4100, None),
        ({"code": 1006}, 1000, None),
        ({"code": True}, 1000, None),
        ({"code": "4100"}, 1000, None),
        (None, 1000, None),
    ],
)
async def test_a_server_of_protocol_1_says_why_it_closes(
    make_client: Any, data: Any, code: int, reason: str | None
) -> None:
    """Its close frame has only a code. What is no such packet has no effect."""

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.call("ready")
        await peer.send({"event": "#disconnect", "data": data})
        await peer.ws.close(1000)

    async with fake_server(handle) as port:
        client = make_client(port, protocol_version=1, auto_reconnect=False)
        client.transmit("ready")
        event = await soon(client.listener("disconnect").once())
        assert (event.code, event.reason or None) == (code, reason)


@pytest.mark.parametrize("event", ["#setAuthToken", "#removeAuthToken", "#kickOut"])
async def test_a_long_event_without_a_value_has_no_effect(make_client: Any, event: str) -> None:
    long = "x" * 200_000

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.send(
            f'{{"event":"{event}","data":{{"channel":"c","token":"{long}","a":1e999}}}}'
        )
        call = await peer.call("ask")
        await peer.send({"rid": call["cid"], "data": "answered"})

    async with fake_server(handle) as port:
        client = make_client(port, auto_connect=False)
        found = record(client)
        client.connect()
        assert await soon(client.invoke("ask")) == "answered"
        errors = [data.error for name, data in found if name == "error"]
        assert [type(error) for error in errors] == [InvalidMessageError]
        assert client.auth_state == AGClientSocket.UNAUTHENTICATED


@pytest.mark.parametrize("event", ["x", "#setAuthToken", "#removeAuthToken"])
async def test_a_long_call_without_a_value_is_answered_with_an_error(
    make_client: Any, event: str
) -> None:
    answers: list[Any] = []

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.send(f'{{"event":"{event}","data":["{"x" * 200_000}",1e999],"cid":8}}')
        answers.append(await peer.receive())

    async with fake_server(handle) as port:
        client = make_client(port)
        error = (await soon(client.listener("error").once())).error
        assert isinstance(error, InvalidMessageError)
        await until(lambda: bool(answers))
        assert answers[0]["rid"] == 8
        assert answers[0]["error"]["name"] == "InvalidMessageError"


async def test_malformed_calls_whose_answers_have_no_room(make_client: Any) -> None:
    """The server keeps calling, and does not read the answers."""

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        peer.ws.transport.pause_reading()
        for number in range(1000):
            await peer.send(f'{{"event":"{"x" * 200}","data":[1e999],"cid":{number}}}')
        await peer.ws.close()

    async with fake_server(handle) as port:
        client = make_client(port, max_outbound_buffer=2000, auto_reconnect=False)
        found = record(client)
        await soon(client.listener("close").once())
        kinds = {type(data.error) for name, data in found if name == "error"}
        assert {InvalidMessageError, ResourceLimitError} <= kinds


async def test_a_connector_that_raises_fails_the_attempt(make_client: Any) -> None:
    class Faulty:
        async def connect(self, request: ConnectRequest, handler: ConnectionHandler) -> None:
            raise LookupError("No way there")

    client = make_client(1, connector=Faulty(), auto_reconnect=False, auto_connect=False)
    found = record(client)
    client.connect()
    await until(lambda: {"connectAbort", "error"} <= {*names(found)})
    events = dict(found)
    assert events["connectAbort"].code == 1006
    assert "No way there" in events["connectAbort"].reason
    assert isinstance(events["error"].error, SocketProtocolError)


async def test_a_priority_is_a_number(make_client: Any) -> None:
    client = make_client(1, auto_connect=False)
    for priority in ("1", True):
        with pytest.raises(InvalidArgumentsError, match="The priority must be a number"):
            client.subscribe("c", priority=priority)
    assert client.subscriptions(include_pending=True) == []


async def test_a_subscription_without_room_fails(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.call("begin")
        peer.ws.transport.pause_reading()
        await peer.send({"event": "paused"})

    async with fake_server(handle) as port:
        client = make_client(port, max_outbound_buffer=20_000)
        client.transmit("begin")
        await soon(client.receiver("paused").once())
        until_full(lambda: client.transmit("x", "x" * 10_000))
        until_full(lambda: client.transmit("x"))
        found = record(client)
        client.subscribe("c" * 50)
        await until(lambda: "subscribeFail" in names(found))
        (failure,) = [data for name, data in found if name == "subscribeFail"]
        assert isinstance(failure.error, ResourceLimitError)
        assert failure.channel == "c" * 50


async def test_pending_subscriptions_can_wait_for_the_application(
    make_client: Any, make_server: Any
) -> None:
    client = make_client(await make_server(), auto_subscribe_on_connect=False)
    channel = client.subscribe("c")
    await soon(client.listener("connect").once())
    assert channel.state == channel.PENDING
    client.process_pending_subscriptions()
    await soon(channel.listener("subscribe").once())
    assert client.subscriptions() == ["c"]
