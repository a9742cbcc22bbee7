"""The original servers, each in a process of its own, for the tests of the client."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import require

JS = Path(__file__).parent / "js"


@contextmanager
def npm_server(
    module: str, options: dict[str, Any] | None = None, codec: str = ""
) -> Iterator[int]:
    """The port of a server: "server20" or "server14", with options by their documented names."""
    require(shutil.which("node") is not None, "Node.js")
    require(
        (JS / "node_modules" / module).is_dir(),
        "the npm packages: npm install --prefix tests/interop/js",
    )
    process = subprocess.Popen(
        ["node", "server.js", module, json.dumps(options or {}), codec],
        cwd=JS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
