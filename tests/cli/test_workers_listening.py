"""The listening sockets of `serve`: of its workers, shared with other programs, or passed on."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import sys
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets

from cli.commands import run_here
from cli.serving import SECONDS, Serve, client_at, clients_on_all, stop_process
from socketcluster.cli.settings import Settings
from socketcluster.cli.workers.listening import listening_sockets
from support import soon

ACTIVATE = shutil.which("systemd-socket-activate")

AS_SYSTEMD = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
for wanted, fd in enumerate(fds, 3):
    os.dup2(fd, wanted)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Passes descriptors on as systemd does."""


def as_systemd(*sockets: socket.socket) -> dict[str, Any]:
    """The options of `serve` to start it with passed sockets, whose descriptors are high."""
    fds = [each.fileno() for each in sockets]
    command = [sys.executable, "-c", AS_SYSTEMD, ",".join(map(str, fds))]
    return {"command": command, "pass_fds": fds}


def bound(**options: Any) -> socket.socket:
    """A socket with a high descriptor that listens on a free port, or on `port`."""
    sock = socket.socket()
    if options.get("reuse_port"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", options.get("port", 0)))
    sock.listen()
    high = socket.socket(fileno=fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 100))
    sock.close()
    return high


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def test_a_slot_that_pauses_leaves_its_connections_to_others() -> None:
    with listening_sockets(Settings(None, port=0), 2) as sockets:
        (first,), (second,) = sockets.fds(0), sockets.fds(1)
        slots = [socket.socket(fileno=os.dup(fd)) for fd in (first, second)]
        with slots[0], slots[1], ExitStack() as stack:
            for each in slots:
                each.listen()
            address = slots[0].getsockname()
            sockets.pause(0)
            for _ in range(32):
                stack.enter_context(socket.create_connection(address, SECONDS))
                stack.enter_context(slots[1].accept()[0])
            slots[0].listen()
            for _ in range(64):
                stack.enter_context(socket.create_connection(address, SECONDS))
            stack.enter_context(slots[0].accept()[0])


