"""A backend that stores, with processes whose links lose, reorder, duplicate and delay."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from socketcluster.brokers.base import BrokerListener
from socketcluster.brokers.storing import Page, Position, Retention, StoredMessage
from socketcluster.codecs.json import JSONCodec
from socketcluster.errors import BrokerError
from socketcluster.history.options import History
from socketcluster.protocol.envelopes import envelop_stored
from socketcluster.protocol.payloads import NumberedPayload, Payloads
from socketcluster.pubsub.exchange import AGExchange
from socketcluster.pubsub.fanout import Run
from socketcluster.pubsub.rule_table import RuleTable
from socketcluster.pubsub.rules import ChannelRule


class Stored:
    """The history of one channel; nothing in it expires."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.top = 0
        self.messages: list[StoredMessage] = []


class Backend:
    """Stores, and sends what is stored to all brokers.

    Attributes:
        step: how much offsets rise with each message.
        read: awaited before each read, so that a test can hold it back.
    """

    def __init__(self, step: int = 1) -> None:
        self.step = step
        self.channels: dict[str, Stored] = {}
        self.brokers: list[FakeBroker] = []
        self.epochs = 0
        self.read: Callable[[], Awaitable[Any]] | None = None
        self.reads: list[tuple[str, Position | None, int | None, bool]] = []

    def channel(self, name: str) -> Stored:
        if name not in self.channels:
            self.channels[name] = Stored(self.new_epoch())
        return self.channels[name]

    def new_epoch(self) -> str:
        self.epochs += 1
        return f"e{self.epochs}"

    def store(self, name: str, payload: bytes, size: int = 1000) -> bytes:
        """Store a message; return its envelope."""
        channel = self.channel(name)
        message = StoredMessage(channel.top + self.step, channel.top, payload)
        channel.top = message.offset
        channel.messages.append(message)
        del channel.messages[:-size]
        return envelop_stored(channel.epoch, *message)

    def send(self, name: str, message: bytes) -> None:
        for broker in self.brokers:
            broker.sent(name, message)

    def page(self, name: str, since: Position | None, limit: int | None, reverse: bool) -> Page:
        channel = self.channel(name)
        messages, complete = list(channel.messages), since is None
        if since is not None:
            if reverse:
                messages = [each for each in messages if each.offset <= since.offset]
            else:
                messages = [each for each in messages if each.offset > since.offset]
            complete = since.epoch == channel.epoch and (
                not messages or messages[0].previous <= since.offset or reverse
            )
            complete = complete and (bool(messages) or since.offset >= channel.top)
        if reverse:
            messages.reverse()
        return Page(messages[:limit], Position(channel.epoch, channel.top), complete)


class FakeBroker:
    """The broker of one process.

    Attributes:
        delays: whether messages wait in `wire` for `deliver`.
        wire: messages on their way to this process.
    """

    def __init__(self, backend: Backend, *, delays: bool = False) -> None:
        self.backend = backend
        self.delays = delays
        self.ready = True
        self.refusal: BrokerError | None = None
        self.wire: deque[tuple[str, bytes]] = deque()
        self.channels: set[str] = set()
        self.ids: set[str] = set()
        self.listener: BrokerListener
        backend.brokers.append(self)

    def attach(self, listener: BrokerListener) -> None:
        self.listener = listener

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def check(self) -> None:
        pass

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        self.channels.add(channel)
        return asyncio.sleep(0) if self.ready else None

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        self.channels.discard(channel)
        return asyncio.sleep(0)

    def publish(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        self.backend.send(channel, payload)
        return asyncio.sleep(0)

    def publish_stored(
        self, channel: str, payload: bytes, retention: Retention, id: str | None = None
    ) -> Awaitable[None] | None:
        self._check()
        if id is None or id not in self.ids:
            self.ids.update([id] if id else [])
            self.backend.send(channel, self.backend.store(channel, payload, retention.size))
        return asyncio.sleep(0)

    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        await asyncio.sleep(0)
        self._check()
        self.backend.reads.append((channel, since, limit, reverse))
        if self.backend.read is not None:
            await self.backend.read()
        page = self.backend.page(channel, since, limit, reverse)
        await asyncio.sleep(0)
        self._check()
        return page

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        await asyncio.sleep(0)
        self._check()
        stored = self.backend.channel(channel)
        if stored.epoch == seen.epoch and stored.top < seen.offset:
            stored.epoch = self.backend.new_epoch()
        return Position(stored.epoch, stored.top)

    def _check(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        if not self.ready:
            raise BrokerError("away")

    # What happens to the link

    def sent(self, channel: str, message: bytes) -> None:
        if self.ready and channel in self.channels:
            self.wire.append((channel, message))
            if not self.delays:
                self.deliver()

    def deliver(self, count: int | None = None) -> None:
        """Deliver messages that are on their way, or the first ones of them."""
        for _ in range(len(self.wire) if count is None else min(count, len(self.wire))):
            self.listener.backend_message_received(*self.wire.popleft())

    def lose_link(self) -> None:
        self.wire.clear()
        if self.ready:
            self.ready = False
            self.listener.backend_lost(BrokerError("lost"), self.channels, "there")

    def open_link(self) -> None:
        if not self.ready:
            self.ready = True
            self.listener.backend_recovered(1500.0, BrokerError("lost"), self.channels, "there")


class Socket:
    """A subscriber that keeps the offsets and the data that it received."""

    def __init__(self) -> None:
        self.received: list[tuple[int | None, bytes]] = []

    def publish(self, run: Run, at_end_of_turn: bool) -> None:
        for payload in run.payloads:
            offset = payload.offset if isinstance(payload, NumberedPayload) else None
            self.received.append((offset, bytes(payload)))

    @property
    def offsets(self) -> list[int | None]:
        return [offset for offset, _ in self.received]

    @property
    def data(self) -> list[bytes]:
        return [payload for _, payload in self.received]

    @property
    def failed(self) -> Callable[[Exception], None]:
        raise AssertionError


class Process:
    """An exchange over a `FakeBroker`, and the errors that it reported."""

    def __init__(
        self,
        backend: Backend,
        history: History | None = None,
        *,
        delays: bool = False,
        max_frame: int = 1 << 22,
    ) -> None:
        self.errors: list[tuple[str, str, str | None]] = []
        self.broker = FakeBroker(backend, delays=delays)
        history = history or History(size=1000, ttl=300)
        self.exchange = AGExchange(
            self.broker,
            Payloads(JSONCodec(), lambda channel: False),
            self.failed,
            max_frame=max_frame,
            rules=RuleTable([ChannelRule(name, history=history) for name in ("c", "cc")]),
        )

    def failed(
        self, error: BaseException, action: str = "background", channel: str | None = None
    ) -> None:
        self.errors.append((action, str(error), channel))

    async def subscribed(self, channel: str = "c") -> Socket:
        """A socket that is subscribed."""
        socket = Socket()
        pending: Any = self.exchange.subscribe_socket(socket, channel)
        if pending is not None:
            await pending
        return socket

    def position(self, channel: str = "c") -> Position | None:
        stored = self.exchange.stored_channel(channel)
        assert stored is not None
        return stored.position
