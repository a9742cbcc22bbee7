"""The proxies' files: each proxy checks its own, and clients connect through it."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import websockets

from broker_servers import free_ports
from conftest import MakeServer
from deploy.files import DEPLOY
from socketcluster import AGServer, AGServerSocket
from support import Client, require, soon

Run = Callable[[Path, int, list[int]], Awaitable[asyncio.subprocess.Process]]


async def _check(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def _start(*command: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )


async def _run_nginx(folder: Path, port: int, nodes: list[int]) -> asyncio.subprocess.Process:
    require(shutil.which("nginx") is not None, "nginx")
    text = (DEPLOY / "nginx/nginx.conf").read_text()
    for given, used in zip((8001, 8002), nodes, strict=True):
        assert f"127.0.0.1:{given} " in text
        text = text.replace(f"127.0.0.1:{given} ", f"127.0.0.1:{used} ")
    text = text.replace("listen 80 ", f"listen 127.0.0.1:{port} ")
    text = text.replace("pid /run/nginx.pid;", f"pid {folder}/nginx.pid;\ndaemon off;")
    # As many as a machine of tests allows.
    text = text.replace("worker_rlimit_nofile 200000;", "")
    text = text.replace("worker_connections 100000;", "worker_connections 512;")
    file = folder / "nginx.conf"
    file.write_text(text)
    command = ("nginx", "-p", str(folder), "-c", str(file))
    await _check(*command, "-t")
    return await _start(*command)


async def _run_haproxy(folder: Path, port: int, nodes: list[int]) -> asyncio.subprocess.Process:
    require(shutil.which("haproxy") is not None, "haproxy")
    text = (DEPLOY / "compose/haproxy.cfg").read_text()
    servers = "\n".join(f"    server node{n} 127.0.0.1:{n} check" for n in nodes)
    text, count = re.subn(r" +server-template .*", servers, text)
    assert count == 1
    text = text.replace("bind :8000", f"bind 127.0.0.1:{port}")
    text = text.replace("maxconn 100000", "maxconn 500").replace("inter 2s", "inter 50ms")
    file = folder / "haproxy.cfg"
    file.write_text(text)
    await _check("haproxy", "-c", "-f", str(file))
    return await _start("haproxy", "-db", "-f", str(file))


async def test_haproxy_understands_the_file_as_it_is() -> None:
    """That of nginx names a path that only root may write, and is checked with another one."""
    require(shutil.which("haproxy") is not None, "haproxy")
    await _check("haproxy", "-c", "-f", str(DEPLOY / "compose/haproxy.cfg"))


@pytest.fixture(params=[_run_nginx, _run_haproxy], ids=["nginx", "haproxy"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


@asynccontextmanager
async def _through(run: Run, folder: Path, servers: list[AGServer]) -> AsyncIterator[int]:
    """Run a proxy before two servers; yield its port once it sends requests on."""
    (port,) = free_ports(1)
    process = await run(folder, port, [server.source_port or 0 for server in servers])
    try:
        async with httpx.AsyncClient() as http, asyncio.timeout(10):
            while True:
                try:
                    answer = await http.get(f"http://127.0.0.1:{port}/health/live")
                except httpx.TransportError:
                    assert process.returncode is None
                else:
                    if answer.status_code == 200:
                        break
                await asyncio.sleep(0.02)
        yield port
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await soon(process.wait())


def _address(socket: AGServerSocket) -> str | None:
    return socket.client_address


async def _servers(make_server: MakeServer) -> list[AGServer]:
    servers = [await make_server(trusted_proxies=["127.0.0.1"]) for _ in range(2)]
    for server in servers:
        server.procedure("address")(_address)
    return servers


@asynccontextmanager
async def _connected(
    port: int, count: int, headers: dict[str, str] | None = None
) -> AsyncIterator[list[Client]]:
    """Clients that connect to a port one after the other."""
    url = f"ws://127.0.0.1:{port}/socketcluster/"
    clients: list[Client] = []
    try:
        for _ in range(count):
            client = Client(await websockets.connect(url, additional_headers=headers))
            clients.append(client)
            await client.handshake()
        yield clients
    finally:
        for client in clients:
            await client.close()


async def test_clients_through_a_proxy(run: Run, make_server: MakeServer, tmp_path: Path) -> None:
    servers = await _servers(make_server)
    forged = {"X-Forwarded-For": "9.9.9.9"}
    async with (
        _through(run, tmp_path, servers) as port,
        _connected(port, 4, forged) as clients,
    ):
        for client in clients:
            assert await client.call("address") == "127.0.0.1"
        # The proxy sends a client to the node with the fewest.
        assert [server.clients_count for server in servers] == [2, 2]


async def test_metrics_are_not_public(run: Run, make_server: MakeServer, tmp_path: Path) -> None:
    servers = await _servers(make_server)
    async with _through(run, tmp_path, servers) as port, httpx.AsyncClient() as http:
        answer = await http.get(f"http://127.0.0.1:{port}/metrics")
        assert answer.status_code == 404


async def test_a_node_leaves(run: Run, make_server: MakeServer, tmp_path: Path) -> None:
    servers = await _servers(make_server)
    async with _through(run, tmp_path, servers) as port:
        await servers[0].close()
        async with _connected(port, 4):
            assert servers[1].clients_count == 4
