"""Programs of users, as mypy and pyright see them.

Both must accept `programs/`. Each error that a user must see stands there beside a comment that
allows that kind of error alone, and a checker reports a comment that allows nothing: an error that
is no longer found fails the test, as a new one does.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAMS = sorted((HERE / "programs").glob("*.py"))
BIN = Path(sys.executable).parent


def run(*command: str | Path) -> tuple[int, str]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_mypy(tmp_path: Path) -> None:
    cache = ("--cache-dir", tmp_path)
    code, output = run(sys.executable, "-m", "mypy", "--strict", *cache, HERE / "programs")
    assert code == 0, output
    assert f"in {len(PROGRAMS)} source files" in output


def test_pyright() -> None:
    code, output = run(BIN / "basedpyright", "-p", HERE, "--pythonpath", sys.executable)
    assert code == 0, output


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_both_checkers_see_the_same_errors(program: Path) -> None:
    for number, line in enumerate(program.read_text().splitlines(), 1):
        both = ("# type: ignore[" in line, "# pyright: ignore[" in line)
        assert both[0] == both[1], f"{program.name}:{number}"
