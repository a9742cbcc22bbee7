"""The results as tables: results.md."""

from __future__ import annotations

from dataclasses import dataclass

from bench.contenders import ASGI, PICOWS
from bench.plan import Plan, Point, Table, Target
from bench.rounds import Figure, Results

_METHOD = """\
One server at a time, pinned to one core, the load generator to another, over loopback, with
100-byte payloads. A figure is the server's CPU time per operation unless its unit says something
else: the median of the rounds, with the least and the greatest in brackets. A ratio is taken
within each round. The servers take turns, so that a change of the machine's speed meets all.

Across processes there are two servers with an engine between them: the publisher is connected to
one, the subscribers to the other, and the figure is the CPU time of all three. A publish to other
processes is measured without sockets behind them."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How it was measured."""

    machine: str
    versions: str
    rounds: int
    seconds: float
    other_load: float

    def lines(self) -> list[str]:
        """As a list in Markdown."""
        return [
            f"- Machine: {self.machine}",
            f"- Versions: {self.versions}",
            f"- {self.rounds} rounds of {self.seconds:g} seconds for each figure",
            f"- Other programs took {self.other_load:.0%} of the machine's cores meanwhile",
        ]


def markdown(plan: Plan, results: Results, circumstances: Circumstances) -> str:
    """The whole report."""
    parts = ["# Results of the benchmark", f"`make bench` wrote this. {_METHOD}"]
    parts.append("\n".join(circumstances.lines()))
    parts.append("![The figures as bars](results.svg)")
    for table in plan.tables:
        parts += [f"## {table.title}", "\n".join(works_table(table, results))]
    parts += ["## Targets", "\n".join(targets_table(plan.targets, results))]
    parts.append(summary(plan.targets, results))
    if results.faults:
        parts += ["## Failures", "\n".join(f"- {fault}" for fault in results.faults)]
    return "\n\n".join(parts) + "\n"


def works_table(table: Table, results: Results) -> list[str]:
    """Every server's figures."""
    shown = table.contenders
    lines = ["| work | unit | " + " | ".join(c.title for c in shown) + " |"]
    lines.append("|---|---|" + "---|" * len(shown))
    for work in table.works:
        cells = [_figure(results.figure(Point(c, work.load), work.metric)) for c in shown]
        lines.append(f"| {work.title} | {work.unit} | " + " | ".join(cells) + " |")
    return lines


def targets_table(targets: list[Target], results: Results) -> list[str]:
    """What was asked, and whether it was reached."""
    lines = ["| work | compared | result | target | met |", "|---|---|---|---|---|"]
    for target in targets:
        found = results.result(target)
        met = "failed" if found is None else "yes" if _met(target, found) else "**no**"
        unit = f" {target.unit}" if target.unit else ""
        asked = f"≤ {target.limit:g}{unit} | {met}" if target.limit is not None else "- | -"
        lines.append(f"| {target.title} | {_compared(target)} | {_figure(found)}{unit} | {asked} |")
    return lines


def summary(targets: list[Target], results: Results) -> str:
    """How many targets were met."""
    asked = [target for target in targets if target.limit is not None]
    found = [(target, results.result(target)) for target in asked]
    met = sum(result is not None and _met(target, result) for target, result in found)
    return f"{met} of {len(asked)} targets met."


def _met(target: Target, found: Figure) -> bool:
    return target.limit is not None and found.median <= target.limit


def _compared(target: Target) -> str:
    of, to = target.of.contender, target.to.contender if target.to else None
    if to is None or to is of:
        return of.title
    if of is PICOWS:
        return f"to {to.title}"
    if of is ASGI:
        return "asgi engine to picows"
    return f"{of.title}, to the same without"


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "failed"
    shown = number(figure.median)
    if figure.least == figure.greatest:
        return shown
    return f"{shown} ({number(figure.least)}-{number(figure.greatest)})"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
