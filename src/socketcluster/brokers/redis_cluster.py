"""A Redis or Valkey cluster as the backend, with sharded pub/sub: Redis 7 or newer.

Each channel belongs to one slot, and so to one server: `SPUBLISH <prefix>:<channel> <payload>`.
There is one `RemoteBroker` for each server that owns slots, so that losing one takes away its
channels only. When slots move, or a replica is promoted, the channels move with them.

Source: Redis documentation, "Redis cluster specification", "Sharded Pub/Sub".
"""

from __future__ import annotations

import asyncio
import binascii
import logging
from collections.abc import Awaitable, Iterable
from dataclasses import replace
from typing import NoReturn

from socketcluster.brokers.adapter import LinkListener
from socketcluster.brokers.address import TLS_PARAMETERS, BrokerAddress, host_port, wrong
from socketcluster.brokers.base import BrokerListener
from socketcluster.brokers.redis import PORT, SHARDED, RedisConnector
from socketcluster.brokers.redis_connection import RedisAccount, connect
from socketcluster.brokers.remote import Away, RemoteBroker, closed_early, new_inbox
from socketcluster.errors import BrokerError

logger = logging.getLogger("socketcluster.brokers")

SLOTS = 16384
LOOK_AGAIN_SECONDS = 1.0

Address = tuple[str, int]


