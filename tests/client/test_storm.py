"""A server that dies and restarts: every client reconnects, and nothing hangs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from socketcluster import AGClientSocket, AGServer
from socketcluster.errors import BadConnectionError
from support import Running, until

CLIENTS = 200
AGAIN = {"initial_delay": 50, "randomness": 400, "multiplier": 1.2, "max_delay": 600}


async def start(running: Running, port: int = 0) -> AGServer:
    server = AGServer(drain_timeout=0)
    running.procedure(server, "echo")

    async def never(socket: Any) -> None:
        held = [request async for request in socket.procedure("never")]
        del held

    running.on_connection(server, never)
    await server.listen(port)
    return server


def kill(server: AGServer) -> None:
    """Cut every connection off, as the death of the process would."""
    for socket in list(server.clients.values()):
        socket.terminate()


class Caller:
    """Calls in flight, and how each ended."""

    def __init__(self, client: AGClientSocket) -> None:
        self.client = client
        self.ends: list[str] = []
        self.stopped = False

    async def call(self) -> None:
        number = 0
        while not self.stopped:
            number += 1
            try:
                assert await self.client.invoke("echo", number) == number
                self.ends.append("answered")
            except BadConnectionError:
                self.ends.append("cut off")
            await asyncio.sleep(0.05)

    async def wait_for_nothing(self) -> None:
        with pytest.raises(BadConnectionError):
            await self.client.invoke("never")
        self.ends.append("cut off")


async def test_two_hundred_clients_come_back(make_client: Any, running: Running) -> None:
    server = await start(running)
    port = server.source_port
    assert port is not None
    options = {"auto_reconnect_options": AGAIN, "ack_timeout": 8000}
    publisher = make_client(port, **options)
    clients = [make_client(port, **options) for _ in range(CLIENTS)]
    received: list[list[Any]] = []
    subscribed = [running.collect(client.listener("subscribe")) for client in clients]
    for number, client in enumerate(clients):
        received.append(running.collect(client.subscribe("news")))
        client.subscribe(f"own {number}", priority=number % 3)
    await until(lambda: all(len(found) == 2 for found in subscribed))

    callers = [Caller(client) for client in clients]
    tasks = [asyncio.create_task(caller.call()) for caller in callers]
    tasks += [asyncio.create_task(caller.wait_for_nothing()) for caller in callers]
    publishing = asyncio.create_task(publish(publisher, "during"))
    await until(lambda: all(caller.ends for caller in callers))

    kill(server)
    await server.close()
    assert not any(client.state == "open" for client in clients)
    server = await start(running, port)
    try:
        await until(lambda: all(len(found) == 4 for found in subscribed))
        for number, client in enumerate(clients):
            assert client.subscriptions() == ["news", f"own {number}"]
        await until(lambda: server.clients_count == CLIENTS + 1)
        for caller in callers:
            caller.stopped = True
        await asyncio.gather(*tasks)  # Every call was answered, or raised BadConnectionError.
        assert all("cut off" in caller.ends for caller in callers)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)

        after = [f"after {number}" for number in range(100)]
        for message in after:
            publisher.transmit_publish("news", message)
        await until(lambda: all(found and found[-1] == after[-1] for found in received))
        for found in received:
            assert found[-100:] == after
            late = [message for message in found if message.startswith("during")]
            assert late == sorted(late, key=lambda message: int(message.split()[1]))
    finally:
        for client in (publisher, *clients):
            client.disconnect()
        await server.close()


async def publish(client: AGClientSocket, word: str) -> None:
    number = 0
    while True:
        number += 1
        with contextlib.suppress(BadConnectionError):
            await client.invoke_publish("news", f"{word} {number}")
        await asyncio.sleep(0.01)
