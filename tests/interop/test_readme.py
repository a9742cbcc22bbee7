"""The README's two programs: its server, and its lines of JavaScript on the official client."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

from support import require, soon

ROOT = Path(__file__).resolve().parents[2]
JS = Path(__file__).parent / "js"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


async def test_the_javascript_of_the_readme_talks_to_its_server(make_server: Any) -> None:
    require(shutil.which("node") is not None, "Node.js")
    require((JS / "node_modules" / "client20").is_dir(), "the npm packages: make interop-clients")
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block("python"), "README.md", "exec", dont_inherit=True), names)
    server = await make_server(names["server"])
    program = "import socketClusterClient from 'client20';\n" + block("js").replace(
        "8000", str(server.source_port)
    )
    process = await asyncio.create_subprocess_exec(
        *("node", "--input-type=module", "-e", program), cwd=JS, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await soon(process.stdout.readline()) == b"3\n"
        assert await soon(process.stdout.readline()) == b"hello\n"
    finally:
        process.kill()
        await process.wait()
