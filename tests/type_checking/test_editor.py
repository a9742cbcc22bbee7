"""What an editor offers: asked as editors ask, of a language server over the protocol of those."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SERVER = Path(sys.executable).parent / "basedpyright-langserver"
SETTINGS = {"autoImportCompletions": False}  # It would read every package that is installed.


class Editor:
    """An editor with one file, in which `|` is the cursor."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._uri = (folder / "main.py").as_uri()
        self._calls = 0
        folders = [{"uri": folder.as_uri(), "name": "main"}]
        self._call("initialize", processId=None, capabilities={}, workspaceFolders=folders)
        self._send(method="initialized", params={})
        self._open("")

    def _open(self, text: str) -> None:
        document = {"uri": self._uri, "languageId": "python", "version": 1, "text": text}
        self._send(method="textDocument/didOpen", params={"textDocument": document})

    def _send(self, **message: Any) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self) -> Any:
        stdout = self._process.stdout
        assert stdout is not None
        length = 0
        while line := stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        return json.loads(stdout.read(length))

    def _call(self, method: str, **params: Any) -> Any:
        self._calls += 1
        self._send(id=self._calls, method=method, params=params)
        while True:
            message = self._receive()
            if "method" not in message and message.get("id") == self._calls:
                return message["result"]
            if "method" in message and "id" in message:  # The server asks for its settings.
                items = message["params"].get("items", [])
                self._send(id=message["id"], result=[SETTINGS for _ in items])

    def ask(self, method: str, code: str) -> Any:
        before, _, after = code.partition("|")
        text = f"from socketcluster import AGServer, create\n{before}{after}\n"
        self._send(
            method="textDocument/didChange",
            params={
                "textDocument": {"uri": self._uri, "version": self._calls + 2},
                "contentChanges": [{"text": text}],
            },
        )
        lines = before.split("\n")
        position = {"line": len(lines), "character": len(lines[-1])}
        return self._call(
            f"textDocument/{method}", textDocument={"uri": self._uri}, position=position
        )

    def completions(self, code: str) -> set[str]:
        found = self.ask("completion", code)
        return {item["label"].strip('"') for item in found["items"]}


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    folder = tmp_path_factory.mktemp("editor")
    settings = {"extraPaths": [str(ROOT / "src")], "include": ["main.py"]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [str(SERVER), "--stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Editor(process, folder)
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("code", "offered"),
    [
        ("AGServer(pi|)", {"ping_interval=", "ping_timeout=", "ping_timeout_disabled="}),
        ("create(auto|)", {"auto_connect=", "auto_reconnect=", "auto_reconnect_options="}),
        ('create(ws_options={"|"})', {"ssl", "headers", "proxy", "per_message_deflate"}),
        ('AGServer(socket_stream_cleanup_mode="|")', {"kill", "close", "none"}),
        ('AGServer().listener("|")', {"connection", "disconnection", "badSocketAuthToken"}),
        ('AGServer().set_middleware("|")', {"handshake", "inboundRaw", "inbound", "outbound"}),
        ('create().channel("c").listener("|")', {"subscribe", "subscribeFail", "kickOut"}),
    ],
)
def test_it_completes(editor: Editor, code: str, offered: set[str]) -> None:
    assert offered <= editor.completions(code)


def test_it_shows_what_an_option_means(editor: Editor) -> None:
    shown = json.dumps(editor.ask("hover", "AGServer(drain_time|out=1)"))
    assert "How long `close()` waits for unanswered calls, once it has stopped accepting." in shown


def test_it_shows_the_options_of_a_call(editor: Editor) -> None:
    (signature,) = editor.ask("signatureHelp", "AGServer(|)")["signatures"]
    assert "ping_interval: Duration" in signature["label"]
