"""Clients that lose their lines and come back at once read the history of a channel once."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from broker_servers import running_backend
from recovering import history, place, publish, publishes, server_with, subscribe
from socketcluster import AGServer
from support import Client, soon, until
from transports import dial

SOAK = bool(os.environ.get("SOAK"))
CLIENTS = 2000 if SOAK else 200
MISSED = 20
AT_ONCE = 100
"""Handshakes at a time, so that none waits longer than a client does."""


async def come(server: AGServer, some: asyncio.Semaphore, told: Any) -> tuple[Client, Any]:
    """Connect and subscribe; return the client and the answer."""
    async with some:
        client = Client(await dial(server, open_timeout=60))
        await client.handshake()
        return client, await subscribe(client, told)


async def test_a_storm_of_clients_reads_its_history_once() -> None:
    with running_backend("redis") as backend:
        server = server_with(history(size=1000), broker_engine=backend.url)
        await server.listen(0)
        some = asyncio.Semaphore(AT_ONCE)
        first = await asyncio.gather(*(come(server, some, None) for _ in range(CLIENTS)))
        for socket in list(server.clients.values()):
            socket.terminate()
        await until(lambda: not server.clients)
        for client, _ in first:
            await client.close()
        await soon(publish(server, *range(MISSED)))
        before = server.exchange.stored.numbers.reads

        back = await asyncio.gather(*(come(server, some, place(told)) for _, told in first))
        # One for the position of the process, which had no subscriber left, and one for them all.
        assert server.exchange.stored.numbers.reads - before == 2
        for client, answer in back:
            assert answer["recovered"] is True
            assert [value for value, _ in publishes(client)] == [*range(MISSED)]
            await client.close()
        await server.close()
