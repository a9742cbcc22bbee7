"""The Redis cluster adapter: sharded pub/sub over Redis 7 or newer, or Valkey.

Each channel belongs to one slot, and each slot to one server, its owner:
`SPUBLISH <prefix>:<channel> <payload>`. `ClusterBroker` has one `RemoteBroker` for each server that
owns slots, so that a lost server affects only its own channels. When a slot moves, or a replica is
promoted, the channels follow.

Source: Redis documentation, "Redis cluster specification", "Sharded Pub/Sub".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import NoReturn

from socketcluster.brokers.adapter import LinkListener
from socketcluster.brokers.address import (
    TLS_PARAMETERS,
    BrokerAddress,
    host_port,
    url_error,
)
from socketcluster.brokers.base import BackendBroker, BrokerListener
from socketcluster.brokers.outage import Outage
from socketcluster.brokers.redis import PORT, SHARDED, RedisConnector
from socketcluster.brokers.redis_cluster_store import ClusterStoring
from socketcluster.brokers.redis_connection import RedisAccount, connect
from socketcluster.brokers.redis_keys import SLOTS, StoreKeys, slot_of
from socketcluster.brokers.remote import (
    RemoteBroker,
    already_started,
    closed_early,
    new_inbox,
)
from socketcluster.errors import BrokerError

logger: logging.Logger = logging.getLogger("socketcluster.brokers")

REFRESH_SECONDS = 1.0
"""Seconds between refreshes of the slots while a server is unreachable or a slot has no owner."""

Address = tuple[str, int]
"""(Host, port) of a server."""

Owners = list[Address | None]
"""The owner of each slot; None for a slot that no server owns."""

NO_OWNERS: Owners = [None] * SLOTS


class ClusterBroker(BackendBroker, ClusterStoring):
    """A `Broker` that spreads channels over the brokers of a cluster's servers."""

    def __init__(self, address: BrokerAddress) -> None:
        self.name: str = address.display_url(PORT)
        self._options = address.options
        self._prefix = address.name_prefix(":")
        self._keys = StoreKeys(self._prefix)
        self._account = RedisAccount.of(address)
        self._seeds = [(host, port or PORT) for host, port in address.hosts]
        self._listener: BrokerListener | None = None
        self._channels: set[str] = set()
        # The broker of channels whose slot has no owner. It is never started.
        self._ownerless = RemoteBroker(_NoServer(self.name), address.options)
        self._owners = NO_OWNERS
        self._servers: dict[Address, RemoteBroker] = {}
        self._refresher: asyncio.Task[None] | None = None
        self._refresh_requested = asyncio.Event()
        self._closed = True
        self._moved: list[_Move] = []  # Not reported yet.

    def attach(self, listener: BrokerListener) -> None:
        """See `Broker.attach`."""
        self._listener = _ServerListener(listener, self._refresh_requested)
        self._ownerless.attach(self._listener)

    @property
    def ready(self) -> bool:
        """Whether every slot has an owner, and every owner's link is up."""
        return None not in self._owners and all(s.ready for s in self._servers.values())

    def measure(self) -> tuple[int, float | None]:
        measured = [server.measure() for server in self._servers.values()]
        known = [round_trip for _, round_trip in measured if round_trip is not None]
        return sum(unconfirmed for unconfirmed, _ in measured), max(known, default=None)

    async def start(self) -> None:
        """Ask for the owners of the slots and connect to them. See `RemoteBroker.start`."""
        if not self._closed:
            raise already_started(self.name)
        self._closed = False
        try:
            await self._connect()
            if self._closed:
                raise closed_early()
            if self._options.required and not self.ready:
                outages = [s.outage for s in self._servers.values() if s.outage is not None]
                reason = outages[0].error if outages else "some slots have no server"
                raise BrokerError(f"Cannot reach {self.name}: {reason}")
        except BaseException:
            await self.close()
            raise
        self._refresher = asyncio.ensure_future(self._keep_refreshing())

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                owners = await self._fetch_owners()
                if not self._closed:
                    await self._refresh(owners)
        except (BrokerError, TimeoutError) as caught:
            if self._closed:
                return
            error = BrokerError(str(caught) or "There was no answer in time")
            if self._options.required:
                raise BrokerError(f"Cannot reach {self.name}: {error}") from caught
            self._ownerless.outage = Outage(asyncio.get_running_loop().time(), error)
            logger.warning("%s is away, trying again: %s", self.name, error)
            if self._listener is not None:
                self._listener.backend_lost(error)

    async def close(self) -> None:
        """See `Broker.close`."""
        self._closed = True
        refresher, self._refresher = self._refresher, None
        if refresher is not None:
            refresher.cancel()
            await asyncio.wait([refresher])
        await asyncio.gather(*(server.close() for server in self._servers.values()))
        # Closed brokers have no link: this only moves their channels to `_ownerless`.
        self._assign(NO_OWNERS)
        self._moved.clear()

    async def check(self) -> None:
        """Check every server. See `Broker.check`."""
        if None in self._owners:
            raise BrokerError(f"{self.name}: some slots have no server")
        await asyncio.gather(*(server.check() for server in self._servers.values()))

    def publish(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """See `RemoteBroker.publish`."""
        return self._server_of(channel).publish(channel, payload)

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        """See `RemoteBroker.subscribe`."""
        self._channels.add(channel)
        return self._server_of(channel).subscribe(channel)

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        """See `RemoteBroker.unsubscribe`."""
        self._channels.discard(channel)
        return self._server_of(channel).unsubscribe(channel)

    def _server_of(self, channel: str) -> RemoteBroker:
        return self._server_of_slot(self._slot_of(channel))

    def _server_of_slot(self, slot: int) -> RemoteBroker:
        owner = self._owners[slot]
        return self._ownerless if owner is None else self._servers[owner]

    def _slot_of(self, channel: str) -> int:
        return slot_of(self._prefix + channel)

    # The owners of the slots

    async def _keep_refreshing(self) -> None:
        while True:
            if self.ready:
                await self._refresh_requested.wait()
            else:
                await asyncio.sleep(REFRESH_SECONDS)
            self._refresh_requested.clear()
            try:
                async with asyncio.timeout(self._options.connect_timeout):
                    owners = await self._fetch_owners()
                await self._refresh(owners)
            except (BrokerError, TimeoutError) as error:
                # Each server's broker reports its own outage.
                logger.debug("%s: %s", self.name, error)

    async def _fetch_owners(self) -> Owners:
        """Ask the servers for the slots' owners, one after the other until one answers.

        Raises:
            BrokerError: none answered.
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
            owners = [*NO_OWNERS]
            for first, last, master, *_ in ranges:
                owner = ((master[0] or b"").decode() or host, int(master[1]))
                owners[first : last + 1] = [owner] * (last + 1 - first)
            return owners
        raise BrokerError("No server of the cluster answers: " + "; ".join(problems))

    async def _refresh(self, owners: Owners) -> None:
        """Assign the slots to `owners`, then start and close brokers as that requires."""
        added, removed = self._assign(owners)
        await asyncio.gather(
            *(server.start() for server in added), *(server.close() for server in removed)
        )
        moved, self._moved = self._moved, []
        for move in moved:
            await self._report_move(move)

    async def _report_move(self, move: _Move) -> None:
        """Report the gap of channels that moved to a server whose link is up.

        That server has no gap of its own, and the former one reports only channels that it has.
        """
        await asyncio.gather(*move.operations.values(), return_exceptions=True)
        if self._listener is not None and not self._closed:
            duration = (asyncio.get_running_loop().time() - move.outage.since) * 1000
            self._listener.backend_recovered(
                duration, move.outage.error, move.operations.keys(), move.server
            )

    def _assign(self, owners: Owners) -> tuple[list[RemoteBroker], list[RemoteBroker]]:
        """Move each channel to the broker of its slot's owner, without any I/O.

        Returns the brokers to start and the brokers to close. A broker is removed when its own
        inbox is in a slot that it no longer owns. An added broker inherits the oldest outage of
        those it may replace, and reports that gap when it is up.
        """
        former = {channel: self._server_of(channel) for channel in self._channels}
        removed = {
            address: server
            for address, server in self._servers.items()
            if owners[self._slot_of(server.inbox)] != address
        }
        outages = [b.outage for b in (*removed.values(), self._ownerless) if b.outage is not None]
        outage = min(outages, key=lambda outage: outage.since, default=None)
        for address in removed:
            del self._servers[address]
        added: list[RemoteBroker] = []
        for address in _distinct(owners):
            if address not in self._servers:
                added.append(self._make_server(address, owners, outage))
                self._servers[address] = added[-1]
        self._owners = owners
        moves: dict[RemoteBroker, _Move] = {}
        for channel, server in former.items():
            owner = self._server_of(channel)
            if owner is not server:
                server.unsubscribe(channel)
                subscribed = owner.subscribe(channel)
                broken = server.broken_since()
                if broken is None or self._closed:
                    continue
                if subscribed is None:  # Its link is not up, and it reports a gap when it is.
                    owner.outage = owner.outage or broken
                    continue
                move = moves.setdefault(server, _Move(server.name, broken))
                move.operations[channel] = subscribed
        self._moved.extend(moves.values())
        if None not in owners:
            self._ownerless.outage = None
        return added, [*removed.values()]

    def _make_server(self, address: Address, owners: Owners, outage: Outage | None) -> RemoteBroker:
        inbox = new_inbox()
        while owners[self._slot_of(inbox)] != address:
            inbox = new_inbox()
        name = f"{self.name.partition('://')[0]}://{host_port(*address)}"
        connector = RedisConnector(name, *address, self._account, self._prefix, SHARDED)
        server = RemoteBroker(connector, replace(self._options, required=False), outage, inbox)
        if self._listener is not None:
            server.attach(self._listener)
        return server


@dataclass(slots=True)
class _Move:
    """Channels that moved from one server to others whose links are up.

    Attributes:
        server, outage: the former server, and since when it has not proved that it delivers.
        operations: channel → completes when the channel is subscribed.
    """

    server: str
    outage: Outage
    operations: dict[str, Awaitable[None]] = field(default_factory=dict)


class _ServerListener:
    """Forwards a server's reports, and requests a refresh of the slots when its link is lost."""

    def __init__(self, listener: BrokerListener, refresh_requested: asyncio.Event) -> None:
        self.message_received = listener.message_received
        self.backend_message_received = listener.backend_message_received
        self.broker_failed = listener.broker_failed
        self.backend_recovered = listener.backend_recovered
        self._listener = listener
        self._refresh_requested = refresh_requested

    def backend_lost(
        self,
        error: BrokerError,
        channels: Collection[str] | None = None,
        server: str | None = None,
    ) -> None:
        """See `BrokerListener`."""
        self._refresh_requested.set()
        self._listener.backend_lost(error, channels, server)


class _NoServer:
    """The connector for slots without an owner."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def connect(self, listener: LinkListener) -> NoReturn:
        """Raise: its broker is never started."""
        raise BrokerError("There is no server")


def _distinct(owners: Iterable[Address | None]) -> list[Address]:
    return [owner for owner in dict.fromkeys(owners) if owner is not None]


def create(address: BrokerAddress) -> ClusterBroker:
    """Make the broker of `redis+cluster://host:port,host:port`.

    Raises:
        InvalidOptionsError: a part of the URL is wrong.
    """
    address.check_parameters(*TLS_PARAMETERS)
    if not address.hosts:
        raise url_error("a cluster URL names at least one host")
    if {"{", "}"} & {*address.options.prefix}:  # They would put all channels into few slots.
        raise url_error("the prefix of a cluster has no braces")
    return ClusterBroker(address)
