"""The metrics of several workers in one answer, with a label for each worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from socketcluster.metrics.exposition import Collected
from socketcluster.metrics.families import PREFIX

Families = list[tuple[str, str, str, list[tuple[str, dict[str, str], float]]]]
"""(name, help, type, samples), with (name, labels, value) for each sample: what JSON can carry."""


def packed(metrics: Iterable[Metric]) -> Families:
    """Return metrics as a worker sends them to its supervisor."""
    return [
        (
            each.name,
            each.documentation,
            each.type,
            [(sample.name, sample.labels, sample.value) for sample in each.samples],
        )
        for each in metrics
    ]


def merged(
    answers: Mapping[str, Families | None], restarts: int, rolling_restarts: Mapping[str, int]
) -> Collected:
    """Join the metrics of workers, by the worker's number; None is one that did not answer.

    `restarts` is how many workers were replaced because they ended, `rolling_restarts` how often
    all were, by the result.
    """
    return Collected([*_supervision(answers, restarts, rolling_restarts), *_joined(answers)])


def _supervision(
    answers: Mapping[str, Families | None], restarts: int, rolling_restarts: Mapping[str, int]
) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        f"{PREFIX}worker_up", "Whether the worker answers its supervisor.", labels=["worker"]
    )
    for worker, families in answers.items():
        up.add_metric([worker], int(families is not None))
    yield up
    text = "Workers that ended and were replaced."
    yield CounterMetricFamily(f"{PREFIX}worker_restarts", text, value=restarts)
    text = "Replacements of all workers at SIGHUP."
    rolling = CounterMetricFamily(f"{PREFIX}rolling_restarts", text, labels=["result"])
    for result, count in rolling_restarts.items():
        rolling.add_metric([result], count)
    yield rolling


def _joined(answers: Mapping[str, Families | None]) -> Iterable[Metric]:
    found: dict[str, Metric] = {}
    for worker, families in answers.items():
        for name, text, kind, samples in families or ():
            # One of each name: a name may have its help and type once.
            metric = found.setdefault(name, Metric(name, text, kind))
            for sample, labels, value in samples:
                metric.add_sample(sample, {**labels, "worker": worker}, value)
    return found.values()
