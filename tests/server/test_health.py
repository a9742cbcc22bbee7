"""The probes of orchestrators."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from socketcluster.brokers.simple import SimpleBroker
from socketcluster.errors import BrokerError
from support import connected, soon, until

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
        answer = await http.get("/health/ready")
        assert (answer.status_code, answer.text) == (503, "draining")
        assert (await http.get("/health/ready?broker=0")).status_code == 503
        assert (await http.get("/health/live")).status_code == 200


@pytest.mark.parametrize("default", [False, True])
async def test_ready_without_the_broker(make_server: Any, default: bool) -> None:
    broker = DeafBroker()
    server = await make_server(broker_engine=broker, ready_without_broker=default)
    broker.deaf = True
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.source_port}") as http:
        for query, asks in (("", not default), ("?broker=0", False), ("?broker=1", True)):
            before = broker.checks
            answer = await http.get("/health/ready" + query)
            assert answer.status_code == (503 if asks else 200)
            assert (broker.checks > before) is asks


async def test_a_server_in_its_drain_delay_says_503_and_accepts(make_server: Any) -> None:
    server = await make_server(drain_delay=3_600_000)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.source_port}") as http:
        closing = asyncio.create_task(server.close())
        await until(lambda: not server.is_ready)
        answer = await http.get("/health/ready")
        assert (answer.status_code, answer.text) == (503, "draining")
        async with connected(server) as client:
            server.lifecycle.stop_accepting()
            await soon(closing)
            await client.closed()


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
