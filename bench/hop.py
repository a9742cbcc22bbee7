"""What a publish costs from one process to others: `python -m bench.hop`.

    python -m bench.hop URL PROCESSES AT_ONCE PAYLOAD SECONDS ENGINE_PID

One broker publishes and others, two or more, receive, all in this process, each over a link of its
own; no sockets are behind them. Two channels take turns: one that a single broker subscribes to,
and one that all of them do. Prints one line of JSON: CPU microseconds per publish to one process,
the engine's with them, those of each further process, and the engine's part of both.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from socketcluster.brokers.base import Broker
from socketcluster.brokers.registry import create_broker
from socketcluster.errors import BrokerError

BLOCK = 1000
"""Publishes after which the other channel has its turn."""


class Arrivals:
    """Counts what a broker delivers."""

    def __init__(self) -> None:
        self._missing = 0
        self._complete = asyncio.Event()

    def expect(self, count: int) -> None:
        """That many more are to come."""
        self._missing = count
        self._complete.clear()

    async def complete(self) -> None:
        """Wait for them."""
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

    def backend_lost(self, error: BrokerError) -> None:
        """See `BrokerListener`."""
        raise error

    def backend_recovered(self, duration: float, error: BrokerError) -> None:
        """See `BrokerListener`."""


class Hop:
    """A publisher, its receivers, and the clocks of all that work for them."""

    def __init__(self, at_once: int, payload: int, engine: int) -> None:
        self._at_once = at_once
        self._payload = b'"' + b"x" * payload + b'"'
        # The CPU clock of another process, as clock_getcpuclockid(3) makes it.
        self._engine_clock = (~engine << 3) | 2
        self._brokers: list[Broker] = []
        self._arrivals: list[Arrivals] = []

    async def start(self, url: str, receivers: int) -> None:
        """Connect; the first receiver has a channel of its own beside that of all."""
        for channels in ([], ["one", "all"], *[["all"]] * (receivers - 1)):
            broker, arrivals = create_broker(url), Arrivals()
            broker.attach(arrivals)
            await broker.start()
            for channel in channels:
                if (subscribed := broker.subscribe(channel)) is not None:
                    await subscribed
            self._brokers.append(broker)
            self._arrivals.append(arrivals)

    async def publish(self, channel: str) -> tuple[float, float]:
        """CPU seconds of a block: of this process, and of the engine."""
        receiving = self._arrivals[1:2] if channel == "one" else self._arrivals[1:]
        for arrivals in receiving:
            arrivals.expect(BLOCK)
        own, engine = time.process_time(), time.clock_gettime(self._engine_clock)
        for _ in range(BLOCK // self._at_once):
            taken = [self._brokers[0].publish(channel, self._payload) for _ in range(self._at_once)]
            for each in taken:
                if each is not None:
                    await each
        for arrivals in receiving:
            await arrivals.complete()
        return time.process_time() - own, time.clock_gettime(self._engine_clock) - engine

    async def close(self) -> None:
        """Disconnect."""
        for broker in self._brokers:
            await broker.close()


async def measure(
    url: str, receivers: int, at_once: int, payload: int, seconds: float, engine: int
) -> dict[str, float]:
    """See the top."""
    hop = Hop(at_once, payload, engine)
    await hop.start(url, receivers)
    spent = {"one": (0.0, 0.0), "all": (0.0, 0.0)}
    for channel in spent:
        await hop.publish(channel)  # Not counted.
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
        "more_us": (own_all + its_all - own_one - its_one) * further,
        "engine_us": its_one * each,
        "engine_more_us": (its_all - its_one) * further,
    }


def main() -> None:
    """The command line."""
    url, receivers, at_once, payload, seconds, engine = sys.argv[1:]
    measured = measure(url, int(receivers), int(at_once), int(payload), float(seconds), int(engine))
    print(json.dumps(uvloop.run(measured)))


if __name__ == "__main__":
    main()
