"""The systemd units."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.files import DEPLOY, assert_understood
from support import require

SERVICE = (DEPLOY / "systemd/socketcluster.service").read_text()


def _value(name: str) -> str:
    (line,) = (x for x in SERVICE.splitlines() if x.startswith(f"{name}="))
    return line.partition("=")[2]


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that exists on this machine."""
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    program = shlex.split(_value("ExecStart"))[0]
    (tmp_path / "socketcluster.service").write_text(SERVICE.replace(program, sys.executable))
    shutil.copy(DEPLOY / "systemd/socketcluster.socket", tmp_path)
    return tmp_path


def test_understood(units: Path) -> None:
    command = ["systemd-analyze", "verify", "--recursive-errors=no", *map(str, units.iterdir())]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_exposure(units: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=40"]
    result = subprocess.run(
        [*command, str(units / "socketcluster.service")], capture_output=True, text=True
    )
    level = re.search(r"exposure level for \S+: ([\d.]+)", result.stdout)
    assert level is not None, result.stderr
    assert float(level[1]) <= 4
    assert result.returncode == 0  # It is at most the threshold, in tenths.


def test_command_line() -> None:
    _, *arguments = shlex.split(_value("ExecStart"))
    assert_understood(arguments)
    assert _value("ExecReload") == "/bin/kill -HUP $MAINPID"
    assert _value("Type") == "notify"
    assert int(_value("TimeoutStopSec")) >= 10 + 15
