"""A process that stops reading from the ZeroMQ proxy: memory is bounded, and the loss is told."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker_servers import running_backend
from socketcluster.brokers.registry import create_broker
from socketcluster.errors import BrokerError

SECONDS = 60.0
PUBLISHES = 40_000
PAYLOAD_BYTES = 10_000
"""400 MB in all."""

MAX_GROWTH = 150 * 1024 * 1024

SUBSCRIBER = """
import asyncio, os, sys, time
from socketcluster.brokers.registry import create_broker

def say(*words):
    print(*words, flush=True)

class Listener:
    received = 0
    def message_received(self, channel, payload):
        number = int(payload[:5])
        if number < self.received:
            say("disorder")
        self.received = number + 1
        if number == 99999:
            say("last")
    backend_message_received = message_received
    def broker_failed(self, error):
        say("failed", error)
    def backend_lost(self, error, *_):
        say("lost", error)
    def backend_recovered(self, duration, *_):
        say("gap", int(duration > 0))

async def main():
    broker, reader = create_broker(sys.argv[1]), asyncio.StreamReader()
    broker.attach(Listener())
    await broker.start()
    await broker.subscribe("a")
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say("ready")
    await reader.readline()
    say("blocked")
    while not os.path.exists(sys.argv[2]):  # It blocks the event loop.
        time.sleep(0.01)
    await reader.read()

asyncio.run(main())
"""


class Slow:
    """A subscribed process that stops reading."""

    def __init__(self, process: asyncio.subprocess.Process, release: Path) -> None:
        self.process = process
        self._release = release

    async def says(self, word: str) -> str:
        """Return the next line, which must begin with a word."""
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), SECONDS)).decode()
        assert line.startswith(word), line
        return line

    async def stall(self, how: str) -> None:
        """Stop the process, or block its event loop."""
        if how == "stopped":
            self.process.send_signal(signal.SIGSTOP)
        else:
            assert self.process.stdin is not None
            self.process.stdin.write(b"block\n")
            await self.says("blocked")

    def resume(self, how: str) -> None:
        """Let it read again."""
        self._release.touch()
        if how == "stopped":
            self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def subscriber(url: str, release: Path) -> AsyncIterator[Slow]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SUBSCRIBER, url, str(release)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        slow = Slow(process, release)
        await slow.says("ready")
        yield slow
    finally:
        process.kill()
        await process.wait()


def memory(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("how", ["stopped", "blocked"])
async def test_memory_is_bounded_and_the_gap_is_told(how: str, tmp_path: Path) -> None:
    with running_backend("zeromq") as servers:
        assert servers.nodes[0]._process is not None
        proxy = servers.nodes[0]._process.pid
        async with subscriber(servers.url, tmp_path / "release") as slow:
            publisher = create_broker(servers.url)
            publisher.attach(Healthy())
            await publisher.start()
            await slow.stall(how)
            before = (memory(proxy), memory(slow.process.pid))
            peak = before[0]
            for number in range(0, PUBLISHES, 100):
                accepted = [
                    publisher.publish("a", b"%05d" % n + bytes(PAYLOAD_BYTES))
                    for n in range(number, number + 100)
                ]
                for each in accepted:
                    assert each is not None
                    await asyncio.wait_for(each, SECONDS)
                peak = max(peak, memory(proxy))
            assert peak - before[0] < MAX_GROWTH
            assert memory(slow.process.pid) - before[1] < MAX_GROWTH
            slow.resume(how)
            assert "read too slowly" in await slow.says("lost")
            assert await slow.says("gap") == "gap 1\n"
            accepted_last = publisher.publish("a", b"99999")
            assert accepted_last is not None
            await asyncio.wait_for(accepted_last, SECONDS)
            await slow.says("last")
            await publisher.close()


async def test_a_stopped_proxy_makes_publishes_fail_before_memory_grows() -> None:
    with running_backend("zeromq") as servers:
        # The heartbeat would end the link; the limit must hold without it.
        url = f"{servers.url}?heartbeat_timeout=600&max_buffered=20MiB"
        publisher = create_broker(url)
        publisher.attach(Healthy())
        await publisher.start()
        servers.stop()
        try:
            accepted = [
                publisher.publish("a", bytes(PAYLOAD_BYTES))
                for _ in range(20 * 1024 * 1024 // PAYLOAD_BYTES)
            ]
            await asyncio.sleep(0)
            with pytest.raises(BrokerError, match=r"bytes wait for ipc://.* already, above its"):
                publisher.publish("a", bytes(PAYLOAD_BYTES))
        finally:
            servers.resume()
        for each in accepted:
            assert each is not None
            await asyncio.wait_for(each, SECONDS)
        await publisher.close()


class Healthy:
    """A `BrokerListener` of a broker that has no outage."""

    def message_received(self, channel: str, payload: bytes) -> None:
        raise AssertionError

    backend_message_received = message_received

    def broker_failed(self, error: BaseException) -> None:
        raise error

    def backend_lost(self, error: BaseException, *_: object, **__: object) -> None:
        raise error

    def backend_recovered(self, duration: float, *_: object, **__: object) -> None:
        raise AssertionError
