"""The cost of a publish between processes, without sockets.

    python -m bench.hop MODE URL PROCESSES AT_ONCE PAYLOAD SECONDS BACKEND_PID

Mode "hop" sends plain publishes, and "hop-stored" those of a channel with history.

One broker publishes, and two or more brokers receive. All are in this process, each with its own
link to the backend. Two channels take turns: one has a single subscriber, the other has all of
them. The result is one line of JSON, in CPU microseconds per publish: to one process, for each
further process (both including the backend), the processes' and the backend's share of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import uvloop

from socketcluster.brokers.base import Broker
from socketcluster.brokers.registry import create_broker
from socketcluster.brokers.storing import Retention, StoringBroker, stores
from socketcluster.errors import BrokerError

BLOCK = 1000
"""Number of publishes before the other channel has its turn."""

KEPT = Retention(100, 300.0)
"""What the backend keeps of a channel with history."""


class Arrivals:
    """Counts the messages that a broker delivers."""

    def __init__(self) -> None:
        self._missing = 0
        self._complete = asyncio.Event()

    def expect(self, count: int) -> None:
        """Expect a number of messages."""
        self._missing = count
        self._complete.clear()

    async def complete(self) -> None:
        """Wait until all expected messages have arrived."""
        await self._complete.wait()

    def message_received(self, channel: str, payload: bytes) -> None:
        """See `BrokerListener`."""
        self._missing -= 1
        if self._missing == 0:
            self._complete.set()

    backend_message_received = message_received

    def broker_failed(self, error: BaseException) -> None:
        """See `BrokerListener`."""
        raise error

    def backend_lost(self, error: BrokerError, channels: Any = None, server: Any = None) -> None:
        """See `BrokerListener`."""
        raise error

    def backend_recovered(
        self, duration: float, error: BrokerError, channels: Any = None, server: Any = None
    ) -> None:
        """See `BrokerListener`."""


class Hop:
    """A publisher, its receivers, and the CPU clocks of this process and the backend."""

    def __init__(self, mode: str, at_once: int, payload: int, backend: int) -> None:
        self._mode = mode
        self._at_once = at_once
        self._payload = b'"' + b"x" * payload + b'"'
        # The CPU clock of another process, computed as clock_getcpuclockid(3) does.
        self._backend_clock = (~backend << 3) | 2
        self._brokers: list[Broker] = []
        self._arrivals: list[Arrivals] = []

    async def start(self, url: str, receivers: int) -> None:
        """Connect. All receivers subscribe to "all", and the first one to "one" as well."""
        for channels in ([], ["one", "all"], *[["all"]] * (receivers - 1)):
            broker, arrivals = create_broker(url), Arrivals()
            broker.attach(arrivals)
            await broker.start()
            for channel in channels:
                if (subscribed := broker.subscribe(channel)) is not None:
                    await subscribed
            self._brokers.append(broker)
            self._arrivals.append(arrivals)
        publisher = self._brokers[0]
        self._send: Callable[[str, bytes], Awaitable[None] | None] = publisher.publish
        if self._mode == "hop-stored":
            assert stores(publisher), f"{url} stores nothing"
            storing = cast("StoringBroker", publisher)
            self._send = partial(storing.publish_stored, retention=KEPT)

    async def publish(self, channel: str) -> tuple[float, float]:
        """Publish a block; return the CPU seconds of this process and of the backend."""
        receiving = self._arrivals[1:2] if channel == "one" else self._arrivals[1:]
        for arrivals in receiving:
            arrivals.expect(BLOCK)
        own, backend = time.process_time(), time.clock_gettime(self._backend_clock)
        for _ in range(BLOCK // self._at_once):
            results = [self._send(channel, self._payload) for _ in range(self._at_once)]
            for result in results:
                if result is not None:
                    await result
        for arrivals in receiving:
            await arrivals.complete()
        return time.process_time() - own, time.clock_gettime(self._backend_clock) - backend

    async def close(self) -> None:
        """Disconnect all brokers."""
        for broker in self._brokers:
            await broker.close()


async def measure(
    mode: str, url: str, receivers: int, at_once: int, payload: int, seconds: float, backend: int
) -> dict[str, float]:
    """Measure, and return the figures that the module describes."""
    hop = Hop(mode, at_once, payload, backend)
    await hop.start(url, receivers)
    spent = {"one": (0.0, 0.0), "all": (0.0, 0.0)}
    for channel in spent:
        await hop.publish(channel)  # Warm up.
    turns, until = 0, time.monotonic() + seconds
    while turns == 0 or time.monotonic() < until:
        turns += 1
        for channel, (own, its) in spent.items():
            more_own, more_its = await hop.publish(channel)
            spent[channel] = own + more_own, its + more_its
    await hop.close()
    each = 1e6 / BLOCK / turns
    (own_one, its_one), (own_all, its_all) = spent["one"], spent["all"]
    further = each / (receivers - 1)
    return {
        "sockets": receivers,
        "cpu_us": (own_one + its_one) * each,
        "own_us": own_one * each,
        "more_us": (own_all + its_all - own_one - its_one) * further,
        "backend_us": its_one * each,
        "backend_more_us": (its_all - its_one) * further,
    }


def main() -> None:
    """Measure with the arguments of the command line, and print the result."""
    mode, url, receivers, at_once, payload, seconds, backend = sys.argv[1:]
    measured = measure(
        mode, url, int(receivers), int(at_once), int(payload), float(seconds), int(backend)
    )
    print(json.dumps(uvloop.run(measured)))


if __name__ == "__main__":
    main()
