"""The commands that describe a server, run as programs."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.commands import Commands, Result, ended

PROGRAM = """
from socketcluster import AGServer, AsyncAPI

server = AGServer(asyncapi=AsyncAPI(title="Chat", version="2"), allow_client_publish=False)
plain = AGServer()

@server.procedure("add")
def add(data: list[int]) -> int:
    "Add numbers."
    return sum(data)

@server.receiver("move")
def move(data: int = 0) -> None: ...

@server.channel("room/{room}", publish=str)
def room(room: str) -> bool:
    return True
"""


class Describe:
    """Runs commands in a directory with a program."""

    def __init__(self, commands: Commands, directory: Path) -> None:
        self._commands = commands
        self._directory = directory
        (directory / "program.py").write_text(PROGRAM)

    async def __call__(self, *arguments: str) -> Result:
        return await ended(await self._commands.start(*arguments, cwd=self._directory), "")


@pytest.fixture
async def describe(tmp_path: Path) -> AsyncIterator[Describe]:
    """A runner of commands beside a program."""
    commands = Commands(PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    yield Describe(commands, tmp_path)
    await commands.stop()


async def test_asyncapi(describe: Describe) -> None:
    found = await describe("asyncapi", "program:server")
    assert (found.status, found.err) == (0, "")
    document = json.loads(found.out)
    assert (document["info"]["title"], document["info"]["version"]) == ("Chat", "2")
    assert list(document["operations"]) == ["call_add", "event_move", "message_room_room"]
    assert "servers" not in document


async def test_options_override_those_of_the_server(describe: Describe) -> None:
    options = ["--title", "T", "--api-version", "3", "--description", "D"]
    found = await describe("asyncapi", "program:server", *options, "--url", "wss://a.example/")
    document = json.loads(found.out)
    assert document["info"] | {"tags": []} == {
        "title": "T",
        "version": "3",
        "description": "D",
        "tags": [],
    }
    assert document["servers"]["main"]["host"] == "a.example"
    refused = await describe("asyncapi", "program:server", "--url", "http://a.example/")
    assert (refused.status, refused.out) == (2, "")
    assert "asyncapi.url" in refused.err


async def test_openrpc(describe: Describe) -> None:
    document = json.loads((await describe("openrpc", "program:server", "--title", "T")).out)
    assert document["info"] == {"title": "T", "version": "2"}
    assert [method["name"] for method in document["methods"]] == ["add"]


async def test_types(describe: Describe) -> None:
    found = await describe("types", "program:server")
    assert (found.status, found.err) == (0, "")
    assert "  add: { data: number[]; returns: number };\n" in found.out
    assert "  move: number | undefined;\n" in found.out
    assert '  "room/{room}": { message: string; publish: never };\n' in found.out
    assert (await describe("types", "program:server")).out == found.out
    wrapper = await describe("types", "--wrapper")
    assert "export function typed(socket)" in wrapper.out


async def test_a_server_without_handlers_has_a_description(describe: Describe) -> None:
    document = json.loads((await describe("asyncapi", "program:plain")).out)
    assert document["info"]["title"] == "SocketCluster API"
    assert document["operations"] == {}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["types", "program:nothing"], 1, "The module 'program' has no attribute 'nothing'"),
        (["types", "program"], 1, "The target 'program' must be of the form module:attribute"),
        (["types", "--wrapper", "program:server"], 2, "The wrapper is the same for every server"),
    ],
)
async def test_failures(
    describe: Describe, arguments: list[str], status: int, message: str
) -> None:
    found = await describe(*arguments)
    assert (found.status, found.out) == (status, "")
    assert found.err.startswith(f"socketcluster: {message}")


async def test_an_error_of_the_program_is_shown_with_its_place(
    describe: Describe, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    found = await describe("asyncapi", "broken:server")
    assert found.status == 1
    assert 'broken.py", line 1' in found.err
    assert found.err.endswith(
        "socketcluster: Cannot import 'broken:server': ZeroDivisionError: division by zero\n"
    )
