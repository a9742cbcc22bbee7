"""Tools of the tests of recovery: servers with history, clients that recover, a broker to stop."""

from __future__ import annotations

import asyncio
from typing import Any

import jwt
import pytest

from socketcluster import AGServer, ChannelRule, History
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.brokers.storing import Page
from socketcluster.errors import BrokerError
from socketcluster.server.parts.stored_subscriptions import StoredSubscriptions
from support import AnswerError, Client

KEY = "k" * 32
NOTHING: Any = object()


def token(user: str, **claims: Any) -> str:
    return jwt.encode({"sub": user, **claims}, KEY, algorithm="HS256")


class StoppableBroker(SimpleBroker):
    """Keeps histories in memory. Its reads can be held, refused, and its store be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0
        self.away = False

    @property
    def ready(self) -> bool:
        return not self.away

    async def history(self, *args: Any, **fields: Any) -> Page:
        self.reads += 1
        await self.gate.wait()
        if self.away:
            raise BrokerError("redis://secret.example is away")
        return await super().history(*args, **fields)

    def lose(self) -> None:
        """Lose all histories, as a backend that restarts empty does, and report an outage."""
        self._store = SimpleBroker()._store
        assert self._listener is not None
        self._listener.backend_recovered(10.0, BrokerError("It was away"))

    def come_back(self) -> None:
        """End an outage that began with `away`."""
        self.away = False
        assert self._listener is not None
        self._listener.backend_recovered(10.0, BrokerError("It was away"))

    def share(self, other: SimpleBroker) -> None:
        """Have the histories of another broker."""
        self._store = other._store


def history(**fields: Any) -> History:
    return History(**{"size": 100, "ttl": 300, **fields})


def server_with(kept: History | None = None, **options: Any) -> AGServer:
    """A server whose channels "c/…" have history."""
    rules = [ChannelRule("c/*", history=kept or history())]
    return AGServer(**{"auth_key": KEY, "channels": rules, "drain_timeout": 100, **options})


async def publish(server: AGServer, *values: Any, channel: str = "c/1") -> None:
    for value in values:
        await server.exchange.invoke_publish(channel, value)


async def subscribe(
    client: Client, recover: Any = NOTHING, channel: str = "c/1", **data: Any
) -> dict[str, Any]:
    """Subscribe; return the data of the answer. `recover` is the `$recover` of the data."""
    if recover is not NOTHING:
        data["$recover"] = recover
    fields = {"channel": channel, "data": data} if data else {"channel": channel}
    answer: dict[str, Any] = await client.call("#subscribe", fields)
    return answer


def place(told: dict[str, Any], offset: int | None = None) -> dict[str, Any]:
    """What a client returns of an answer or a position; with `offset` it has less or more."""
    found = {name: told[name] for name in ("epoch", "offset", "since")}
    return found if offset is None else {**found, "offset": offset}


def packets(client: Client) -> list[dict[str, Any]]:
    """The events that came so far."""
    return [client.events.get_nowait() for _ in range(client.events.qsize())]


def publishes(client: Client) -> list[tuple[Any, int]]:
    """The data and the offsets of the publishes that came so far; other events are dropped."""
    found = [packet["data"] for packet in packets(client) if packet["event"] == "#publish"]
    return [(each["data"], each["offset"]) for each in found]


def positions(client: Client) -> list[dict[str, Any]]:
    """The `$positions` that came so far; other events are dropped."""
    return [packet["data"] for packet in packets(client) if packet["event"] == "$positions"]


def subscriptions(server: AGServer) -> StoredSubscriptions:
    """Those of the only client of a server."""
    (socket,) = server.clients.values()
    assert isinstance(socket.subscribed, StoredSubscriptions)
    return socket.subscribed


async def synced(client: Client) -> None:
    """Wait for all that the server has sent before."""
    with pytest.raises(AnswerError, match="no procedure"):
        await client.call("sync")