class ClusterBroker:
    """A `Broker` over the brokers of a cluster's servers."""

    def __init__(self, address: BrokerAddress) -> None:
        self.name = address.where(PORT)
        self._options = address.options
        self._account = RedisAccount.of(address)
        self._seeds = [(host, port or PORT) for host, port in address.hosts]
        self._listener: BrokerListener | None = None
        self._channels: set[str] = set()
        # Never started, so always away: what belongs to a slot that no server owns.
        self._nobody = RemoteBroker(_Nobody(self.name), address.options)
        self._owners: list[Address | None] = [None] * SLOTS
        self._servers: dict[Address, RemoteBroker] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._closed = False

    def attach(self, listener: BrokerListener) -> None:
        """See `Broker.attach`."""
        self._listener = _Forward(listener, self._look)
        self._nobody.attach(self._listener)

    @property
    def ready(self) -> bool:
        """Whether every slot has a server, and each server delivers."""
        return None not in self._owners and all(s.ready for s in self._servers.values())

    async def start(self) -> None:
        """Learn who owns what, and connect to all. See `RemoteBroker.start`."""
        loop = asyncio.get_running_loop()
        self._closed = False
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                owners = await self._ask()
                if not self._closed:
                    await self._refresh(owners)
        except (BrokerError, TimeoutError) as caught:
            if self._closed:
                raise closed_early() from None
            error = BrokerError(str(caught) or "There was no answer in time")
            if self._options.required:
                raise BrokerError(f"Cannot reach {self.name}: {error}") from caught
            self._nobody.away = Away(loop.time(), error)
            logger.warning("%s is away, trying again: %s", self.name, error)
            if self._listener is not None:
                self._listener.backend_lost(error)
        if self._closed:
            await self.close()
            raise closed_early()
        if self._options.required and not self.ready:
            away = [s.away for s in self._servers.values() if s.away is not None]
            await self.close()
            reason = away[0].error if away else "some slots have no server"
            raise BrokerError(f"Cannot reach {self.name}: {reason}")
        self._watcher = asyncio.ensure_future(self._watch())

    async def close(self) -> None:
        """See `Broker.close`."""
        self._closed = True
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait([watcher])
        await asyncio.gather(*(server.close() for server in self._servers.values()))

    async def check(self) -> None:
        """A round trip through every server."""
        if None in self._owners:
            raise BrokerError(f"{self.name}: some slots have no server")
        await asyncio.gather(*(server.check() for server in self._servers.values()))

    def publish(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """See `RemoteBroker.publish`."""
        return self._server(channel).publish(channel, payload)

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        """See `RemoteBroker.subscribe`."""
        self._channels.add(channel)
        return self._server(channel).subscribe(channel)

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        """See `RemoteBroker.unsubscribe`."""
        self._channels.discard(channel)
        return self._server(channel).unsubscribe(channel)

    def _server(self, channel: str) -> RemoteBroker:
        owner = self._owners[self._slot(channel)]
        return self._nobody if owner is None else self._servers[owner]

    def _slot(self, channel: str) -> int:
        prefix = self._options.prefix
        return slot_of(f"{prefix}:{channel}" if prefix else channel)

    # Who owns what

    async def _watch(self) -> None:
        while True:
            if self.ready:
                await self._look.wait()
            else:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            self._look.clear()
            try:
                async with asyncio.timeout(self._options.connect_timeout):
                    owners = await self._ask()
                await self._refresh(owners)
            except (BrokerError, TimeoutError) as error:
                logger.debug("%s: %s", self.name, error)  # Each server says that it is away.

    async def _ask(self) -> list[Address | None]:
        """The owner of each slot, as the first server that answers sees it.

        Raises:
            BrokerError: none answers.
        """
        problems: list[str] = []
        for host, port in dict.fromkeys([*self._servers, *self._seeds]):
            try:
                async with asyncio.timeout(self._options.heartbeat_timeout):
                    connection = await connect(host, port, self._account)
                    try:
                        ranges = await connection.call("CLUSTER", "SLOTS")
                    finally:
                        connection.close()
            except TimeoutError:
                problems.append(f"{host_port(host, port)} did not answer")
                continue
            except BrokerError as error:
                problems.append(str(error))
                continue
            owners: list[Address | None] = [None] * SLOTS
            for first, last, master, *_ in ranges:
                owner = ((master[0] or b"").decode() or host, int(master[1]))
                owners[first : last + 1] = [owner] * (last + 1 - first)
            return owners
        raise BrokerError("No server of the cluster answers: " + "; ".join(problems))

    async def _refresh(self, owners: list[Address | None]) -> None:
        """Move channels to the brokers of their slots' owners."""
        former = {channel: self._server(channel) for channel in self._channels}
        gone = {a: s for a, s in self._servers.items() if owners[self._slot(s.inbox)] != a}
        # A server that takes over is not there until it delivers, and reports the gap then.
        away = [b.away for b in (*gone.values(), self._nobody) if b.away is not None]
        for address in gone:
            del self._servers[address]
        new = [address for address in _distinct(owners) if address not in self._servers]
        for address in new:
            server = self._broker(address, owners, min(away, key=_since, default=None))
            self._servers[address] = server
        self._owners = owners
        for channel, server in former.items():
            if self._server(channel) is not server:
                server.unsubscribe(channel)
                self._server(channel).subscribe(channel)
        if None not in owners:
            self._nobody.away = None
        await asyncio.gather(
            *(self._servers[address].start() for address in new),
            *(server.close() for server in gone.values()),
        )

    def _broker(
        self, address: Address, owners: list[Address | None], away: Away | None
    ) -> RemoteBroker:
        inbox = new_inbox()
        while owners[self._slot(inbox)] != address:
            inbox = new_inbox()
        name = f"{self.name.partition('://')[0]}://{host_port(*address)}"
        connector = RedisConnector(name, *address, self._account, self._options.prefix, SHARDED)
        server = RemoteBroker(connector, replace(self._options, required=False), away, inbox)
        if self._listener is not None:
            server.attach(self._listener)
        return server


class _Forward:
    """Passes on what a server's broker reports, and has the slots looked at when one is lost."""

    def __init__(self, listener: BrokerListener, look: asyncio.Event) -> None:
        self.message_received = listener.message_received
        self.backend_message_received = listener.backend_message_received
        self.broker_failed = listener.broker_failed
        self.backend_recovered = listener.backend_recovered
        self._listener = listener
        self._look = look

    def backend_lost(self, error: BrokerError) -> None:
        """See `BrokerListener`."""
        self._look.set()
        self._listener.backend_lost(error)


class _Nobody:
    """The connector of channels that have no server."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def connect(self, session: LinkListener) -> NoReturn:
        """Never called, for its broker is not started."""
        raise BrokerError("There is no server")


def _distinct(owners: Iterable[Address | None]) -> list[Address]:
    return [owner for owner in dict.fromkeys(owners) if owner is not None]


def _since(away: Away) -> float:
    return away.since


def slot_of(name: str) -> int:
    """The slot of a key or channel: CRC16 (XMODEM) of it, or of what is between its braces."""
    key = name.encode("utf-8", "surrogateescape")
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


def create(address: BrokerAddress) -> ClusterBroker:
    """The broker of `redis+cluster://host:port,host:port`.

    Raises:
        InvalidOptionsError: a part of the URL is wrong.
    """
    address.only(*TLS_PARAMETERS)
    if not address.hosts:
        raise wrong("a cluster URL names at least one host")
    return ClusterBroker(address)
