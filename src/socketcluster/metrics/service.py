"""The metrics of one server, as its users see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.registry import Collector

from socketcluster.metrics.collector import ServerCollector
from socketcluster.metrics.exposition import Collected
from socketcluster.metrics.families import families
from socketcluster.metrics.merging import Families, packed
from socketcluster.metrics.options import Metrics
from socketcluster.metrics.port import MetricsPort
from socketcluster.metrics.reading import Reading
from socketcluster.metrics.site import MetricsSite
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import Reporter


class ServerMetrics:
    """`server.metrics`, of a server with the option `metrics`.

    Attributes:
        collector: reads the server's numbers, for a registry of your own.
        registry: the metrics of the process and its garbage collector, and those that you add with
            `Counter("orders", "…", registry=server.metrics.registry)`.
        site: answers scrapers; None with `path=None`.
        port: the port for the metrics alone; None without one.
    """

    __slots__ = ("_read_in_slices", "_reporter", "collector", "port", "registry", "site")

    def __init__(
        self,
        options: Metrics,
        read: Callable[[], Reading],
        read_in_slices: Callable[[], Awaitable[Reading]],
        binding: LoopBinding,
        reporter: Reporter,
    ) -> None:
        self._read_in_slices = read_in_slices
        self._reporter = reporter
        self.collector: ServerCollector = ServerCollector(read, binding)
        self.registry: CollectorRegistry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.site: MetricsSite | None = None
        self.port: MetricsPort | None = None
        if options.path is not None:
            self.site = self.site_at(options.path, options.secret)
            if options.port is not None:
                self.port = MetricsPort(self.site, options.host, options.port)

    def site_at(self, path: str, token: str | None) -> MetricsSite:
        """Make a site at a path, for an ASGI application of your own."""
        return MetricsSite(path, token, self.collect, self._reporter)

    async def packed(self) -> Families:
        """Collect for the supervisor of this process."""
        return packed((await self.collect()).collect())

    async def collect(self) -> Collector:
        """Read the server's numbers, a few sockets at a time."""
        return Collected(list(families(await self._read_in_slices())), [self.registry])
