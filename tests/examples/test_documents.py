"""The Python of the README and the documents type-checks, and runs where it is whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support import AnswerError, connected

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_of(page: Path) -> str:
    """The Python blocks of a page, as one module: later ones build on earlier ones."""
    return "\n\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))


def module_of(name: str) -> ModuleType:
    module = ModuleType("page")
    exec(compile(code_of(ROOT / "docs" / name), name, "exec"), module.__dict__)
    return module


def test_every_page_type_checks(tmp_path: Path) -> None:
    names = []
    for page in PAGES:
        if code := code_of(page):
            names.append(page.stem.lower().replace("-", "_") + "_page.py")
            (tmp_path / names[-1]).write_text(code)
    assert len(names) >= 9
    command = [sys.executable, "-m", "mypy", "--check-untyped-defs", "--cache-dir", "cache", *names]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("page", [p.name for p in PAGES[1:]])
def test_every_page_can_be_imported(page: str) -> None:
    module_of(page)


async def test_getting_started(make_server: Any) -> None:
    server = await make_server(module_of("getting-started.md").server)
    async with connected(server) as client:
        assert await client.call("add", [1, 2]) == 3
        with pytest.raises(AnswerError, match="Internal server error"):
            await client.call("add", 5)
        await client.call("#subscribe", {"channel": "notes"})
        await client.transmit("note", "hello")
        events = [(await client.event())["event"] for _ in range(2)]
        assert sorted(events) == ["#publish", "noted"]


async def test_streams(capsys: pytest.CaptureFixture[str]) -> None:
    await module_of("streams.md").main()
    assert capsys.readouterr().out.splitlines() == [
        "4",
        "6",
        "Nothing was written for 10 milliseconds",
        "for those who consume 'a'",
    ]


async def test_middleware(make_server: Any) -> None:
    server = await make_server(module_of("middleware.md").server)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "c"})
        with pytest.raises(AnswerError, match="Read only"):
            await client.call("#publish", {"channel": "news", "data": 1})
        await client.call("#publish", {"channel": "c", "data": 1})
        (socket,) = server.clients
        assert (await client.event())["data"]["data"] == {"from": socket, "data": 1}
    async with connected(server, handshake=False, additional_headers={"X-Version": "1"}) as client:
        with pytest.raises(AnswerError, match="Please update"):
            await client.handshake()
        assert (await client.closed())[0] == 4500
