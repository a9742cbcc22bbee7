"""`serve --workers N --metrics-port`: one answer for all workers, whatever happens to them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cli.serving import SECONDS, Serve, Served, clients_on_all, renew


class Scraper:
    """Reads the metrics of a running `serve`."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url

    @classmethod
    async def of(cls, stack: AsyncExitStack, served: Served) -> Scraper:
        line = await served.line("Metrics on")
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=SECONDS))
        return cls(http, line.split()[-1])

    async def read(self) -> dict[str, float]:
        """The samples, by name and label values: "worker_up/1"."""
        answer = await self._http.get(self._url)
        assert answer.status_code == 200
        return {
            "/".join([each.name.removeprefix("socketcluster_"), *each.labels.values()]): each.value
            for family in text_string_to_metric_families(answer.text)
            for each in family.samples
        }

    async def until(self, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """Scrape until a condition holds."""
        async with asyncio.timeout(SECONDS):
            while not holds(found := await self.read()):
                pass
        return found

    async def with_all(self) -> dict[str, float]:
        """Scrape until both workers answer in time."""
        return await self.until(lambda found: up(found) == [1, 1])


def up(found: dict[str, float]) -> list[float]:
    return [found["worker_up/1"], found["worker_up/2"]]


async def test_scrapes_are_answered_through_a_restart(serve: Serve, tmp_path: Path) -> None:
    arguments = ("mine:server", "--port", "0", "--workers", "2", "--metrics-port", "0")
    served = await serve(*arguments)
    async with AsyncExitStack() as stack:
        scraper = await Scraper.of(stack, served)
        port = await served.port()
        await clients_on_all(stack, port, 2)
        before = await scraper.with_all()
        assert before["clients/1"] >= 1
        assert before["clients/2"] >= 1
        assert before["rolling_restarts_total/done"] == 0
        renew(tmp_path, "newer")
        served.process.send_signal(signal.SIGHUP)
        restarted = asyncio.ensure_future(served.line("Restarted: all workers are new"))
        while not restarted.done():
            assert len(up(await scraper.read())) == 2
            await asyncio.wait({restarted}, timeout=0.1)
        await restarted
        found = await scraper.with_all()
        assert found["clients/1"] == found["clients/2"] == 0
        assert found["rolling_restarts_total/done"] == 1
        assert found["rolling_restarts_total/failed"] == found["worker_restarts_total"] == 0
        (tmp_path / "mine.py").write_text("raise RuntimeError")
        served.process.send_signal(signal.SIGHUP)
        await served.line("The restart failed")
        assert (await scraper.with_all())["rolling_restarts_total/failed"] == 1


async def test_a_worker_that_hangs_or_has_ended_is_down(serve: Serve) -> None:
    arguments = ("mine:server", "--port", "0", "--workers", "2", "--metrics-port", "0")
    served = await serve(*arguments, "--watchdog", "0")
    async with AsyncExitStack() as stack:
        scraper = await Scraper.of(stack, served)
        port = await served.port()
        clients = await clients_on_all(stack, port, 2)
        hung, client = next(iter(clients.items()))
        await client.send(client.packet("block"))
        found = await scraper.until(lambda found: sum(up(found)) == 1)
        down = 1 + up(found).index(0)
        assert f"clients/{down}" not in found
        assert found[f"clients/{3 - down}"] >= 1
        os.kill(hung, signal.SIGKILL)
        await served.line("starting another")
        found = await scraper.with_all()
        assert found[f"clients/{down}"] == 0
        assert found["worker_restarts_total"] == 1
