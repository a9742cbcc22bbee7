"""The chat example: its page is built as its README says, two windows talk, and one is cut off."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.test_examples import ROOT, load
from interop.test_describe import JS, require_package, run_node
from support import require

CHAT = ROOT / "examples" / "chat"


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Copy the example, and do what `npm run build` does."""
    for name in ("typescript", "client20", "@types/socketcluster-client"):
        require_package(name)
    shutil.copytree(CHAT, folder, ignore=shutil.ignore_patterns("node_modules", "*.js", "*.d.ts"))
    installed = folder / "node_modules"
    (installed / ".bin").mkdir(parents=True)
    packages = {".bin/tsc": "typescript/bin/tsc", "socketcluster-client": "client20"}
    packages |= {name: name for name in ("@types", "@typescript", "typescript")}
    for name, package in packages.items():
        if (JS / "node_modules" / package).exists():
            (installed / name).symlink_to(JS / "node_modules" / package)
    return run_script(folder)


def run_script(folder: Path) -> subprocess.CompletedProcess[str]:
    script = json.loads((folder / "package.json").read_text())["scripts"]["build"]
    path = os.pathsep.join(
        [
            str(folder / "node_modules" / ".bin"),
            str(Path(sys.executable).parent),
            os.environ["PATH"],
        ]
    )
    return subprocess.run(
        ["sh", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_two_windows_talk(
    make_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    require_package("playwright-core")
    require(chromium is not None, "Chromium: apt-get install chromium")
    folder = tmp_path / "chat"
    built = build(folder)
    assert built.returncode == 0, built.stdout + built.stderr
    monkeypatch.chdir(folder)
    server = await make_server(load(folder / "server.py").server)
    url = f"http://127.0.0.1:{server.source_port}/"
    status, out = await run_node("chat.js", url, str(chromium))
    assert status == 0, out
    lobby = ["Is this window two?", "It is!", "Are you there?", "Goodbye"]
    seen = json.loads(out)
    assert seen.pop("notes")[0] == "Bob came in"  # On a busy machine he may be away for too long.
    assert seen == {
        "lobby": lobby,
        # Once in each room that is entered, and not when the line is back.
        "reads": {"ada": 3, "bob": 2},
        "mine": ["It is!"],
        "typing": "",
        "apart": lobby,
        "error": "",
        "faults": [],
    }


def test_it_has_types_throughout_and_wrong_calls_are_errors(tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    assert build(folder).returncode == 0
    for name in ("chat.ts", "api.d.ts"):
        assert not re.search(r"\bany\b|@ts-", (folder / "page" / name).read_text()), name
    settings = json.loads((folder / "tsconfig.json").read_text())
    assert settings["compilerOptions"]["strict"] is True
    page = folder / "page" / "chat.ts"
    page.write_text(
        page.read_text().replace("api.publish(room.name, text)", "api.publish(room.name, 5)")
    )
    refused = run_script(folder)
    assert refused.returncode != 0
    assert "Argument of type 'number' is not assignable to" in refused.stdout
