"""The real JavaScript clients, and the Python client of protocol 1, against the server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from interop.server_app import Application
from socketcluster.codecs.minbin import MinBinCodec
from support import Running, require

HERE = Path(__file__).parent

SCENARIOS = (
    "connect",
    "invoke",
    "invoke with error",
    "transmit",
    "server invokes",
    "login",
    "reconnect with token",
    "subscribe",
    "publish both ways",
    "kick-out",
    "unsubscribe",
    "batching",
    "ping and pong",
    "deauthenticate",
    "disconnect by the server",
)


def rsa_keys() -> dict[str, Any]:
    key = rsa.generate_private_key(65537, 2048)
    pem = serialization.Encoding.PEM
    return {
        "auth_algorithm": "RS256",
        "auth_private_key": key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        "auth_public_key": key.public_key().public_bytes(
            pem, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    }


CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "npm 20": ("client20", {}),
    "npm 20, ASGI": ("client20", {"ws_engine": "asgi"}),
    "npm 20, min-bin": ("client20", {"codec_engine": MinBinCodec()}),
    "npm 20, deflate": ("client20", {"per_message_deflate": {"threshold": 0}}),
    "npm 20, RSA": ("client20", {"rsa": True}),
    "npm 19": ("client19", {}),
    "npm 17": ("client17", {}),
    "npm 16": ("client16", {}),
    "npm 14": ("client14", {"protocol_version": 1}),
    "PyPI 1.3.4": ("pypi", {"protocol_version": 1}),
    "PyPI 1.3.6": ("python", {}),  # It answers the pings of protocol 2, and those only.
}
OLD_PYTHON_CLIENT = HERE.parents[1] / ".interop"
NOT_SUPPORTED = {"pypi": {"batching"}, "python": {"batching"}}
"""What a client cannot do at all; its driver says why."""


async def drive(*command: str, **environment: str) -> dict[str, dict[str, Any]]:
    """Run a driver; its results by scenario."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=HERE / "js",
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 90)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    results = [json.loads(line) for line in out.decode().splitlines() if line.startswith("{")]
    assert results, err.decode()
    return {result["scenario"]: result for result in results}


@pytest.mark.parametrize("client", CLIENTS)
async def test_client(
    make_server: Any, running: Running, client: str, record_property: Any
) -> None:
    module, options = CLIENTS[client]
    options = dict(options)
    if module == "pypi":
        require(OLD_PYTHON_CLIENT.is_dir(), "the older Python client: make interop-clients")
    elif module != "python":
        require(shutil.which("node") is not None, "Node.js")
        require(
            (HERE / "js" / "node_modules" / module).is_dir(),
            "the npm packages: npm install --prefix tests/interop/js",
        )
    if options.pop("rsa", False):
        options |= rsa_keys()
    server = await make_server(ping_interval=60, ping_timeout=2000, **options)
    Application(server, running)
    port = str(server.source_port)
    if module in ("pypi", "python"):
        path = str(OLD_PYTHON_CLIENT) if module == "pypi" else ""
        results = await drive(sys.executable, str(HERE / "python_driver.py"), port, PYTHONPATH=path)
    else:
        codec = ["sc-codec-min-bin"] if "codec_engine" in options else []
        expected = {
            "alg": server.options.auth_algorithm,
            "extensions": "permessage-deflate" if "per_message_deflate" in options else "",
        }
        results = await drive(
            "node", "driver.js", module, port, *codec, EXPECTED=json.dumps(expected)
        )
    record_property("client", client)
    record_property("results", {s: r["ok"] for s, r in results.items()})
    unsupported = {s: r["detail"] for s, r in results.items() if r["ok"] is None}
    record_property("unsupported", unsupported)
    assert set(unsupported) == NOT_SUPPORTED.get(module, set())
    failed = {s: r["detail"] for s, r in results.items() if r["ok"] is False}
    assert not failed, "\n".join(f"{s}: {d}" for s, d in failed.items())
    assert set(results) == set(SCENARIOS)
