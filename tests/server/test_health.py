"""The probes of orchestrators."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from socketcluster.brokers.simple import SimpleBroker
from socketcluster.errors import BrokerError
from support import soon, until

pytestmark = pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)


class DeafBroker(SimpleBroker):
    """A broker whose engine can be made deaf, and that counts round trips."""

    def __init__(self) -> None:
        super().__init__()
        self.deaf = False
        self.checks = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def check(self) -> None:
        self.checks += 1
        await self.go_on.wait()
        if self.deaf:
            raise BrokerError("redis://10.0.0.1 is deaf")


async def test_live_and_ready(make_server: Any) -> None:
    broker = DeafBroker()
    server = await make_server(broker_engine=broker)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.source_port}") as http:
        for path in ("/health/live", "/health/ready"):
            answer = await http.get(path)
            assert (answer.status_code, answer.text) == (200, "ok")
        assert (await http.head("/health/ready")).status_code == 200
        assert (await http.post("/health/ready")).status_code == 404
        broker.deaf = True
        answer = await http.get("/health/ready")
        assert (answer.status_code, answer.text) == (503, "unavailable")
        assert (await http.get("/health/live")).status_code == 200
        await server.close(keep_sockets_open=True)
        broker.deaf = False
        assert (await http.get("/health/ready")).status_code == 503


async def test_many_probes_at_once_are_one_round_trip(make_server: Any) -> None:
    broker = DeafBroker()
    broker.go_on.clear()
    server = await make_server(broker_engine=broker)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.source_port}") as http:
        probes = [asyncio.create_task(http.get("/health/ready")) for _ in range(20)]
        await until(lambda: broker.checks == 1)
        await http.get("/health/live")
        broker.go_on.set()
        answers = await soon(asyncio.gather(*probes))
    assert {answer.status_code for answer in answers} == {200}
    assert broker.checks <= 2


async def test_off_by_option(make_server: Any) -> None:
    server = await make_server(health_probes=False)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.source_port}") as http:
        assert (await http.get("/health/live")).status_code == 404
        assert (await http.get("/health/ready")).status_code == 404
