"""Draw the results as a chart, results.svg."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.plan import Measurement, Plan, Point, Table
from bench.report import number
from bench.rounds import Results

_COLORS = {
    "limit": "#9aa0a6",
    "picows": "#1a73e8",
    "asgi": "#8ab4f8",
    "handler": "#0b57d0",
    "typed": "#4c8df6",
    "async": "#a8c7fa",
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
    # Text stays text, and no date or random id is included, so that versions can be compared.
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


def _rows(table: Table) -> list[Measurement]:
    return [measurement for measurement in table.measurements if measurement.unit == "µs"]


def _draw_table(axes: Axes, table: Table, results: Results) -> None:
    measurements = _rows(table)
    for index, contender in enumerate(table.contenders):
        figures = [
            results.figure(Point(contender, measurement.load), measurement.metric)
            for measurement in measurements
        ]
        positions = [row + (index - 2) * _BAR for row, figure in enumerate(figures) if figure]
        medians = [figure.median for figure in figures if figure]
        spread = [
            [figure.median - figure.least for figure in figures if figure],
            [figure.greatest - figure.median for figure in figures if figure],
        ]
        color = _COLORS[contender.key]
        bars = axes.barh(positions, medians, _BAR, xerr=spread, color=color, label=contender.title)
        axes.bar_label(bars, [number(value) for value in medians], padding=4, fontsize=7)
    axes.set_title(table.title, fontsize=10, loc="left", pad=22)
    axes.set_xscale("log")
    axes.set_yticks(range(len(measurements)), [measurement.title for measurement in measurements])
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
