"""The program in the contract's documentation runs, on each engine."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import websockets

from socketcluster.engines import base
from socketcluster.engines.registry import resolve_engine
from socketcluster.protocol import frames
from support import soon


def program() -> str:
    """The indented lines of the docstring, as the body of a function."""
    assert base.__doc__ is not None
    lines = [x for x in base.__doc__.splitlines() if x.startswith("    ") or not x]
    return "async def run():\n" + "\n".join(lines) + "\n    return listener\n"


@pytest.mark.parametrize("engine", ["picows", "asgi"])
async def test_the_echo_server_of_the_documentation(engine: str) -> None:
    source = program().replace('"picows"', repr(engine)).replace("port=8000", "port=0")
    names: dict[str, Any] = {**vars(base), **vars(frames), "resolve_engine": resolve_engine}
    names["http_application"] = None
    exec(textwrap.dedent(source), names)
    listener = await names["run"]()
    try:
        async with websockets.connect(f"ws://127.0.0.1:{listener.port}/") as client:
            for message in ("text", b"bytes"):
                await client.send(message)
                assert await soon(client.recv()) == message
    finally:
        await listener.close()
