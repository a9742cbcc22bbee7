"""RedisConnection: RESP3 over one connection, with replies in order and pushes separate.

It is built on the parser of hiredis, because it is on the path of every message: the usual clients
cost several times as much per message and need two connections.

Source: Redis documentation, "RESP protocol spec", HELLO, CLIENT KILL.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import hiredis

from socketcluster.brokers.address import BrokerAddress, host_port
from socketcluster.errors import BrokerError

Command = tuple[Any, ...]
"""The command's name and arguments, each str or bytes."""

ReplyHandler = Callable[[Any], None]
"""Called once with the reply, or with an exception in its place."""

AwaitedReply = tuple[tuple[bytes, bytes] | None, ReplyHandler]
"""((Kind, channel) of the push that is the reply, None for an ordinary reply; its handler)."""

ACL_HINT = "the ACL of the broker's Redis user has to allow it, see Permissions in docs/scaling.md"

_NO_PERMISSION = ("NOPERM", "The user executing the script can't", "ACL failure in script")
"""Parts of errors about permissions: of a command, and of one in a script of Redis 7.0 and 7.2."""

_NOTHING = object()


@dataclass(frozen=True, slots=True)
class RedisAccount:
    """Credentials for a server, and the TLS context if the server uses TLS."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, address: BrokerAddress) -> RedisAccount:
        """Take the account from a URL.

        Raises:
            InvalidOptionsError: a TLS file cannot be read.
        """
        tls = address.tls_context() if address.scheme.startswith("rediss") else None
        return cls(address.username, address.password, tls)


class RedisConnection(asyncio.Protocol):
    """One connection.

    Attributes:
        on_push: called with each push that is not a reply.
        on_lost: called once, with the reason. Set both before the next await.
        client_id, client_address: this connection as the server's CLIENT KILL names it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.client_id = ""
        self.client_address = ""
        self.on_push: Callable[[Sequence[Any]], None] = lambda push: None
        self.on_lost: Callable[[BrokerError], None] = lambda error: None
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._awaited: deque[AwaitedReply] = deque()
        self._transport: asyncio.Transport | None = None
        self._error: BrokerError | None = None

    def send(self, commands: Sequence[Command], awaited: Sequence[AwaitedReply]) -> None:
        """Send commands in one batch; each handler of `awaited` gets one reply or an error.

        Raises:
            BrokerError: the connection is lost.
        """
        if self._error is not None or self._transport is None:
            raise self._error or BrokerError(f"{self.name} is not connected")
        packed = b"".join([hiredis.pack_command(command) for command in commands])
        self._awaited.extend(awaited)
        self._transport.write(packed)

    async def call(self, *command: str | bytes) -> Any:
        """Send one command; return its reply.

        Raises:
            BrokerError: the server replied with an error, or the connection is lost.
        """
        return await self.call_for_push(None, *command)

    async def call_for_push(self, push: tuple[bytes, bytes] | None, *command: str | bytes) -> Any:
        """Send one command whose reply is a push; return that. Raises as `call` does."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def handle_reply(value: Any) -> None:
            if reply.done():
                return
            if isinstance(value, Exception):
                reply.set_exception(refusal(value))
            else:
                reply.set_result(value)

        self.send([command], [(push, handle_reply)])
        return await reply

    def close(self) -> None:
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._reader.feed(data)
        try:
            while (value := self._reader.gets()) is not _NOTHING:
                self._dispatch(value)
        except hiredis.ProtocolError as error:
            self._fail(BrokerError(f"{self.name} does not speak the Redis protocol: {error}"))
            self.close()

    def _dispatch(self, value: Any) -> None:
        awaited = self._awaited
        if type(value) is hiredis.PushNotification:
            if awaited and awaited[0][0] == (value[0], value[1]):
                awaited.popleft()[1](value)
            else:
                self.on_push(value)
        elif awaited:
            awaited.popleft()[1](value)
        else:
            raise hiredis.ProtocolError("a reply to no command")

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        reason = f": {exc}" if exc is not None else ""
        self._fail(BrokerError(f"{self.name} closed the connection{reason}"))

    def _fail(self, error: BrokerError) -> None:
        if self._error is None:
            self._error = error
            self.on_lost(error)
            while self._awaited:
                self._awaited.popleft()[1](error)


async def connect(host: str, port: int, account: RedisAccount) -> RedisConnection:
    """Open a connection, authenticate, and switch to RESP3.

    Raises:
        BrokerError: the server is unreachable or refuses.
    """
    name = host_port(host, port)
    connection = RedisConnection(name)
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: connection, host, port, ssl=account.tls
        )
    except OSError as error:  # ssl.SSLError is one.
        raise BrokerError(f"Cannot connect to {name}: {_reason(error)}") from error
    hello = ["HELLO", "3"]
    if account.password is not None:
        hello += ["AUTH", account.username or "default", account.password]
    try:
        info = await connection.call(*hello, "SETNAME", "socketcluster")
        connection.client_id = str(info[b"id"])
        connection.client_address = await _own_address(connection)
    except BrokerError as error:
        connection.close()
        if str(error).startswith(("NOPROTO", "ERR unknown command")):
            raise BrokerError(f"{name} is too old: Redis 6 or newer is needed") from error
        raise BrokerError(f"{name} refused: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _reason(error: OSError) -> str:
    number = error.errno
    if isinstance(error, ssl.SSLError) or number is None or number <= 0:
        return error.strerror or str(error)
    return os.strerror(number)  # asyncio's own text repeats the address.


async def _own_address(connection: RedisConnection) -> str:
    """Return this connection's address as the server sees it; "" if the server does not say."""
    try:
        info: bytes = await connection.call("CLIENT", "INFO")
    except BrokerError:
        return ""  # Before Redis 6.2, or not allowed.
    for part in info.decode().split():
        name, _, value = part.partition("=")
        if name == "addr":
            return value
    return ""


def refusal(error: Exception) -> BrokerError:
    """Return a server's error reply as a `BrokerError`."""
    if isinstance(error, BrokerError):
        return error
    text = str(error)
    if any(part in text for part in _NO_PERMISSION):
        text += f" ({ACL_HINT})"
    refused = BrokerError(text)
    refused.__cause__ = error
    return refused
