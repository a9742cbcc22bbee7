"""The fields that identify the socket, the user and the procedure in log records."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from socketcluster import AGServer
from socketcluster.errors import SocketClusterError
from socketcluster.handlers.handler import ChannelHandler, Handler
from socketcluster.logs import JSONFormatter
from socketcluster.runtime.reporting import Reporter
from socketcluster.server import watchdog
from support import AnswerError, connected


async def test_records_say_which_socket_user_and_procedure_they_are_about(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server: AGServer = await make_server()

    @server.procedure("fails")
    def fails() -> None:
        raise ValueError("not today")

    caplog.set_level(logging.DEBUG, "socketcluster")
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await socket.set_auth_token({"sub": "ann\nforged"})
        with pytest.raises(AnswerError):
            await client.call("fails")
        socket.emit_error(SocketClusterError("of the client"))
        server.emit_warning(SocketClusterError("of no client"))
        socket_id = socket.id
    failed = next(r for r in caplog.records if "'fails' failed" in r.message)
    found = json.loads(JSONFormatter().format(failed))
    assert found["socket_id"] == socket_id
    assert found["address"] == "127.0.0.1"
    assert found["user"] == "ann\\nforged"
    assert found["procedure"] == "fails"
    assert "ValueError: not today" in found["exception"]
    warnings = [r for r in caplog.records if "SocketClusterError: of" in r.message]
    of_client = next(r for r in warnings if "of the client" in r.message)
    assert of_client.__dict__["socket_id"] == socket_id
    assert all("socket_id" not in r.__dict__ for r in warnings if "of no client" in r.message)


def test_a_blocked_loop_is_logged_with_its_lag(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "LATE_SECONDS", 0.5)

    class Handling:
        latest: Handler | ChannelHandler | None = None

    reporter = Reporter(logging.getLogger("socketcluster"))
    watchdog.Watchdog(reporter, 10_000, Handling()).ticked(2.51234)
    (record,) = caplog.records
    assert record.__dict__["lag_seconds"] == 2.512


def record_with(caplog: pytest.LogCaptureFixture, text: str) -> dict[str, Any]:
    (found,) = [r for r in caplog.records if text in r.message]
    return found.__dict__


async def test_records_of_failed_handlers_say_which_socket_they_are_about(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server: AGServer = await make_server(auth_key="k" * 32)

    @server.receiver("plain")
    def plain() -> None:
        raise ValueError("plain")

    @server.receiver("lined")
    async def lined() -> None:
        raise ValueError("lined")

    @server.channel("room")
    def room() -> None:
        raise ValueError("room")

    @server.channel("lined-room")
    async def lined_room() -> None:
        raise ValueError("lined room")

    @server.on("subscription")
    def subscribed() -> None:
        raise ValueError("subscribed")

    @server.procedure("end")
    async def end() -> None:
        return None

    async with connected(server) as client:
        (socket,) = server.clients.values()
        await client.transmit("plain")
        await client.transmit("lined")
        for channel in ("room", "lined-room"):
            with pytest.raises(AnswerError):
                await client.call("#subscribe", {"channel": channel})
        await client.call("#subscribe", {"channel": "open"})
        await client.call("end")
        socket_id = socket.id
    for text in ("'plain' failed", "'lined' failed", "'room' failed", "'lined-room' failed"):
        assert record_with(caplog, text)["socket_id"] == socket_id, text
    assert record_with(caplog, "'subscription' failed")["socket_id"] == socket_id
    assert record_with(caplog, "'plain' failed")["procedure"] == "plain"
    assert record_with(caplog, "'room' failed")["channel"] == "room"


@pytest.mark.parametrize("how", ["raises", "returns", "drops"])
async def test_records_of_failed_middleware_say_which_socket_they_are_about(
    make_server: Any, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    server: AGServer = await make_server()

    async def middleware(stream: Any) -> None:
        async for action in stream:
            del action
            if how == "raises":
                raise ValueError("not today")
            if how == "returns":
                return

    server.set_middleware(server.MIDDLEWARE_INBOUND, middleware)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        with pytest.raises(AnswerError):
            await client.call("anything")
        socket_id = socket.id
    assert record_with(caplog, "middleware function")["socket_id"] == socket_id


async def test_records_of_a_failed_upgrade_say_which_address_asked(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server: AGServer = await make_server()

    async def middleware(stream: Any) -> None:
        async for action in stream:
            if action.type == action.HANDSHAKE_WS:
                action.block("no entry")
            break
        raise ValueError("not today")

    caplog.set_level(logging.DEBUG, "socketcluster")
    server.set_middleware(server.MIDDLEWARE_HANDSHAKE, middleware)
    with pytest.raises(Exception, match="401"):
        async with connected(server):
            pass
    for text in ("no entry", "raised ValueError"):
        found = [r.__dict__ for r in caplog.records if text in r.message]
        assert found
        assert all(each["address"] == "127.0.0.1" for each in found)
        assert all("socket_id" not in each for each in found)


async def test_records_of_handshake_middleware_know_the_socket_once_there_is_one(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server: AGServer = await make_server()
    ids: list[str] = []

    async def middleware(stream: Any) -> None:
        async for action in stream:
            if action.type == action.HANDSHAKE_SC:
                ids.append(action.socket.id)
                raise ValueError("not today")
            action.allow()

    server.set_middleware(server.MIDDLEWARE_HANDSHAKE, middleware)
    with pytest.raises(AnswerError):
        async with connected(server):
            pass
    found = [r.__dict__ for r in caplog.records if "raised ValueError" in r.message]
    assert [each["socket_id"] for each in found] == ids


async def test_the_user_in_records_is_the_one_that_the_server_identifies(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def identify(socket: Any) -> str | None:
        # The record of this error asks for the user again.
        socket.emit_error(SocketClusterError("asked"))
        return None if socket.auth_token is None else f"account {socket.auth_token['account']}"

    server: AGServer = await make_server(identify=identify)

    @server.receiver("fails")
    async def fails() -> None:
        raise ValueError("not today")

    @server.procedure("end")
    async def end() -> None:
        return None

    caplog.set_level(logging.DEBUG, "socketcluster")
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await socket.set_auth_token({"account": 7, "sub": "other"})
        await client.transmit("fails")
        await client.call("end")
    assert record_with(caplog, "'fails' failed")["user"] == "account 7"


async def test_a_fault_of_identify_costs_a_record_its_user_alone(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def identify(socket: Any) -> str | None:
        raise ValueError("who knows")

    server: AGServer = await make_server(identify=identify)

    @server.receiver("fails")
    async def fails() -> None:
        raise ValueError("not today")

    @server.procedure("end")
    async def end() -> None:
        return None

    async with connected(server) as client:
        (socket,) = server.clients.values()
        await client.transmit("fails")
        await client.call("end")
        socket_id = socket.id
    found = record_with(caplog, "'fails' failed")
    assert (found["socket_id"], found["user"]) == (socket_id, None)
    assert record_with(caplog, "Unexpected ValueError: who knows")


async def test_nobody_is_identified_for_a_record_that_is_not_logged(make_server: Any) -> None:
    asked: list[Any] = []

    def identify(socket: Any) -> None:
        asked.append(socket)

    server: AGServer = await make_server(identify=identify)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await client.call("#subscribe", {"channel": "open"})  # The log-in's call comes first.
        del asked[:]
        socket.emit_error(SocketClusterError("at DEBUG, which is off"))
        assert not asked
