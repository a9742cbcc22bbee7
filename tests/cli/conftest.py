"""Fixtures of the tests of `serve`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cli.serving import SERVER, Serve, Served


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start `socketcluster serve` in a directory with a server; it is ended at the end."""
    (tmp_path / "mine.py").write_text(SERVER)
    started: list[Served] = []

    async def run(*arguments: str, **options: Any) -> Served:
        served = await Served.start(tmp_path, arguments, **options)
        started.append(served)
        return served

    yield run
    for served in started:
        await served.end()
