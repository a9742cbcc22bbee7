"""A TCP line that is cut at random moments, while a server publishes 200 messages a second."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from typing import Any

from socketcluster import AGServer

CUTS = 50 if os.environ.get("SOAK") else 5
MESSAGES = 80 * CUTS
SECONDS = 0.005
"""Between two publishes."""


class CutLine:
    """A TCP proxy that ends all its connections in the midst of what the server sends.

    Attributes:
        cuts: how many connections it has ended.
        half_open: whether the server does not learn of it: its connections stay, and are not read.
    """

    def __init__(self, target: int, chance: random.Random, half_open: bool = False) -> None:
        self.cuts = 0
        self.half_open = half_open
        self._held: list[asyncio.StreamWriter] = []
        self._target = target
        self._chance = chance
        self._server: asyncio.Server
        self._left: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> CutLine:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for held in self._held:
            held.transport.abort()
            with suppress(OSError):
                await held.wait_closed()

    def cut(self) -> None:
        """Let some more bytes pass from the server, then end the connection that has them."""
        self._left = self._chance.randrange(300)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.CancelledError):  # asyncio would report a cancellation.
            await self._carry(reader, writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, out = await asyncio.open_connection("127.0.0.1", self._target)
        sending = asyncio.ensure_future(_pass_on(reader, out))
        try:
            while data := await back.read(65536):
                if self._left is not None and len(data) > self._left:
                    writer.write(data[: self._left])
                    self._left = None
                    self.cuts += 1
                    break
                if self._left is not None:
                    self._left -= len(data)
                writer.write(data)
        finally:
            sending.cancel()
            # What was written before the cut still arrives; what comes after it is lost.
            writer.close()
            if self.half_open:
                self._held.append(out)
            else:
                out.transport.abort()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
    sink.close()


async def publish_over_cuts(server: AGServer, channel: str, cut: Any, seed: str) -> list[Any]:
    """Publish numbers, then 'end'; call `cut` at random moments. Return what was published."""
    moments = set(random.Random(seed).sample(range(MESSAGES), CUTS))
    for number in range(MESSAGES):
        await server.exchange.invoke_publish(channel, number)
        if number in moments:
            cut()
        await asyncio.sleep(SECONDS)
    await server.exchange.invoke_publish(channel, "end")
    return [*range(MESSAGES), "end"]
