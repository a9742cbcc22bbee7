"""The commands that describe a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cli.commands import Result, run_here

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


Describe = Callable[..., Result]


@pytest.fixture
def describe(tmp_path: Path) -> Describe:
    """A runner of commands in this process, in a directory with a program."""
    (tmp_path / "program.py").write_text(PROGRAM)
    return partial(run_here, folder=tmp_path)


def test_run_as_a_program(describe: Describe, tmp_path: Path) -> None:
    for arguments in (["asyncapi", "program:server"], ["types", "--wrapper"]):
        command = [sys.executable, "-m", "socketcluster", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert Result(done.returncode, done.stdout, done.stderr) == describe(*arguments)


def test_asyncapi(describe: Describe) -> None:
    found = describe("asyncapi", "program:server")
    assert (found.status, found.err) == (0, "")
    document = json.loads(found.out)
    assert (document["info"]["title"], document["info"]["version"]) == ("Chat", "2")
    assert list(document["operations"]) == ["call_add", "event_move", "message_room_room"]
    assert "servers" not in document


def test_options_override_those_of_the_server(describe: Describe) -> None:
    options = ["--title", "T", "--api-version", "3", "--description", "D"]
    found = describe("asyncapi", "program:server", *options, "--url", "wss://a.example/")
    document = json.loads(found.out)
    assert document["info"] | {"tags": []} == {
        "title": "T",
        "version": "3",
        "description": "D",
        "tags": [],
    }
    assert document["servers"]["main"]["host"] == "a.example"
    refused = describe("asyncapi", "program:server", "--url", "http://a.example/")
    assert (refused.status, refused.out) == (2, "")
    assert "asyncapi.url" in refused.err


def test_openrpc(describe: Describe) -> None:
    document = json.loads(describe("openrpc", "program:server", "--title", "T").out)
    assert document["info"] == {"title": "T", "version": "2"}
    assert [method["name"] for method in document["methods"]] == ["add"]


def test_types(describe: Describe) -> None:
    found = describe("types", "program:server")
    assert (found.status, found.err) == (0, "")
    assert "  add: { data: number[]; returns: number };\n" in found.out
    assert "  move: number | undefined;\n" in found.out
    assert '  "room/{room}": { message: string; publish: never };\n' in found.out
    assert describe("types", "program:server").out == found.out
    wrapper = describe("types", "--wrapper")
    assert "export function typed(socket)" in wrapper.out


def test_the_files_of_recovering(describe: Describe) -> None:
    module = describe("recovering")
    assert (module.status, module.err) == (0, "")
    assert module.out.count("export ") == module.out.count("export function recovering(socket") == 1
    assert len(module.out.splitlines()) <= 40
    classic = describe("recovering", "--classic")
    assert "export" not in classic.out.replace("module.exports", "")
    assert "\nfunction recovering(socket" in classic.out
    assert "export function recovering(" in describe("recovering", "--types").out


def test_a_server_without_handlers_has_a_description(describe: Describe) -> None:
    document = json.loads(describe("asyncapi", "program:plain").out)
    assert document["info"]["title"] == "SocketCluster API"
    assert document["operations"] == {}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["types", "program:nothing"], 1, "The module 'program' has no attribute 'nothing'"),
        (["types", "program"], 1, "The target 'program' must be of the form module:attribute"),
        (["types", "--wrapper", "program:server"], 2, "The wrapper is the same for every server"),
        (["recovering", "--classic", "--types"], 2, "The options --classic and --types exclude"),
    ],
)
def test_failures(describe: Describe, arguments: list[str], status: int, message: str) -> None:
    found = describe(*arguments)
    assert (found.status, found.out) == (status, "")
    assert found.err.startswith(f"socketcluster: {message}")


def test_an_error_of_the_program_is_shown_with_its_place(
    describe: Describe, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    found = describe("asyncapi", "broken:server")
    assert found.status == 1
    assert 'broken.py", line 1' in found.err
    assert found.err.endswith(
        "socketcluster: Cannot import 'broken:server': ZeroDivisionError: division by zero\n"
    )
