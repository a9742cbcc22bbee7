"""Counts instructions per operation, with callgrind; as a program it writes the bounds.

The count is the same on every run and whatever else the machine does. Most of it is CPython's:
with a build of the same version that was optimized by profile it is some 8 % less, with another
minor version up to 15 % more or less, and there a wider margin is left.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from performance.workload import MARK, OPERATIONS

BOUNDS = Path(__file__).with_name("bounds.json")
MAX_SECONDS = 800
"""It takes 30 seconds of a core, of which a busy machine may have little to give."""

_SOURCES = Path(__file__).resolve().parents[2] / "src"


def count(*options: str) -> dict[str, int]:
    """Instructions per operation of every path of the workload, with options such as "metrics"."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        command = ["valgrind", "--tool=callgrind", f"--dump-before={MARK}"]
        command += [f"--callgrind-out-file={out}", sys.executable]
        command += [str(Path(__file__).with_name("workload.py")), *options]
        done = subprocess.run(
            command,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=MAX_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"The workload failed under callgrind: {done.stderr}")
        # Part 1 is what was before the first mark; then paths and what lies between take turns.
        return {
            path: round(_total(out.with_name(f"out.{2 * number}")) / operations)
            for number, (path, operations) in enumerate(OPERATIONS.items(), 1)
        }


def _environment() -> dict[str, str]:
    """That of this process, without what would change how Python runs, and with these sources."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONPATH": str(_SOURCES)}


def _total(part: Path) -> int:
    lines: Iterator[str] = iter(part.read_text().splitlines())
    return next(int(line.split()[1]) for line in lines if line.startswith("totals:"))


def here() -> dict[str, str]:
    """What the counts depend on, besides the code and its dependencies."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": version, "machine": platform.machine()}


def bounds() -> tuple[dict[str, int], bool]:
    """The counts that are on record, and whether they are of this Python and this processor."""
    recorded = json.loads(BOUNDS.read_text())
    counts: dict[str, int] = recorded["instructions"]
    return counts, here() == {name: recorded[name] for name in here()}


def record() -> None:
    """Write what is counted now into the bounds."""
    before = bounds()[0] if BOUNDS.exists() else {}
    counts = count()
    for path, found in counts.items():
        change = f" ({found / before[path] - 1:+.1%})" if path in before else ""
        print(f"{path:24} {found:9,} instructions{change}")
    BOUNDS.write_text(json.dumps({**here(), "instructions": counts}, indent=2) + "\n")


if __name__ == "__main__":
    record()
