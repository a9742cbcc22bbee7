"""The collector of one server, for a registry of the application's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from socketcluster.errors import UsageError
from socketcluster.metrics.families import families
from socketcluster.metrics.reading import Reading
from socketcluster.runtime.loop_binding import LoopBinding


class ServerCollector(Collector):
    """Reads the numbers of one server whenever it is collected.

    `REGISTRY.register(server.metrics.collector)` adds them to the metrics of an application that
    has some of its own. Any thread may collect; the numbers are read in the server's.
    """

    def __init__(self, read: Callable[[], Reading], binding: LoopBinding) -> None:
        self._read = read
        self._binding = binding

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        try:
            self._binding.check()
        except UsageError:
            return families(self._binding.call(self._read))
        return families(self._read())
