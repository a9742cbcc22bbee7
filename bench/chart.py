"""The results as a chart: results.svg."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

from bench.plan import SHOWN, Plan, Point
from bench.report import number
from bench.rounds import Results

_COLOURS = ("#9aa0a6", "#1a73e8", "#8ab4f8", "#f29900", "#d93025")
_BAR = 0.16


def draw(plan: Plan, results: Results, path: Path) -> None:
    """Draw CPU time per operation, on a logarithmic scale, with the spread over the rounds."""
    works = [work for work in plan.works if work.unit == "µs"]
    # Text stays text and nothing depends on the day, so that the file is small and comparable.
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bench"}):
        figure, axes = pyplot.subplots(figsize=(9, 7), layout="constrained")
        for index, contender in enumerate(SHOWN):
            found = [results.figure(Point(contender, work.load), work.metric) for work in works]
            places = [row + (index - 2) * _BAR for row, each in enumerate(found) if each]
            medians = [each.median for each in found if each]
            spread = [
                [each.median - each.least for each in found if each],
                [each.greatest - each.median for each in found if each],
            ]
            bars = axes.barh(
                places, medians, _BAR, xerr=spread, color=_COLOURS[index], label=contender.title
            )
            axes.bar_label(bars, [number(value) for value in medians], padding=4, fontsize=7)
        axes.set_xscale("log")
        axes.set_yticks(range(len(works)), [work.title for work in works])
        axes.invert_yaxis()
        axes.set_xlabel("server CPU per operation, µs (logarithmic; shorter is better)")
        axes.margins(x=0.15)
        figure.legend(loc="outside upper center", ncols=len(SHOWN), fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
