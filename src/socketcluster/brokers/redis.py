"""Redis and Valkey as the backend: one server, or the master that Sentinels name.

The wire: `PUBLISH <prefix>:<channel> <payload>`, the payload being JSON text (or what the codec
makes). One connection in RESP3 carries commands and deliveries: Redis 6 or newer.

Source: Redis documentation, "Redis Pub/Sub", "Sentinel clients".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from socketcluster.brokers.adapter import Connector, Link, LinkListener, Publish
from socketcluster.brokers.address import TLS_PARAMETERS, BrokerAddress, wrong
from socketcluster.brokers.redis_connection import (
    Awaited,
    RedisAccount,
    RedisConnection,
    connect,
    refusal,
)
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.errors import BrokerError

PORT = 6379
SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class PubSub:
    """The commands of plain or of sharded pub/sub, and what a delivery is called."""

    publish: str
    subscribe: str
    unsubscribe: str
    delivery: bytes


PLAIN = PubSub("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE", b"message")
SHARDED = PubSub("SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE", b"smessage")


class RedisLink:
    """A `Link` over one connection; `prefix` is with its separator."""

    def __init__(
        self, connection: RedisConnection, session: LinkListener, prefix: str, commands: PubSub
    ) -> None:
        self._connection = connection
        self._session = session
        self._prefix = prefix
        self._commands = commands
        self._subscribed: dict[str, None] = {}
        self._changes = 0
        connection.on_push = self._pushed
        connection.on_lost = session.lost

    def _pushed(self, push: Sequence[Any]) -> None:
        if push[0] == self._commands.delivery:
            channel = push[1].decode("utf-8", "surrogateescape")
            self._session.message(channel[len(self._prefix) :], push[2])
        elif push[0] == b"sunsubscribe":
            self._session.lost(BrokerError("The server handed channels over to another"))

    def publish(self, publishes: Sequence[Publish]) -> None:
        """See `Link`."""
        name, prefix = self._commands.publish, self._prefix
        self._connection.send(
            [(name, prefix + item.channel, item.payload) for item in publishes],
            [(None, partial(self._published, item)) for item in publishes],
        )

    def _published(self, publish: Publish, answer: Any) -> None:
        if isinstance(answer, Exception):
            self._session.refused(publish, refusal(answer))
            if str(answer).startswith("MOVED"):
                self._session.lost(BrokerError("The server handed channels over to another"))
        else:
            self._session.taken((publish,))

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, BrokerError]:
        """See `Link`."""
        answers = await self._each(self._commands.subscribe, channels)
        refused: dict[str, BrokerError] = {}
        for channel, answer in answers.items():
            if isinstance(answer, Exception):
                refused[channel] = refusal(answer)
                if not str(answer).startswith("NOPERM"):
                    raise refused[channel]
        self._changes += 1
        self._subscribed.update(dict.fromkeys(c for c in channels if c not in refused))
        return refused

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """See `Link`."""
        self._changes += 1
        for channel in channels:
            self._subscribed.pop(channel, None)
        answers = await self._each(self._commands.unsubscribe, channels)
        for answer in answers.values():
            if isinstance(answer, Exception):
                raise refusal(answer)

    async def _each(self, command: str, channels: Sequence[str]) -> dict[str, Any]:
        """Send a command for each channel; channel → its answer, or the error."""
        answers: dict[str, Any] = {}
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answered(channel: str, answer: Any) -> None:
            answers[channel] = answer
            if len(answers) == len(channels) and not done.done():
                done.set_result(None)

        names = {channel: self._prefix + channel for channel in channels}
        awaited: list[Awaited] = [
            ((command.lower().encode(), name.encode()), partial(answered, channel))
            for channel, name in names.items()
        ]
        self._connection.send([(command, name) for name in names.values()], awaited)
        await done
        return answers

    async def check(self) -> None:
        """Leave a channel that was never subscribed to: the answer tells how many are."""
        expected, changes = len(self._subscribed), self._changes
        # In the slot of the first channel, the inbox, which is one of this server's.
        nothing = f"{{{self._prefix}{next(iter(self._subscribed))}}}"
        answer = await self._connection.call_for_push(
            (self._commands.unsubscribe.lower().encode(), nothing.encode()),
            self._commands.unsubscribe,
            nothing,
        )
        if changes == self._changes and answer[2] != expected:
            raise BrokerError(
                f"The server has {answer[2]} subscriptions of this process, not {expected}"
            )

    async def close(self) -> None:
        """See `Link`."""
        self._connection.close()


class RedisConnector:
    """Opens links to one server."""

    def __init__(
        self, name: str, host: str, port: int, account: RedisAccount, prefix: str, commands: PubSub
    ) -> None:
        self.name = name
        self._host, self._port = host, port
        self._account = account
        self._prefix = f"{prefix}:" if prefix else ""
        self._commands = commands
        self._former: RedisConnection | None = None

    async def connect(self, session: LinkListener) -> Link:
        """See `Connector`."""
        return await self.open(self._host, self._port, session)

    async def open(self, host: str, port: int, session: LinkListener) -> Link:
        """A link to a server, which first ends the link before: what a server that hung has not
        yet read of that must not be delivered after what is published from now on."""
        connection = await connect(host, port, self._account)
        former = self._former
        if former is not None and former.client_address:
            try:
                await connection.call(
                    *("CLIENT", "KILL", "ID", former.client_id, "ADDR", former.client_address)
                )
            except BrokerError as error:
                session.failed(BrokerError(f"Cannot end the connection before: {error}"))
        self._former = connection
        return RedisLink(connection, session, self._prefix, self._commands)


class SentinelConnector:
    """Opens links to the master that Sentinels name."""

    def __init__(self, address: BrokerAddress, servers: RedisConnector) -> None:
        self.name = address.where(SENTINEL_PORT)
        self._address = address
        self._servers = servers
        tls = RedisAccount.of(address).tls
        query = address.query
        self._account = RedisAccount(
            query.get("sentinel_username"), query.get("sentinel_password"), tls
        )

    async def connect(self, session: LinkListener) -> Link:
        """See `Connector`."""
        host, port = await self._master()
        return await self._servers.open(host, port, session)

    async def _master(self) -> tuple[str, int]:
        problems: list[str] = []
        for host, port in self._address.hosts:
            try:
                sentinel = await connect(host, port or SENTINEL_PORT, self._account)
            except BrokerError as error:
                problems.append(str(error))
                continue
            try:
                found = await sentinel.call(
                    "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.path
                )
                if found is not None:
                    return found[0].decode(), int(found[1])
                problems.append(f"{sentinel.name} knows no master {self._address.path!r}")
            except BrokerError as error:
                problems.append(f"{sentinel.name}: {error}")
            finally:
                sentinel.close()
        raise BrokerError("No Sentinel names the master: " + "; ".join(problems))


def create(address: BrokerAddress) -> RemoteBroker:
    """The broker of `redis://user:password@host:port` or `redis+sentinel://host,host/master`.

    Raises:
        InvalidOptionsError: a part of the URL is wrong.
    """
    sentinel = address.scheme.endswith("+sentinel")
    sentinel_parameters = ("sentinel_username", "sentinel_password") if sentinel else ()
    address.only(*TLS_PARAMETERS, *sentinel_parameters)
    if not address.hosts or (len(address.hosts) > 1 and not sentinel):
        raise wrong(f"a {address.scheme}:// URL names one host")
    if sentinel and not address.path:
        raise wrong("a Sentinel URL ends with the name of the master: redis+sentinel://host/name")
    host, port = address.hosts[0]
    connector: Connector
    connector = servers = RedisConnector(
        address.where(PORT),
        host,
        port or PORT,
        RedisAccount.of(address),
        address.options.prefix,
        PLAIN,
    )
    if sentinel:
        connector = SentinelConnector(address, servers)
    return RemoteBroker(connector, address.options)
