"""The programs in docs/testing.md run, as tests, with the plugin."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "testing.md"


def test_the_document(tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    tests = "\n\n".join(programs)
    (tmp_path / "test_document.py").write_text(tests)
    settings = ("asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function")
    options = [part for setting in settings for part in ("-o", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    count = tests.count("async def test_")
    assert count == 10
    assert f"{count} passed" in done.stdout, done.stdout + done.stderr
