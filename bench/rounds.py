"""Run a plan in several rounds, and take medians."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field

from bench.load import LoadError, Sample, Timing, measure
from bench.plan import Plan, Point, Target


@dataclass(frozen=True, slots=True)
class Figure:
    """A median over the rounds, with the least and the greatest value."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        """Return the figure of some values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(slots=True)
class Results:
    """The samples of all rounds. A sample is None if its round failed; `faults` has the reason."""

    samples: dict[Point, list[Sample | None]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def figure(self, point: Point, metric: str) -> Figure | None:
        """Return a server's figure, or None if no round succeeded."""
        values = [sample[metric] for sample in self.samples.get(point, []) if sample is not None]
        return Figure.of(values) if values else None

    def result(self, target: Target) -> Figure | None:
        """Return the figure or the ratio that a target limits, or None if no round succeeded.

        A ratio is taken within each round, so that it does not depend on the round's speed.
        """
        if target.to is None:
            return self.figure(target.of, target.metric)
        pairs = zip(self.samples[target.of], self.samples[target.to], strict=True)
        ratios = [
            of[target.metric] / to[target.metric]
            for of, to in pairs
            if of is not None and to is not None and to[target.metric] > 0
        ]
        return Figure.of(ratios) if ratios else None


def run(plan: Plan, timing: Timing, rounds: int) -> Results:
    """Measure everything `rounds` times, with the servers in reverse order every other time."""
    results = Results()
    points = plan.points()
    for number in range(rounds):
        for load, contenders in points.items():
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                point = Point(contender, load)
                sample: Sample | None = None
                try:
                    sample = measure(contender, load, timing)
                except LoadError as error:
                    results.faults.append(str(error))
                results.samples.setdefault(point, []).append(sample)
                _print_sample(number + 1, rounds, point, sample)
    return results


def _print_sample(number: int, rounds: int, point: Point, sample: Sample | None) -> None:
    load = point.load
    name = f"{load.mode} {load.sockets}x{load.in_flight}"
    shown = "failed"
    if sample is not None:
        metric = next(m for m in ("copies", "cpu_us", "cpu_share", "connect_us") if m in sample)
        shown = f"{metric} {sample[metric]:.3f}"
    print(f"round {number}/{rounds}  {name:18} {point.contender.title:28} {shown}", file=sys.stderr)
