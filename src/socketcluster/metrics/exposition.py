"""Exposition: metrics as text, in the format that a scraper accepts."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from socketcluster.engines.base import ASGIScope
from socketcluster.engines.http_answers import Response


class Collected(Collector):
    """Metrics that were collected before, and those of other collectors."""

    def __init__(self, metrics: Sequence[Metric], others: Sequence[Collector] = ()) -> None:
        self._metrics = metrics
        self._others = others

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        yield from self._metrics
        for each in self._others:
            yield from each.collect()


def exposition(scope: ASGIScope, collected: Collector) -> Response:
    """Return the answer to a scraper: Prometheus' text or OpenMetrics, compressed if it likes."""
    headers = dict(scope["headers"])
    accept = headers.get(b"accept", b"").decode("latin-1")
    encode, content_type = choose_encoder(accept)
    body = encode(collected)
    answer = [
        (b"content-type", content_type.encode("latin-1")),
        (b"vary", b"accept, accept-encoding"),
    ]
    if gzip_accepted(headers.get(b"accept-encoding", b"").decode("latin-1")):
        body = gzip.compress(body, 5)
        answer.append((b"content-encoding", b"gzip"))
    return 200, answer, body
