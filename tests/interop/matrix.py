"""The tables of clients, and of servers, and scenarios at the end of a test run."""

from __future__ import annotations

from typing import Any


def table(reports: list[Any], kind: str) -> list[str]:
    """Lines of the table of a kind, "client" or "server", from what the interop tests recorded."""
    results: dict[str, dict[str, bool | None]] = {}
    notes: list[str] = []
    for report in reports:
        found = dict(getattr(report, "user_properties", ()))
        if kind in found and report.when == "call":
            results[found[kind]] = found["results"]
            for scenario, why in found.get("unsupported", {}).items():
                notes.append(f"n/a: {scenario} of {found[kind]}: {why}")
    if not results:
        return []
    scenarios = list(dict.fromkeys(s for found in results.values() for s in found))
    first = max(map(len, scenarios))
    lines = [" " * first + "  " + "  ".join(results)]
    for scenario in scenarios:
        cells = []
        for name, found in results.items():
            shown = {True: "ok", False: "FAILED", None: "n/a"}[found.get(scenario, False)]
            cells.append(shown.center(len(name)))
        lines.append(scenario.ljust(first) + "  " + "  ".join(cells))
    return lines + notes
