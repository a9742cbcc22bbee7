"""The pytest plugin, in sessions of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest
from socketcluster import AGServer
{header}

async def test_it(ag_server, ag_client):
    server = await ag_server(ping_interval=5000)
    assert server.ping_interval == 5000
    first, second = await ag_client(server), await ag_client(server)
    channel = first.subscribe("c")
    await channel.listener("subscribe").once(10_000)
    heard = channel.create_consumer()
    await second.invoke_publish("c", 1)
    assert (await heard.next()).value == 1
    kept.append((server, first))

async def test_own_server(ag_server, ag_client):
    own = AGServer(path="/own/")
    assert await ag_server(own) is own
    assert own.is_ready
    assert (await ag_client(own)).state == "open"
    kept.append((own, None))

kept = []

def test_all_is_closed():
    (server, socket), (own, _) = kept
    assert not server.is_ready and not own.is_ready
    assert server.clients_count == own.clients_count == 0
    assert socket.state == "closed"
"""
ANYIO = """
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

LOOPS = ["-o", "asyncio_default_fixture_loop_scope=function"]


def run(folder: Path, tests: str, *arguments: str) -> tuple[dict[str, int], str]:
    """The outcomes of a session of pytest, and what it printed."""
    (folder / "test_them.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(
        [*command, *arguments, str(folder)], capture_output=True, text=True, cwd=folder, timeout=120
    )
    counted = done.stdout.strip().splitlines()[-1].split(" in ")[0].split(", ")
    return {part.split()[1]: int(part.split()[0]) for part in counted}, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("header", "arguments"),
    [
        ("", [*LOOPS, "-o", "asyncio_mode=auto"]),
        ("async_tests = pytest.mark.asyncio", [*LOOPS, "-o", "asyncio_mode=strict"]),
        (ANYIO, ["-p", "no:asyncio"]),
        (ANYIO, [*LOOPS, "-o", "asyncio_mode=strict"]),
    ],
    ids=["auto", "strict", "anyio", "anyio beside pytest-asyncio"],
)
def test_servers_and_clients_are_made_and_closed(
    tmp_path: Path, header: str, arguments: list[str]
) -> None:
    tests = TESTS.format(header=header)
    if "async_tests" in header:
        tests = tests.replace("async def test", "@async_tests\nasync def test")
    outcomes, printed = run(tmp_path, tests, *arguments)
    assert outcomes == {"passed": 3}, printed


def test_without_a_runner_of_async_tests_it_says_so(tmp_path: Path) -> None:
    tests = "def test_it(ag_server):\n    pass\n"
    outcomes, printed = run(tmp_path, tests, "-p", "no:asyncio", "-p", "no:anyio")
    assert outcomes == {"error": 1}
    assert "install one" in printed


def test_the_package_does_without_pytest() -> None:
    program = (
        "import sys; sys.modules['pytest'] = sys.modules['time_machine'] = None; "
        "import socketcluster.testing; print(socketcluster.testing.connect.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "connect\n", done.stderr