async def test_connections_wait_for_the_replacement_of_a_dead_worker(serve: Serve) -> None:
    served = await serve("mine:server", "--port", "0", "--workers", "2")
    port = await served.port()
    async with AsyncExitStack() as stack:
        clients = await clients_on_all(stack, port, 2)
        pids = list(clients)
        stop_process(pids[0])
        waiting = [asyncio.ensure_future(client_at(stack, port)) for _ in range(24)]
        await soon(asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED))
        os.kill(pids[0], signal.SIGKILL)
        served_by = {(await client.call("where"))[0] for client in await asyncio.gather(*waiting)}
        assert pids[0] not in served_by
        assert len(served_by) == 2


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
async def test_an_old_and_a_new_process_share_a_port(workers: list[str], serve: Serve) -> None:
    old = await serve("mine:server", "--port", "0", "--reuse-port", *workers)
    port = await old.port()
    alone = await serve("mine:server", "--port", str(port), *workers)
    assert await alone.wait() == 1
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use" in alone.output
    new = await serve("mine:server", "--port", str(port), "--reuse-port", *workers)
    assert await new.port() == port
    async with AsyncExitStack() as stack:
        count = 4 if workers else 2
        before = await clients_on_all(stack, port, count)
        old.process.terminate()
        assert await old.wait() == 0
        after = await clients_on_all(stack, port, count // 2)
        assert set(after) < set(before)


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
async def test_fd(workers: list[str], serve: Serve, tmp_path: Path) -> None:
    with bound() as listening:
        fd = str(listening.fileno())
        served = await serve("mine:server", "--fd", fd, *workers, pass_fds=[listening.fileno()])
        assert await served.port() == port_of(listening)
        async with AsyncExitStack() as stack:
            clients = await clients_on_all(stack, port_of(listening), 2 if workers else 1)
            served.process.send_signal(signal.SIGHUP)
            if workers:
                await served.line("Restarted")
                await clients_on_all(stack, port_of(listening), 2)
            else:
                await served.line("SIGHUP restarts the workers of 'serve --workers N'")
                (client,) = clients.values()
                assert await client.call("where")
        served.process.terminate()
        assert await served.wait() == 0
        # The socket goes on: the next process serves the connections that wait in it.
        waiting = socket.create_connection(listening.getsockname(), SECONDS)
        file = tmp_path / "fd.toml"
        file.write_text(f"[serve]\nfd = {fd}\n")
        config = ["--config", str(file)]
        again = await serve("mine:server", *config, pass_fds=[listening.fileno()])
        await again.port()
        loop = asyncio.get_running_loop()
        waiting.setblocking(False)
        with waiting:
            await loop.sock_sendall(waiting, b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await soon(loop.sock_recv(waiting, 100))).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
async def test_systemd_passes_sockets_of_two_addresses(
    workers: list[str], serve: Serve, tmp_path: Path
) -> None:
    with bound() as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        served = await serve("mine:server", *workers, **as_systemd(tcp, unix))
        line = await served.line("SocketCluster is running on")
        assert f"http://127.0.0.1:{port_of(tcp)}, unix:{tmp_path}/s" in line
        async with AsyncExitStack() as stack:
            await clients_on_all(stack, port_of(tcp), 2 if workers else 1)
            async with websockets.unix_connect(str(tmp_path / "s"), "ws://a/socketcluster/") as ws:
                await ws.send('{"event":"#handshake","data":{},"cid":1}')
                await soon(ws.recv())
        served.process.terminate()
        assert await served.wait() == 0
        assert (tmp_path / "s").exists()  # It is systemd's.


@pytest.mark.parametrize("count", [2, 3])
async def test_systemd_passes_sockets_that_share_a_port(count: int, serve: Serve) -> None:
    """No socket is left out, and each has one worker."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(bound(reuse_port=True))]
        port = port_of(sockets[0])
        for _ in range(count - 1):
            sockets.append(stack.enter_context(bound(reuse_port=True, port=port)))
        options = as_systemd(*sockets)
        served = await serve("mine:server", "--workers", "2", **options)
        for each in sockets:
            each.close()
        await served.port()
        async with AsyncExitStack() as clients:
            await clients_on_all(clients, port, 2)
            await asyncio.gather(*(client_at(clients, port) for _ in range(24)))


async def test_socket_activation(serve: Serve) -> None:
    with bound() as listening:
        port = port_of(listening)
        if ACTIVATE is None:  # Its part is then played by a program of a few lines.
            served = await serve("mine:server", "--workers", "2", **as_systemd(listening))
    if ACTIVATE is not None:
        command = [ACTIVATE, "--listen", f"127.0.0.1:{port}"]
        if "PYTHONPATH" in os.environ:
            command += ["-E", "PYTHONPATH"]  # It passes on few variables by itself.
        served = await serve("mine:server", "--workers", "2", command=command)
        await served.line("Listening on")
    async with AsyncExitStack() as stack:
        await clients_on_all(stack, port, 2)  # The first connection starts it.
    await served.port()
    served.process.terminate()
    assert await served.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fd", "FD", "--port", "1"], "--fd is a listening socket, with which --port has no"),
        (["--fd", "FD", "--uds", "s"], "leave out --uds"),
        (["--fd", "FD", "--reuse-port"], "leave out --reuse-port"),
        (["--fd", "FD", "--reload"], "leave out --reload"),
        (["--uds", "s", "--reuse-port"], "--uds and --reuse-port exclude one another"),
        (["--fd", "999"], "--fd: descriptor 999 is not a socket that this process has inherited"),
        (["--fd", "FILE"], "is not a socket that this process has inherited"),
        (["--fd", "UDP"], "is not a stream socket"),
        (["--rolling", "1"], "--rolling needs --workers N"),
        (["--watchdog", "0.5", "--workers", "2"], "--watchdog must be 0 or at least 1 second"),
        (["--watchdog", "5"], "--watchdog needs --workers N"),
    ],
)
def test_contradictions_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    with (
        bound() as sock,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        (tmp_path / "file").open("w") as file,
    ):
        fds = {"FD": sock.fileno(), "FILE": file.fileno(), "UDP": datagrams.fileno()}
        arguments = [str(fds.get(each, each)) for each in arguments]
        result = run_here("serve", *arguments, folder=tmp_path)
    assert (result.status, result.err.count("\n")) == (2, 1), result.err
    assert message in result.err


async def test_systemd_and_options_contradict_each_other(serve: Serve) -> None:
    with bound() as sock:
        for arguments, message in (
            (["--port", "5"], "systemd passed a listening socket, with which --port has no effect"),
            (["--fd", "3"], "--fd and the sockets of systemd exclude one another"),
        ):
            served = await serve("mine:server", *arguments, **as_systemd(sock))
            assert await served.wait() == 2
            assert message in served.output
            assert served.output.count("\n") == 1
