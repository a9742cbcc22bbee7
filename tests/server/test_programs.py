"""Programs of one's own, as processes: signals, and what is left of a call under way.

Guarantee 8: close is graceful, also on SIGINT and SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import websockets

from support import soon, until

SECONDS = 30
SERVER = """
import asyncio, signal, sys, uvloop
from socketcluster import AGServer
server = AGServer(drain_timeout=20000)

@server.background
async def connections():
    async for event in server.listener("connection"):
        server.spawn(slow(event.socket))
        server.spawn(never(event.socket))

async def slow(socket):
    async for request in socket.procedure("slow"):
        await asyncio.sleep(0.3)
        request.end("done")

async def never(socket):
    async for request in socket.procedure("never"):
        await asyncio.Event().wait()

async def main():
    await server.listen(0)
    print(f"It is on http://127.0.0.1:{server.source_port}", flush=True)
    await server.serve_forever()
    print("over", flush=True)

async def closing():
    async with server:
        await main()
"""
RUN = SERVER + "server.run(0); print('over')"
ASYNCIO = SERVER + "asyncio.run(main())"
UVLOOP = SERVER + "uvloop.run(main())"
WITH = SERVER + "asyncio.run(closing())"

Start = Callable[[str], Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a program; it is killed at the end."""
    processes: list[Process] = []

    async def run(program: str) -> Process:
        path = tmp_path / "program.py"
        path.write_text(program)
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        processes.append(
            await asyncio.create_subprocess_exec(
                sys.executable, str(path), stdout=PIPE, stderr=PIPE, env=env
            )
        )
        return processes[-1]

    yield run
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def address(process: Process) -> str:
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), SECONDS)).decode()
    assert "http://127.0.0.1:" in line, line
    where = next(word for word in line.split() if word.startswith("http"))
    return where.replace("http", "ws") + "/socketcluster/"


async def call(ws: websockets.ClientConnection, procedure: str) -> None:
    """Shake hands, and have a call under way."""
    await ws.send('{"event":"#handshake","data":{},"cid":1}')
    await soon(ws.recv())
    await ws.send(f'{{"event":"{procedure}","cid":2}}')
    await soon(await ws.ping())


