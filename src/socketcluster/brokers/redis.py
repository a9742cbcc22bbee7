"""The Redis adapter: one Redis or Valkey server, or the master that Sentinels name.

On the wire: `PUBLISH <prefix>:<channel> <payload>`; the payload is JSON text, or the output of
another codec. Scripts store publishes (`redis_store`). One connection in RESP3 carries commands and
messages, so Redis 6 or newer is needed.

Source: Redis documentation, "Redis Pub/Sub", "Sentinel clients".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from socketcluster.brokers.adapter import (
    Connector,
    LinkListener,
    Publish,
    StoredPublish,
    StoringLink,
)
from socketcluster.brokers.address import TLS_PARAMETERS, BrokerAddress, url_error
from socketcluster.brokers.redis_connection import (
    AwaitedReply,
    RedisAccount,
    RedisConnection,
    connect,
    refusal,
)
from socketcluster.brokers.redis_store import RedisStore
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.brokers.storing import Page, Position, Retention
from socketcluster.errors import BrokerError

PORT = 6379
SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class PubSub:
    """The commands of plain or of sharded pub/sub.

    Attributes:
        message: the kind of the push that carries a message.
    """

    publish: str
    subscribe: str
    unsubscribe: str
    message: bytes


PLAIN = PubSub("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE", b"message")
SHARDED = PubSub("SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE", b"smessage")


class RedisLink:
    """A `StoringLink` over one connection. `prefix` includes its separator."""

    def __init__(
        self, connection: RedisConnection, listener: LinkListener, prefix: str, commands: PubSub
    ) -> None:
        self._connection = connection
        self._listener = listener
        self._prefix = prefix
        self._commands = commands
        self._store = RedisStore(connection, listener, prefix, commands.publish)
        self._subscribed: dict[str, None] = {}
        self._changes = 0  # Of `_subscribed`, so that `check` notices one while it waits.
        connection.on_push = self._handle_push
        connection.on_lost = listener.link_lost

    def _handle_push(self, push: Sequence[Any]) -> None:
        if push[0] == self._commands.message:
            channel = push[1].decode("utf-8", "surrogateescape")
            self._listener.message_received(channel[len(self._prefix) :], push[2])
        elif push[0] == b"sunsubscribe":
            self._listener.link_lost(BrokerError("The server handed channels over to another"))

    def publish(self, publishes: Sequence[Publish]) -> None:
        """See `Link`."""
        name, prefix = self._commands.publish, self._prefix
        self._connection.send(
            [(name, prefix + item.channel, item.payload) for item in publishes],
            [(None, partial(self._handle_publish_reply, item)) for item in publishes],
        )

    def _handle_publish_reply(self, publish: Publish, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._listener.publish_refused(publish, refusal(reply))
            if str(reply).startswith("MOVED"):
                self._listener.link_lost(BrokerError("The server handed channels over to another"))
        else:
            self._listener.publishes_confirmed((publish,))

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, BrokerError]:
        """See `Link`."""
        replies = await self._send_for_each(self._commands.subscribe, channels)
        refused: dict[str, BrokerError] = {}
        for channel, reply in replies.items():
            if isinstance(reply, Exception):
                refused[channel] = refusal(reply)
                if not str(reply).startswith("NOPERM"):
                    raise refused[channel]
        self._changes += 1
        self._subscribed.update(dict.fromkeys(c for c in channels if c not in refused))
        return refused

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """See `Link`."""
        self._changes += 1
        for channel in channels:
            self._subscribed.pop(channel, None)
        replies = await self._send_for_each(self._commands.unsubscribe, channels)
        for reply in replies.values():
            if isinstance(reply, Exception):
                raise refusal(reply)

    async def _send_for_each(self, command: str, channels: Sequence[str]) -> dict[str, Any]:
        """Send a command for each channel, in one batch; return channel → reply or error."""
        replies: dict[str, Any] = {}
        complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def handle_reply(channel: str, reply: Any) -> None:
            replies[channel] = reply
            if len(replies) == len(channels) and not complete.done():
                complete.set_result(None)

        names = {channel: self._prefix + channel for channel in channels}
        awaited: list[AwaitedReply] = [
            ((command.lower().encode(), name.encode()), partial(handle_reply, channel))
            for channel, name in names.items()
        ]
        self._connection.send([(command, name) for name in names.values()], awaited)
        await complete
        return replies

    async def check(self) -> None:
        """Compare the server's count of subscriptions with this link's.

        The reply to an unsubscription has the count, so this unsubscribes from a channel that was
        never subscribed to.
        """
        expected, changes = len(self._subscribed), self._changes
        # The braces put it into the slot of the first channel, the inbox, which this server owns.
        unused = f"{{{self._prefix}{next(iter(self._subscribed))}}}"
        reply = await self._connection.call_for_push(
            (self._commands.unsubscribe.lower().encode(), unused.encode()),
            self._commands.unsubscribe,
            unused,
        )
        if changes == self._changes and reply[2] != expected:
            raise BrokerError(
                f"The server has {reply[2]} subscriptions of this process, not {expected}"
            )

    async def close(self) -> None:
        """See `Link`."""
        self._connection.close()

    # StoringLink

    def publish_stored(self, publishes: Sequence[StoredPublish]) -> None:
        self._store.publish(publishes)

    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None,
        limit: int | None,
        reverse: bool,
    ) -> Page:
        return await self._store.history(channel, retention, since, limit, reverse)

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        return await self._store.renew_epoch(channel, retention, seen)

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None:
        await self._store.keep(values, seconds)

    async def take(self, key: str) -> bytes | None:
        return await self._store.take(key)


class RedisConnector:
    """Opens links to one server. `prefix` includes its separator."""

    def __init__(
        self, name: str, host: str, port: int, account: RedisAccount, prefix: str, commands: PubSub
    ) -> None:
        self.name = name
        self._host, self._port = host, port
        self._account = account
        self._prefix = prefix
        self._commands = commands
        self._former: RedisConnection | None = None

    async def connect(self, listener: LinkListener) -> StoringLink:
        """See `Connector`."""
        return await self.open(self._host, self._port, listener)

    async def open(self, host: str, port: int, listener: LinkListener) -> StoringLink:
        """Open a link to a server, and have the server kill the former link's connection.

        A server that hung may still have unread publishes of the former link. It must not deliver
        them after those of the new link.
        """
        connection = await connect(host, port, self._account)
        former = self._former
        if former is not None and former.client_address:
            try:
                await connection.call(
                    *("CLIENT", "KILL", "ID", former.client_id, "ADDR", former.client_address)
                )
            except BrokerError as error:
                listener.link_failed(BrokerError(f"Cannot end the connection before: {error}"))
        self._former = connection
        return RedisLink(connection, listener, self._prefix, self._commands)


class SentinelConnector:
    """Opens links to the master that Sentinels name; `servers` opens them."""

    def __init__(self, address: BrokerAddress, servers: RedisConnector) -> None:
        self.name: str = address.display_url(SENTINEL_PORT)
        self._address = address
        self._servers = servers
        tls = RedisAccount.of(address).tls
        query = address.query
        self._account = RedisAccount(
            query.get("sentinel_username"), query.get("sentinel_password"), tls
        )

    async def connect(self, listener: LinkListener) -> StoringLink:
        """See `Connector`."""
        host, port = await self._find_master()
        return await self._servers.open(host, port, listener)

    async def _find_master(self) -> tuple[str, int]:
        problems: list[str] = []
        for host, port in self._address.hosts:
            try:
                sentinel = await connect(host, port or SENTINEL_PORT, self._account)
            except BrokerError as error:
                problems.append(str(error))
                continue
            try:
                master = await sentinel.call(
                    "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.path
                )
                if master is not None:
                    return master[0].decode(), int(master[1])
                problems.append(f"{sentinel.name} knows no master {self._address.path!r}")
            except BrokerError as error:
                problems.append(f"{sentinel.name}: {error}")
            finally:
                sentinel.close()
        raise BrokerError("No Sentinel names the master: " + "; ".join(problems))


def create(address: BrokerAddress) -> RemoteBroker:
    """Make the broker of `redis://user:password@host:port` or `redis+sentinel://host,host/master`.

    Raises:
        InvalidOptionsError: a part of the URL is wrong.
    """
    sentinel = address.scheme.endswith("+sentinel")
    sentinel_parameters = ("sentinel_username", "sentinel_password") if sentinel else ()
    address.check_parameters(*TLS_PARAMETERS, *sentinel_parameters)
    if not address.hosts or (len(address.hosts) > 1 and not sentinel):
        raise url_error(f"a {address.scheme}:// URL names one host")
    if sentinel and not address.path:
        raise url_error(
            "a Sentinel URL ends with the name of the master: redis+sentinel://host/name"
        )
    host, port = next(iter(address.hosts))
    connector: Connector
    connector = servers = RedisConnector(
        address.display_url(PORT),
        host,
        port or PORT,
        RedisAccount.of(address),
        address.name_prefix(":"),
        PLAIN,
    )
    if sentinel:
        connector = SentinelConnector(address, servers)
    return RemoteBroker(connector, address.options)
