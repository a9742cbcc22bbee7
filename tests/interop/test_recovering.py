"""`recovering.js` around each official client: over reconnections it receives each publish once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cut_lines import CUTS, CutLine, publish_over_cuts
from interop.test_describe import JS, TSC, require_package, run_node
from recovering import history, publish, server_with
from socketcluster import AGServer
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.history import javascript
from support import require, until

CLIENTS = ("client14", "client16", "client17", "client19", "client20")


def options_for(client: str) -> dict[str, Any]:
    return {"protocol_version": 1 if client == "client14" else 2, "auth_key": None}


def write(folder: Path, form: str) -> str:
    """Write the helper; return its path."""
    path = folder / ("recovering.mjs" if form == "module" else "recovering.cjs")
    path.write_text(javascript.module() if form == "module" else javascript.classic())
    return str(path)


@asynccontextmanager
async def page(client: str, port: int, *arguments: str, **variables: str) -> AsyncIterator[Any]:
    """A program with a client; the value is the list of what it has printed so far."""
    require(shutil.which("node") is not None, "Node.js")
    require_package(client)
    process = await asyncio.create_subprocess_exec(
        *("node", "recovering.js", client, str(port), *arguments),
        cwd=JS,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **variables},
    )
    lines: list[Any] = []
    reading = asyncio.ensure_future(_read(process.stdout, lines))
    try:
        yield lines
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def _read(output: asyncio.StreamReader | None, lines: list[Any]) -> None:
    assert output is not None
    async for line in output:
        lines.append(json.loads(line))


def cut(server: AGServer) -> None:
    (socket,) = server.clients.values()
    socket.terminate()


def has_values(lines: list[Any], count: int) -> bool:
    return lines == [*range(1, count + 1)]


def is_subscribed(server: AGServer, channel: str = "c/1") -> bool:
    return any(socket.is_subscribed(channel) for socket in server.clients.values())


@pytest.mark.parametrize(
    ("client", "form", "half_open"),
    [
        *(
            (client, ("module", "classic")[number % 2], False)
            for number, client in enumerate(CLIENTS)
        ),
        ("client20", "classic", True),
    ],
)
async def test_nothing_is_lost_or_repeated(
    make_server: Any, tmp_path: Path, client: str, form: str, half_open: bool
) -> None:
    server = await make_server(server_with(history(size=1000), **options_for(client)))
    async with (
        CutLine(server.source_port, random.Random(client), half_open) as line,
        page(client, line.port, write(tmp_path, form)) as lines,
    ):
        await until(lambda: is_subscribed(server))
        await publish(server, "begin")
        await until(lambda: lines == ["begin"])  # It knows where it is.
        published = await publish_over_cuts(server, "c/1", line.cut, client)
        await until(lambda: lines[-1:] == ["end"])
        assert lines == ["begin", *published]
    assert line.cuts > CUTS // 2
    assert server._context.counts.recoveries["recovered"] > 0
    assert set(server._context.counts.recoveries) == {"recovered"}


@pytest.mark.parametrize("client", CLIENTS)
async def test_lost_publishes_are_told(make_server: Any, tmp_path: Path, client: str) -> None:
    kept = history(size=100, recover_limit=2)
    server = await make_server(server_with(kept, **options_for(client)))
    async with page(client, server.source_port, write(tmp_path, "module")) as lines:
        await until(lambda: is_subscribed(server))
        await publish(server, 1)
        await until(lambda: lines == [1])
        cut(server)
        await until(lambda: not server.clients)
        await publish(server, 2, 3, 4)
        await until(lambda: is_subscribed(server))
        await publish(server, 5)
        await until(lambda: len(lines) == 3)
        # Values of channels and of 'message' have no order among each other.
        assert sorted(lines, key=str) == [1, 5, {"lost": "c/1"}]


async def test_a_page_with_a_prefix_and_another_codec(make_server: Any, tmp_path: Path) -> None:
    require_package("sc-codec-min-bin")
    server = await make_server(server_with(codec_engine=MinBinCodec(), auth_key=None))
    arguments = write(tmp_path, "classic"), "c/"
    async with page("client20", server.source_port, *arguments, CODEC="sc-codec-min-bin") as lines:
        for value in (1, 2, 3):
            await until(lambda: is_subscribed(server))
            await publish(server, value)
            await until(partial(has_values, lines, value))
            cut(server)
            await until(lambda: not server.clients)


async def test_typescript_accepts_right_calls_and_refuses_wrong_ones(tmp_path: Path) -> None:
    require_package("typescript")
    (tmp_path / "node_modules").symlink_to(JS / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "recovering.d.ts").write_text(javascript.types())
    program = (JS / "recover.ts").read_text()
    (tmp_path / "recover.ts").write_text(program)
    tsc = str(JS / "node_modules" / "typescript" / "bin" / "tsc")
    assert await run_node(tsc, *TSC, "recover.ts", cwd=tmp_path) == (0, "")
    lines = program.splitlines()
    (tmp_path / "recover.ts").write_text("\n".join(x.partition("// @ts-")[0] for x in lines))
    _, out = await run_node(tsc, *TSC, "recover.ts", cwd=tmp_path)
    expected = {number + 2 for number, line in enumerate(lines) if "@ts-expect-error" in line}
    assert {
        int(line) for line in re.findall(r"^recover\.ts\((\d+),", out, re.MULTILINE)
    } == expected