async def ended(process: Process) -> tuple[int | None, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "program", [RUN, ASYNCIO, UVLOOP, WITH], ids=["run", "asyncio", "uvloop", "with"]
)
async def test_a_signal_drains(start: Start, program: str, number: int) -> None:
    """Guarantee 8: a call under way is answered, and the program ends well."""
    process = await start(program)
    async with websockets.connect(await address(process)) as ws:
        await call(ws, "slow")
        process.send_signal(number)
        assert await soon(ws.recv()) == '{"rid":2,"data":"done"}'
        with pytest.raises(websockets.ConnectionClosed):
            await soon(ws.recv())
        assert ws.close_code == 1001
    assert await ended(process) == (0, "over\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_forces(start: Start, number: int) -> None:
    process = await start(RUN)
    async with websockets.connect(await address(process)) as ws:
        await call(ws, "never")
        process.send_signal(signal.SIGINT)
        # It has begun to stop: nobody is let in any more.
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", int(ws.remote_address[1]))
            except ConnectionError:
                break
            writer.close()
        process.send_signal(number)
        assert await ended(process) == (1, "", "")


OWN_HANDLER = """
def own(*_):
    print("own", flush=True)
    asyncio.get_running_loop().call_soon_threadsafe(loop_closes)
def loop_closes():
    asyncio.ensure_future(server.close())
"""
BY_SIGNAL = SERVER + OWN_HANDLER + "signal.signal(signal.SIGTERM, own); asyncio.run(main())"
BY_LOOP = (
    SERVER
    + OWN_HANDLER
    + """
async def with_handler():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own)
    await main()
"""
)


@pytest.mark.parametrize(
    "program",
    [
        BY_SIGNAL,
        BY_SIGNAL.replace("asyncio.run", "uvloop.run"),
        BY_LOOP + "asyncio.run(with_handler())",
        BY_LOOP + "uvloop.run(with_handler())",
    ],
    ids=["signal-asyncio", "signal-uvloop", "loop-asyncio", "loop-uvloop"],
)
async def test_a_handler_of_the_program_stays(start: Start, program: str) -> None:
    process = await start(program)
    async with websockets.connect(await address(process)) as ws:
        await call(ws, "slow")
        process.send_signal(signal.SIGTERM)
        assert await soon(ws.recv()) == '{"rid":2,"data":"done"}'
    assert await ended(process) == (0, "own\nover\n", "")


RESTORED = """
async def several():
    def handlers():
        return [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    before = handlers()
    other = AGServer()
    await other.listen(0)
    await server.listen(0)
    both = asyncio.gather(server.serve_forever(), other.serve_forever())
    await asyncio.sleep(0)
    assert handlers() != before
    print(f"It is on http://127.0.0.1:{server.source_port}", flush=True)
    await both
    assert handlers() == before
    print("restored", flush=True)
"""


@pytest.mark.parametrize("runner", ["asyncio", "uvloop"])
async def test_all_servers_stop_and_the_former_handlers_are_back(start: Start, runner: str) -> None:
    process = await start(SERVER + RESTORED + f"{runner}.run(several())")
    await address(process)
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == (0, "restored\n", "")


async def test_it_runs_again(start: Start) -> None:
    """In a loop of its own each time."""
    process = await start(SERVER + "server.run(0)\nserver.run(0)")
    for _ in range(2):
        async with websockets.connect(await address(process)) as ws:
            await call(ws, "slow")
            process.send_signal(signal.SIGTERM)
            assert await soon(ws.recv()) == '{"rid":2,"data":"done"}'
    assert await ended(process) == (0, "", "")


async def test_a_server_runs_in_another_thread(start: Start) -> None:
    """Where there are no signals."""
    process = await start(
        SERVER
        + """
import threading
@server.background
async def ends():
    await server.close()
thread = threading.Thread(target=server.run, args=(0,))
thread.start()
thread.join()
print("over")
"""
    )
    await address(process)
    assert await ended(process) == (0, "over\n", "")


async def test_ctrl_c_before_it_listens(start: Start) -> None:
    process = await start(
        SERVER
        + """
@server.background
async def begins():
    print("It begins, http://127.0.0.1:0", flush=True)
class Waits:
    async def listen(self, *_):
        await asyncio.Event().wait()
server.engine = Waits()
server.run(0)
"""
    )
    await address(process)
    process.send_signal(signal.SIGINT)
    assert await ended(process) == (130, "", "")


EXHAUSTED = """
import logging, resource, socket, threading, time
logging.basicConfig(level=logging.WARNING)
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

def clients(port):
    held = []
    try:
        while True:
            held.append(socket.create_connection(("127.0.0.1", port), 5))
    except OSError:
        pass
    # There are no descriptors left, and connections wait to be accepted.
    return held

async def exhausted():
    await server.listen(0)
    port = server.source_port
    print(f"It is on http://127.0.0.1:{port}", flush=True)
    held = clients(port)
    loop = asyncio.get_running_loop()
    began = time.process_time()
    await asyncio.sleep(2)
    print("busy" if time.process_time() - began > 1.5 else "idle", flush=True)
    for client in held:
        client.close()
    await server.serve_forever()
"""


@pytest.mark.parametrize("runner", ["asyncio", "uvloop"])
async def test_without_descriptors_it_waits_and_recovers(start: Start, runner: str) -> None:
    """It logs little, does not spin, and accepts again when there are descriptors."""
    process = await start(SERVER + EXHAUSTED + f"{runner}.run(exhausted())")
    where = await address(process)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), SECONDS) == b"idle\n"
    async with websockets.connect(where, open_timeout=SECONDS) as ws:
        await call(ws, "slow")
        assert await soon(ws.recv()) == '{"rid":2,"data":"done"}'
    process.send_signal(signal.SIGTERM)
    status, _, err = await ended(process)
    assert status == 0
    assert len(err) < 20_000


