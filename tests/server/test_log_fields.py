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
