"""The measurements of docs/capacity.md, in small."""

from __future__ import annotations

import re
import shutil

import pytest

from bench import capacity
from support import require


@pytest.fixture(autouse=True)
def in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    require(shutil.which("taskset") is not None, "taskset")
    require(shutil.which("redis-server") is not None, "redis-server")
    for name, value in {
        "PROCESSES": (1, 3),
        "ROOMS": 20,
        "AT_ONCE": 5,
        "MEMBERS": 4,
        "ROOM_PROCESSES": 3,
        "CHANNELS": 100,
        "CONNECTS": 4,
        "HANDSHAKES": 2,
    }.items():
        monkeypatch.setattr(capacity, name, value)


@pytest.mark.parametrize("name", capacity.MEASUREMENTS)
async def test_prints_a_cost_above_zero(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    await capacity.main([name])
    *_, last = capsys.readouterr().out.strip().splitlines()
    figures = re.findall(r"\d+(?:\.\d+)?", last)
    assert figures
    assert float(figures[0]) > 0