STUCK = """
import asyncio, sys, threading, time
from socketcluster import AGServer
from socketcluster.cli.serve import run
from socketcluster.cli.settings import Settings
from socketcluster.runtime import exit_limit
from socketcluster.server import lifecycle

exit_limit.GRACE_SECONDS = lifecycle.GRACE_SECONDS = lifecycle.END_SECONDS = 0.2
server = AGServer(drain_timeout=100)

async def stubborn():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

def wait():
    threading.Event().wait()

def spin():
    print("begun", flush=True)
    while True:
        pass

@server.procedure("task")
async def task():
    print("begun", flush=True)
    await stubborn()

@server.procedure("thread")
async def thread():
    print("begun", flush=True)
    await asyncio.to_thread(wait)

@server.procedure("own thread")
def own_thread():
    threading.Thread(target=wait, name="mine").start()
    print("begun", flush=True)

@server.procedure("sleep")
def sleep():
    print("begun", flush=True)
    time.sleep(1000)

@server.procedure("spin")
def spins():
    spin()

if __name__ == "__main__":
"""
STUCK_RUN = STUCK + "    server.run(0)\n    print('over')\n"
STUCK_SERVE = STUCK + "    sys.exit(run(Settings(target='program:server', port=0)))\n"


@pytest.mark.parametrize(
    ("procedure", "named"),
    [
        ("task", ["a task has not ended: task (", "program.py:"]),
        ("thread", ["the thread 'uvloop_0' runs wait (", "program.py:"]),
        ("sleep", ["the thread 'MainThread' runs sleep (", "program.py:"]),
        ("spin", ["the thread 'MainThread' runs spin (", "program.py:"]),
    ],
)
@pytest.mark.parametrize("program", [STUCK_RUN, STUCK_SERVE], ids=["run", "serve"])
async def test_a_program_ends_whatever_hangs(
    start: Start, program: str, procedure: str, named: list[str]
) -> None:
    await check_ended(await start(program), procedure, named)


async def test_a_program_of_serve_ends_although_a_thread_of_its_own_hangs(start: Start) -> None:
    named = ["the thread 'mine' runs wait (", "program.py:"]
    await check_ended(await start(STUCK_SERVE), "own thread", named)


async def check_ended(process: Process, procedure: str, named: list[str]) -> None:
    """Have a procedure hang, and check that the process ends after SIGTERM and names it."""
    where = await address(process)
    assert process.stdout is not None
    async with websockets.connect(where) as ws:
        await ws.send('{"event":"#handshake","data":{},"cid":1}')
        await soon(ws.recv())
        await ws.send(f'{{"event":"{procedure}","cid":2}}')
        lines = [b""]
        while lines[-1] != b"begun\n":
            lines.append(await soon(process.stdout.readline()))
            assert lines[-1], lines
        process.send_signal(signal.SIGTERM)
        status, _, err = await ended(process)
    assert status == 1
    (line,) = [line for line in err.splitlines() if "The process ends, although " in line]
    for text in named:
        assert text in line


async def test_a_second_signal_forces_although_the_event_loop_is_blocked(start: Start) -> None:
    process = await start(STUCK_RUN.replace("= 0.2", "= 1000"))
    where = await address(process)
    assert process.stdout is not None
    async with websockets.connect(where) as ws:
        await ws.send('{"event":"#handshake","data":{},"cid":1}')
        await soon(ws.recv())
        await ws.send('{"event":"spin","cid":2}')
        while await soon(process.stdout.readline()) != b"begun\n":
            pass
        before = threads(process)
        process.send_signal(signal.SIGTERM)
        # Two at once would count as one: the first is taken when it has made its thread.
        await until(lambda: threads(process) > before)
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == (1, "", "")


def threads(process: Process) -> int:
    return len(os.listdir(f"/proc/{process.pid}/task"))


AGAIN = """
from socketcluster.runtime import exit_limit
exit_limit.GRACE_SECONDS = 0.2

async def stop():
    await server.close()
for _ in range(2):
    server.background(stop)
    server.run(0)
    import time; time.sleep(0.6)
print("over")
"""


async def test_a_program_lives_on_after_run(start: Start) -> None:
    status, out, err = await ended(await start(SERVER + AGAIN))
    assert (status, out.splitlines()[-1], err) == (0, "over", "")
