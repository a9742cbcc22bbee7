"""Messages between servers: sent, received, and the signs of life among them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from socketcluster.brokers.base import InternalBroker
from socketcluster.errors import BrokerError, InvalidArgumentsError
from socketcluster.nodes.table import Node, NodeTable
from socketcluster.nodes.wire import (
    MAX_NAME,
    MessageRejectedError,
    NodeMessage,
    NodeWire,
    encode_data,
)
from socketcluster.runtime.cancelling import cancel
from socketcluster.runtime.reporting import Reporter, one_line

ALIVE_SECONDS = 5.0
"""How often a node says that it is alive."""

NAME = "nodes"
"""The internal name that all messages use."""

ALIVE = "alive"
DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Message:
    """A message of another node.

    Attributes:
        type: what it is about.
        node: the id of the sender.
        data: decoded JSON. The sender has the key of the cluster; its version may differ.
    """

    type: str
    node: str
    data: Any


Handler = Callable[[Message], object]


class _Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The data of the types "alive" and "drain"."""

    host: Annotated[str, Meta(max_length=255)]
    pid: int
    parent: int
    since: float
    draining: bool = False


class NodeMessages:
    """Sends messages to the other servers of the application, and receives theirs.

    Guarantees: a message is from a process that has the key, at most `MAX_AGE_SECONDS` old, and
    received at most once, in the order of sending; a process that has just started may accept a
    message that was recorded before it started. A message may be lost: nothing is sent again.
    Clocks of nodes must agree within `MAX_AGE_SECONDS`.

    Args:
        internal: the broker for it.
        wire: signs and verifies.
        reporter: logs.
        report_fault: called with exceptions of handlers.

    Attributes:
        id: the id of this node, new at each start.
        sent, received: how many messages; received ones of other nodes that count.
        dropped: how many received messages were dropped, by the reason.
        failed: how many could not be sent.
        draining: whether this node is closing.
        siblings_leave: whether the processes with the same parent close, too.
        alive_fields: by name, functions whose results the signs of life of this node carry.
    """

    def __init__(
        self,
        internal: InternalBroker,
        wire: NodeWire,
        reporter: Reporter,
        report_fault: Callable[[BaseException], None],
    ) -> None:
        self.id: str = ""
        self.sent: int = 0
        self.received: int = 0
        self.failed: int = 0
        self.dropped: dict[str, int] = {}
        self.draining: bool = False
        self.siblings_leave: bool = False
        self.alive_fields: dict[str, Callable[[], Any]] = {}
        self._broker = internal.broker
        self._wire = wire
        self._reporter = reporter
        self._report_fault = report_fault
        self._table = NodeTable()
        self._handlers: dict[str, list[Handler]] = {}
        self._number = 0
        self._since = 0.0
        self._host = socket.gethostname()[:255]
        self._parent = os.getppid()  # It is another one after the parent has died.
        self._runner: asyncio.Task[None] | None = None
        self._decode_alive = msgspec.json.Decoder(_Alive).decode
        self._broker.attach(self)
        # Before the start: it takes effect with the first link.
        self._broker.subscribe(NAME)

    # The life of a node

    def start(self) -> None:
        """Begin with a new id, in the background: the backend may be away."""
        self.draining = False
        if self._runner is None:
            self.id = secrets.token_hex(16)
            self._number, self._since = 0, time.time()
            self._table.clear()
            self._runner = asyncio.ensure_future(self._run())

    async def run(self) -> None:
        """Take part until cancelled."""
        self.start()
        assert self._runner is not None
        try:
            await asyncio.wait([self._runner])
        finally:
            await self.close()

    async def _run(self) -> None:
        try:
            await self._broker.start()
        except BrokerError as error:  # The broker does not retry.
            self._report("away", f"Messages to other servers are off: {one_line(error)}")
            return
        while True:
            self.send_alive(ALIVE)
            await asyncio.sleep(ALIVE_SECONDS)
            self._table.expire(asyncio.get_running_loop().time(), time.time())

    def drain(self) -> None:
        """Tell the others that this node is closing, so that they expect its clients."""
        if self._runner is not None and not self.draining:
            self.draining = True
            self.send_alive(DRAIN)

    async def close(self) -> None:
        """Disconnect, once the backend accepted all messages or a few seconds have passed."""
        runner, self._runner = self._runner, None
        if runner is not None:
            cancel(runner)
            await asyncio.wait([runner])
            await self._broker.close()
            self._table.clear()

    @property
    def nodes(self) -> list[Node]:
        """The other nodes that are alive."""
        return list(self._table)

    @property
    def peers(self) -> list[Node]:
        """The other nodes that are alive, and do not close."""
        own = (self._host, self._parent) if self.siblings_leave else None
        return [n for n in self._table if not n.draining and (n.host, n.parent) != own]

    @property
    def has_peer(self) -> bool:
        """Whether another node is alive, and does not close."""
        leaving = (self._host, self._parent) if self.siblings_leave else None
        return self._table.has_peer(leaving)

    # Sending

    def send(
        self, type: str, data: Any = None, target: str | None = None
    ) -> Awaitable[None] | None:
        """Send a message to all other nodes, or to one; complete once the backend accepted it.

        Raises:
            BrokerError: the backend is away, or refused.
            InvalidArgumentsError: the data has no JSON form or is too long, or a name is wrong.
        """
        for name in (type, target):
            if name is not None and not 0 < len(name) <= MAX_NAME:
                raise InvalidArgumentsError(
                    f"The type and the target of a message have 1 to {MAX_NAME} characters, not "
                    f"{name[:MAX_NAME]!r}"
                )
        self._number += 1
        message = NodeMessage(
            type=type,
            node=self.id,
            number=self._number,
            time=time.time(),
            target=target,
            data=encode_data(data),
        )
        payload = self._wire.seal(message)
        try:
            accepted = self._broker.publish(NAME, payload)
        except BrokerError:
            self.failed += 1
            raise
        self.sent += 1
        return accepted

    def send_alive(self, type: str) -> None:
        """Send a sign of life. In an outage the next one follows; the broker logs the outage."""
        with contextlib.suppress(BrokerError):
            self.send(
                type,
                {
                    "host": self._host,
                    "pid": os.getpid(),
                    "parent": self._parent,
                    "since": self._since,
                    "draining": self.draining,
                    **{name: read() for name, read in self.alive_fields.items()},
                },
            )

    # Receiving

    def on(self, type: str, handler: Handler) -> None:
        """Call a plain function with each message of a type, in the order of sending."""
        self._handlers.setdefault(type, []).append(handler)

    def message_received(self, channel: str, payload: bytes) -> None:
        """See `BrokerListener`."""
        try:
            message = self._wire.open(payload)
            if message.node == self.id:
                return
            now = time.time()
            self._table.check(message, now)
            data = self._accept(message, now)
        except MessageRejectedError as error:
            self.dropped[error.kind] = self.dropped.get(error.kind, 0) + 1
            self._report(error.kind, f"A message between servers was dropped: {error}")
            return
        if message.target is None or message.target == self.id:
            for handler in self._handlers.get(message.type, ()):
                try:
                    handler(Message(message.type, message.node, data))
                except Exception as error:  # Others wait for it.
                    self._report_fault(error)

    backend_message_received = message_received

    def _accept(self, message: NodeMessage, now: float) -> Any:
        try:
            data = msgspec.json.decode(message.data)
            if message.type in (ALIVE, DRAIN):
                alive = self._decode_alive(message.data)
                is_new = self._table.add(
                    message.node, alive.host, alive.pid, alive.parent, alive.since
                )
                if is_new:  # It may have begun just now, and wait to know the others.
                    asyncio.get_running_loop().call_soon(self.send_alive, ALIVE)
                if alive.draining:
                    self._table.drains(message.node)
        except Exception as error:  # Of another version.
            raise MessageRejectedError("malformed", f"its data is wrong: {error}") from error
        self._table.seen(message.node, asyncio.get_running_loop().time(), now)
        self.received += 1
        return data

    # Reports of the broker

    def broker_failed(self, error: BaseException) -> None:
        """See `BrokerListener`."""
        self._report("failed", f"Messages between servers: {one_line(error)}")

    def backend_lost(
        self,
        error: BrokerError,
        channels: Collection[str] | None = None,
        server: str | None = None,
    ) -> None:
        """See `BrokerListener`. The broker has logged it."""

    def backend_recovered(
        self,
        duration: float,
        error: BrokerError,
        channels: Collection[str] | None = None,
        server: str | None = None,
    ) -> None:
        """See `BrokerListener`."""
        self.send_alive(ALIVE)

    def _report(self, kind: str, text: str) -> None:
        self._reporter.line(text, logging.WARNING, ("nodes", kind))
