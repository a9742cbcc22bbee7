"""The documents of handlers, judged by npm's tools, and the wrapper around the official clients."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from describe.sample import TABLES, FakeTables, Filter, Page, Picture, Text
from interop.server_app import Application
from socketcluster import AGServer, AsyncAPI
from socketcluster.describe.api import Api
from socketcluster.describe.asyncapi import asyncapi_document
from socketcluster.describe.declarations import declarations, wrapper
from socketcluster.describe.openrpc import openrpc_document
from support import Running, require

JS = Path(__file__).parent / "js"
TSC = ("--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--types", "node")


async def run_node(*command: str, cwd: Path = JS, stdin: str = "") -> tuple[int | None, str]:
    """The exit status and the output of a program on Node."""
    require(shutil.which("node") is not None, "Node.js")
    process = await asyncio.create_subprocess_exec(
        "node",
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode()


def require_package(name: str) -> None:
    installed = (JS / "node_modules" / name).is_dir()
    require(installed, "the npm packages: npm install --prefix tests/interop/js")


async def parse(*documents: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers of the official parser, which takes a second to start."""
    require_package("@asyncapi/parser")
    texts = [json.dumps(document) for document in documents]
    status, out = await run_node("asyncapi.js", stdin=json.dumps(texts))
    assert status == 0, out
    parsed: list[dict[str, Any]] = json.loads(out)
    return parsed


async def test_the_official_parser_accepts_documents_and_finds_faults() -> None:
    documents = [
        asyncapi_document(Api.of(tables), title="Chat", version="1", url=url)
        for tables in (TABLES, FakeTables())
        for url in (None, "wss://chat.example.com/socketcluster/")
    ]
    faulty = asyncapi_document(Api.of(TABLES), title="Chat", version="1")
    faulty["operations"]["call_add"]["channel"] = {"$ref": "#/channels/nothing"}
    *accepted, refused = await parse(*documents, faulty)
    assert accepted == [
        {"operations": list(document["operations"]), "diagnostics": []} for document in documents
    ]
    assert any("nothing" in found["message"] for found in refused["diagnostics"])


async def test_openrpc_documents_are_valid() -> None:
    require_package("@open-rpc/meta-schema")
    document = openrpc_document(Api.of(TABLES), title="Chat", version="1", url="ws://localhost/")
    assert await run_node("openrpc.js", stdin=json.dumps(document)) == (0, "[]\n")
    del document["methods"][0]["result"]["name"]
    status, out = await run_node("openrpc.js", stdin=json.dumps(document))
    assert (status, "/methods/0/result: must have required property 'name'" in out) == (0, True)


async def test_typescript_accepts_right_calls_and_refuses_wrong_ones(tmp_path: Path) -> None:
    require_package("typescript")
    (tmp_path / "node_modules").symlink_to(JS / "node_modules")
    (tmp_path / "api.d.ts").write_text(declarations(Api.of(TABLES)))
    program = (JS / "use.ts").read_text()
    (tmp_path / "use.ts").write_text(program)
    tsc = str(JS / "node_modules" / "typescript" / "bin" / "tsc")
    assert await run_node(tsc, *TSC, "use.ts", cwd=tmp_path) == (0, "")
    # Without the comments that expect them, each error is reported.
    lines = program.splitlines()
    (tmp_path / "use.ts").write_text("\n".join(x.partition("// @ts-")[0] for x in lines))
    _, out = await run_node(tsc, *TSC, "use.ts", cwd=tmp_path)
    expected = {number + 2 for number, line in enumerate(lines) if "@ts-expect-error" in line}
    assert {int(line) for line in re.findall(r"^use\.ts\((\d+),", out, re.MULTILINE)} == expected


async def test_declarations_without_handlers_are_valid(tmp_path: Path) -> None:
    require_package("typescript")
    (tmp_path / "api.d.ts").write_text(declarations(Api.of(FakeTables())))
    tsc = str(JS / "node_modules" / "typescript" / "bin" / "tsc")
    assert await run_node(tsc, *TSC[:-2], "api.d.ts", cwd=tmp_path) == (0, "")


async def test_the_page_in_a_browser(make_server: Any) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    require_package("playwright-core")
    require(chromium is not None, "Chromium: apt-get install chromium")
    server = AGServer(asyncapi=AsyncAPI(title="Chat", token="secret"), drain_timeout=100)

    @server.procedure("history")
    def history(data: Filter | None = None) -> Page[Text | Picture]:
        """The last messages, for a pointer."""
        raise NotImplementedError

    @server.channel("room/{room}", publish=Text)
    def room(room: str) -> bool:
        return bool(room)

    await make_server(server)
    url = f"http://127.0.0.1:{server.source_port}"
    status, out = await run_node("asyncapi_page.js", f"{url}/asyncapi", str(chromium), "secret")
    assert status == 0, out
    seen = json.loads(out)
    assert (seen["title"], seen["origins"], seen["faults"]) == ("Chat", [url], [])
    assert seen["all"][:2] == ["historycall", "room/{room}subscribe, publish"]
    assert seen["found"] == ["historycall"]
    assert 'Filter {\n  kind?: "picture" | "text"\n  since?: integer\n} | null' in seen["types"]
    assert seen["target"] == "Filter"


@pytest.mark.parametrize("client", ["client14", "client16", "client17", "client19", "client20"])
async def test_the_wrapper_around_each_official_client(
    client: str, make_server: Any, running: Running, tmp_path: Path
) -> None:
    require_package(client)
    (tmp_path / "api.mjs").write_text(wrapper())
    server = await make_server(protocol_version=1 if client == "client14" else 2)
    Application(server, running)
    port = str(server.source_port)
    status, out = await run_node("typed.js", client, port, str(tmp_path / "api.mjs"))
    assert status == 0, out
    assert json.loads(out) == {
        "answer": {"a": [1, None]},
        "error": {"name": "OddError", "message": "odd"},
        "noted": "hello",
        "messages": ["one", {"two": 2}, None],
        "channels": [],
    }
