"""Write the results as tables, results.md."""

from __future__ import annotations

from dataclasses import dataclass

from bench.contenders import ASGI, ASYNC, HANDLER, PICOWS
from bench.plan import Plan, Point, Table, Target
from bench.rounds import Figure, Results

_METHOD = """\
One server runs at a time, pinned to one core; the load generator has another. They communicate over
loopback, with 100-byte payloads. A figure is the server's CPU time per operation unless its unit
says otherwise: the median of the rounds, with the least and the greatest value in brackets. A ratio
is taken within each round. The servers take turns, so that a change of the machine's speed affects
all of them.

Across processes there are two servers with a backend between them. The publisher is connected to
one and the subscribers to the other; the figure is the CPU time of all three. A publish to other
processes is measured without sockets."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The conditions of a measurement."""

    machine: str
    versions: str
    rounds: int
    seconds: float
    other_load: float

    def lines(self) -> list[str]:
        """Return the conditions as a Markdown list."""
        return [
            f"- Machine: {self.machine}",
            f"- Versions: {self.versions}",
            f"- {self.rounds} rounds of {self.seconds:g} seconds for each figure",
            f"- Other programs took {self.other_load:.0%} of the machine's cores meanwhile",
        ]


def markdown(plan: Plan, results: Results, circumstances: Circumstances) -> str:
    """Return the report as Markdown."""
    parts = ["# Results of the benchmark", f"`make bench` wrote this page. {_METHOD}"]
    parts.append("\n".join(circumstances.lines()))
    parts.append("![The figures as a bar chart](results.svg)")
    for table in plan.tables:
        parts += [f"## {table.title}", "\n".join(measurements_table(table, results))]
    parts += ["## Targets", "\n".join(targets_table(plan.targets, results))]
    parts.append(summary(plan.targets, results))
    if results.faults:
        parts += ["## Failures", "\n".join(f"- {fault}" for fault in results.faults)]
    return "\n\n".join(parts) + "\n"


def measurements_table(table: Table, results: Results) -> list[str]:
    """Return a table with each server's figures, line by line."""
    shown = table.contenders
    lines = ["| measurement | unit | " + " | ".join(c.title for c in shown) + " |"]
    lines.append("|---|---|" + "---|" * len(shown))
    for measurement in table.measurements:
        cells = [
            _figure(results.figure(Point(c, measurement.load), measurement.metric)) for c in shown
        ]
        lines.append(f"| {measurement.title} | {measurement.unit} | " + " | ".join(cells) + " |")
    return lines


def targets_table(targets: list[Target], results: Results) -> list[str]:
    """Return a table of the targets and their results, line by line."""
    lines = ["| measurement | compared | result | target | met |", "|---|---|---|---|---|"]
    for target in targets:
        result = results.result(target)
        met = "failed" if result is None else "yes" if _met(target, result) else "**no**"
        unit = f" {target.unit}" if target.unit else ""
        limit = f"≤ {target.limit:g}{unit} | {met}" if target.limit is not None else "- | -"
        lines.append(
            f"| {target.title} | {_compared(target)} | {_figure(result)}{unit} | {limit} |"
        )
    return lines


def summary(targets: list[Target], results: Results) -> str:
    """Return a sentence with the number of targets met."""
    limited = [target for target in targets if target.limit is not None]
    pairs = [(target, results.result(target)) for target in limited]
    met = sum(result is not None and _met(target, result) for target, result in pairs)
    return f"{met} of {len(limited)} targets met."


def _met(target: Target, result: Figure) -> bool:
    return target.limit is not None and result.median <= target.limit


def _compared(target: Target) -> str:
    of, to = target.of.contender, target.to.contender if target.to else None
    if to is None or to is of:
        return of.title
    if of is PICOWS:
        return f"to {to.title}"
    if of is ASGI:
        return "asgi engine to picows"
    if of in (HANDLER, ASYNC):
        return f"{of.title} to a loop"
    return f"{of.title}, to the same without"


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "failed"
    shown = number(figure.median)
    if figure.least == figure.greatest:
        return shown
    return f"{shown} ({number(figure.least)}-{number(figure.greatest)})"


def number(value: float) -> str:
    """Format a number with three significant digits, or all digits before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
