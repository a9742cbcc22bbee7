"""Who may read the metrics over HTTP, and in which format; the same for the description."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from socketcluster import AGServer, AsyncAPI, Metrics
from support import connected, require, until

pytestmark = pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)

TOKEN = "sésame"
AUTHORIZED = {b"authorization": f"Bearer {TOKEN}".encode()}
SECRET = {"metrics": Metrics(token=TOKEN), "asyncapi": AsyncAPI(token=TOKEN)}
PATHS = ("/metrics", "/asyncapi.json")


def http(server: AGServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.source_port}")


async def test_they_are_off_by_default(make_server: Any) -> None:
    async with http(await make_server()) as client:
        for path in PATHS:
            assert (await client.get(path)).status_code == 404


async def test_they_take_a_token(make_server: Any) -> None:
    async with http(await make_server(**SECRET)) as client:
        for path in PATHS:
            for value in (None, "Bearer sesame", "sésame", "Bearer", "Basic c8OpYW1l"):
                headers = {} if value is None else {b"authorization": value.encode()}
                refused = await client.get(path, headers=headers)
                assert (refused.status_code, refused.text) == (401, "Unauthorized")
                assert refused.headers["www-authenticate"] == "Bearer"
                assert (await client.head(path, headers=headers)).status_code == 401
            assert (await client.get(f"{path}?token={TOKEN}")).status_code == 401
            assert (await client.get(path, headers=AUTHORIZED)).status_code == 200


async def test_they_answer_no_other_origin(make_server: Any) -> None:
    server = await make_server(**SECRET)
    async with http(server) as client:
        for path in PATHS:
            for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
                headers = {**AUTHORIZED, b"origin": origin.encode()}
                refused = await client.get(path, headers=headers)
                assert refused.status_code == 403
                assert "access-control-allow-origin" not in refused.headers
                assert "socketcluster_" not in refused.text
                preflight = await client.options(path, headers=headers)
                assert preflight.status_code == 404
                assert "access-control-allow-origin" not in preflight.headers
            own = f"http://127.0.0.1:{server.source_port}".encode()
            answer = await client.get(path, headers={**AUTHORIZED, b"origin": own})
            assert answer.status_code == 200
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert "access-control-allow-origin" not in answer.headers


async def test_the_path_is_an_option(make_server: Any) -> None:
    async with http(await make_server(metrics=Metrics(path="/internal/m", token=None))) as client:
        assert (await client.get("/internal/m")).status_code == 200
        for path in ("/metrics", "/internal/m/", "/internal"):
            assert (await client.get(path)).status_code == 404
        assert (await client.post("/internal/m")).status_code == 404


async def test_the_format_is_the_one_that_the_scraper_accepts(make_server: Any) -> None:
    server = await make_server(metrics=Metrics(token=None))
    async with http(server) as client:
        answer = await client.get("/metrics", headers={"accept-encoding": "identity"})
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "content-encoding" not in answer.headers
        names = {family.name for family in text_string_to_metric_families(answer.text)}
        assert {"socketcluster_clients", "socketcluster_calls", "process_cpu_seconds"} <= names
        head = await client.head("/metrics", headers={"accept-encoding": "identity"})
        assert (head.status_code, head.content) == (200, b"")
        accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
        answer = await client.get("/metrics", headers={"accept": accept})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.headers["content-encoding"] == "gzip"
        parse: Any = openmetrics.text_string_to_metric_families
        assert "socketcluster_clients" in {family.name for family in parse(answer.text)}
        assert answer.text.endswith("# EOF\n")


class Broken(Collector):
    """A collector that fails while it is told to."""

    def __init__(self) -> None:
        self.fails = True

    def collect(self) -> Iterator[Metric]:
        if self.fails:
            raise OSError("no such sensor")
        return iter(())


async def test_a_collector_that_fails_does_not_touch_the_traffic(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = AGServer(metrics=Metrics(token=None), drain_timeout=100)
    assert server.metrics is not None
    broken = Broken()
    broken.fails = False
    server.metrics.registry.register(broken)
    broken.fails = True

    @server.procedure("add")
    def add(data: int) -> int:
        return data + 1

    await make_server(server)
    async with connected(server) as client, http(server) as scraper:
        with caplog.at_level(logging.ERROR):
            answer = await scraper.get("/metrics")
        assert answer.status_code == 500
        assert "sensor" not in answer.text
        assert "no such sensor" in caplog.text
        assert await client.call("add", 1) == 2
        assert (await scraper.get("/health/ready")).status_code == 200
        broken.fails = False
        assert (await scraper.get("/metrics")).status_code == 200


async def test_own_metrics_are_served_too(make_server: Any) -> None:
    server = await make_server(metrics=Metrics(token=None))
    orders = Counter("orders", "Orders.", registry=server.metrics.registry)
    orders.inc(3)
    async with http(server) as client:
        assert "orders_total 3.0" in (await client.get("/metrics")).text


async def test_an_own_registry_collects_in_any_thread(make_server: Any) -> None:
    server = await make_server(metrics=Metrics(path=None))
    registry = CollectorRegistry()
    registry.register(server.metrics.collector)
    async with connected(server):
        for text in (generate_latest(registry), await asyncio.to_thread(generate_latest, registry)):
            assert b"socketcluster_clients 1.0" in text
    async with http(server) as client:
        assert (await client.get("/metrics")).status_code == 404


async def test_a_port_of_its_own(make_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = await make_server(metrics=Metrics(port=0))
    await until(lambda: server.metrics.port.address is not None)
    host, port = server.metrics.port.address
    assert host == "127.0.0.1"
    async with http(server) as client:
        assert (await client.get("/metrics")).status_code == 404
        assert (await client.get(f"http://127.0.0.1:{port}/metrics")).status_code == 200
        assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 404
        assert (await client.get(f"http://127.0.0.1:{port}/health/live")).status_code == 404
        with caplog.at_level(logging.ERROR):
            other = await make_server(metrics=Metrics(port=port))
            await until(lambda: f"cannot be served on 127.0.0.1:{port}" in caplog.text)
        async with connected(other):
            assert other.metrics.port.address is None
        await server.close()
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{port}/metrics")


async def test_prometheus_has_no_complaint(make_server: Any) -> None:
    require(shutil.which("promtool") is not None, "promtool")
    server = AGServer(metrics=Metrics(token=None), drain_timeout=100)

    @server.procedure('odd "name"\n\\')
    def odd() -> None:
        pass

    await make_server(server)
    async with http(server) as client:
        text = (await client.get("/metrics")).content
    checked = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=text, capture_output=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
