"""The table of clients and scenarios at the end of a test run."""

from __future__ import annotations

from typing import Any


def table(reports: list[Any]) -> list[str]:
    """Lines of the table, from the properties that the interop tests recorded."""
    results: dict[str, dict[str, bool | None]] = {}
    notes: list[str] = []
    for report in reports:
        found = dict(getattr(report, "user_properties", ()))
        if "client" in found and report.when == "call":
            results[found["client"]] = found["results"]
            for scenario, why in found.get("unsupported", {}).items():
                notes.append(f"n/a: {scenario} of {found['client']}: {why}")
    if not results:
        return []
    scenarios = list(dict.fromkeys(s for found in results.values() for s in found))
    first = max(map(len, scenarios))
    lines = [" " * first + "  " + "  ".join(results)]
    for scenario in scenarios:
        cells = []
        for client, found in results.items():
            shown = {True: "ok", False: "FAILED", None: "n/a"}[found.get(scenario, False)]
            cells.append(shown.center(len(client)))
        lines.append(scenario.ljust(first) + "  " + "  ".join(cells))
    return lines + notes
