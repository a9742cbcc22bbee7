"""The results as a chart: results.svg."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.plan import Plan, Point, Table, Work
from bench.report import number
from bench.rounds import Results

_COLORS = {
    "limit": "#9aa0a6",
    "picows": "#1a73e8",
    "asgi": "#8ab4f8",
    "npm": "#f29900",
    "socketio": "#d93025",
    "zeromq": "#188038",
    "redis": "#5bb974",
    "nats": "#a8dab5",
    "socketio-redis": "#d93025",
}
_BAR = 0.16


def draw(plan: Plan, results: Results, path: Path) -> None:
    """Draw CPU time per operation, on a logarithmic scale, with the spread over the rounds."""
    heights = [len(_rows(table)) for table in plan.tables]
    # Text stays text and nothing depends on the day, so that the file is small and comparable.
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bench"}):
        figure, parts = pyplot.subplots(
            len(heights),
            figsize=(9, 1 + sum(heights)),
            height_ratios=heights,
            sharex=True,
            squeeze=False,
            layout="constrained",
        )
        for axes, table in zip(parts.flat, plan.tables, strict=True):
            _draw_table(axes, table, results)
        axes.set_xlabel("server CPU per operation, µs (logarithmic; shorter is better)")
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def _rows(table: Table) -> list[Work]:
    return [work for work in table.works if work.unit == "µs"]


def _draw_table(axes: Axes, table: Table, results: Results) -> None:
    works = _rows(table)
    for index, contender in enumerate(table.contenders):
        found = [results.figure(Point(contender, work.load), work.metric) for work in works]
        places = [row + (index - 2) * _BAR for row, each in enumerate(found) if each]
        medians = [each.median for each in found if each]
        spread = [
            [each.median - each.least for each in found if each],
            [each.greatest - each.median for each in found if each],
        ]
        color = _COLORS[contender.key]
        bars = axes.barh(places, medians, _BAR, xerr=spread, color=color, label=contender.title)
        axes.bar_label(bars, [number(value) for value in medians], padding=4, fontsize=7)
    axes.set_title(table.title, fontsize=10, loc="left", pad=22)
    axes.set_xscale("log")
    axes.set_yticks(range(len(works)), [work.title for work in works])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(table.contenders),
        fontsize=7,
        frameon=False,
        borderpad=0,
        columnspacing=1,
        handlelength=1,
    )
    axes.spines[["top", "right"]].set_visible(False)
