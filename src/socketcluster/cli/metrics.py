"""`serve --metrics-port`: metrics on a port of their own, of one process or of all workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from socketcluster import AGServer
from socketcluster.cli.serve_options import split_metrics_port
from socketcluster.cli.workers.link import WorkerLink, WorkerLinkError
from socketcluster.errors import UsageError
from socketcluster.runtime.reporting import Reporter

if TYPE_CHECKING:
    from socketcluster.metrics.port import MetricsPort

PATH = "/metrics"
ASK_SECONDS = 2.0
"""How long a worker has for its answer; less than Prometheus waits for all of them."""

logger: logging.Logger = logging.getLogger("socketcluster")


class LinkedProcess(Protocol):
    """The process of a worker."""

    @property
    def link(self) -> WorkerLink: ...


class MeasuredWorker(Protocol):
    """A worker, as the supervisor knows it.

    Attributes:
        number: of the worker, from 1.
        restarts: how often its process ended by itself.
    """

    number: int
    restarts: int

    @property
    def process(self) -> LinkedProcess | None:
        """The process that serves; None before the first."""


async def serve_metrics(server: AGServer, address: str) -> MetricsPort:
    """Serve the metrics of one process.

    Raises:
        UsageError: the port cannot be had.
    """
    from socketcluster.metrics.port import MetricsPort

    assert server.metrics is not None
    port = MetricsPort(server.metrics.site_at(PATH, None), *split_metrics_port(address))
    await port.start()
    _print(port)
    return port


async def serve_workers_metrics(
    workers: Sequence[MeasuredWorker], rolling_restarts: Mapping[str, int], address: str
) -> MetricsPort:
    """Serve the metrics of all workers, each with a label, and of their supervisor.

    Raises:
        UsageError: the port cannot be had, or prometheus-client is not installed.
    """
    try:
        from socketcluster.metrics.merging import merged
        from socketcluster.metrics.port import MetricsPort
        from socketcluster.metrics.site import MetricsSite
    except ModuleNotFoundError as error:
        raise UsageError(
            "--metrics-port needs the extra 'metrics': pip install 'socketcluster[metrics]'"
        ) from error

    async def collect() -> Any:
        answers = await asyncio.gather(*(_ask(worker) for worker in workers))
        numbers = (str(worker.number) for worker in workers)
        restarts = sum(worker.restarts for worker in workers)
        return merged(dict(zip(numbers, answers, strict=True)), restarts, rolling_restarts)

    port = MetricsPort(
        MetricsSite(PATH, None, collect, Reporter(logger)), *split_metrics_port(address)
    )
    await port.start()
    _print(port)
    return port


async def _ask(worker: MeasuredWorker) -> Any:
    """Return the metrics of a worker; None if it does not answer in time."""
    if worker.process is None:
        return None
    try:
        return await worker.process.link.ask("metrics", ASK_SECONDS)
    except WorkerLinkError as error:
        logger.warning("Worker %s does not tell its metrics: %s", worker.number, error)
        return None


def _print(port: MetricsPort) -> None:
    assert port.address is not None
    host, number = port.address
    host = f"[{host}]" if ":" in host else host
    print(f"Metrics on http://{host}:{number}{PATH}", flush=True)
