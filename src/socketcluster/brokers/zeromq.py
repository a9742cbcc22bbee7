"""The ZeroMQ adapter: connects processes of one machine, without a server to install.

The workers' supervisor runs the `Proxy`. `ipc:///path` names its socket, `/path.sock`, to which
each process has one link. The proxy knows the subscriptions of each link. `zeromq_wire` has the
messages.

Each side acknowledges what it took. The proxy sends a process at most a window of bytes ahead, and
keeps the rest, up to `max_buffered`. A process sends at most `max_buffered` bytes ahead.

Source: ZeroMQ RFC 28 (request-reply: ROUTER, DEALER); pyzmq.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from operator import attrgetter

import zmq

from socketcluster.brokers.adapter import Link, LinkListener, Publish, StoredPublish
from socketcluster.brokers.address import BrokerAddress, size_of, url_error
from socketcluster.brokers.epochs import LinkEpochs
from socketcluster.brokers.memory_store import HISTORY_MEMORY
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.brokers.storing import Page, Position, Retention
from socketcluster.brokers.zeromq_proxy import Proxy
from socketcluster.brokers.zeromq_store import Requests, store_records
from socketcluster.brokers.zeromq_wire import (
    BATCH_BYTES,
    CUT,
    MAX_TOPIC_BYTES,
    PUBLISH,
    SUBSCRIBE,
    UNSUBSCRIBE,
    WINDOW_BYTES,
    Flow,
    LinkError,
    body_of,
    identity_of,
    parts_of,
    payloads_in,
    record_of,
    records_in,
)
from socketcluster.errors import BrokerError

MAX_RECEIVES_PER_TURN = 16
"""How many messages, each a batch, to receive before other callbacks of the loop run."""

MAX_PATH_BYTES = 100
"""Unix socket paths have at most 107 bytes, suffix included."""

MIN_BUFFERED_BYTES = 1024 * 1024

_NOBLOCK, _POLLIN = int(zmq.NOBLOCK), int(zmq.POLLIN)
"""Plain integers: an operation of zmq's own takes a microsecond, as much as a system call."""


class ZeroMQLink:
    """A `Link` over a DEALER socket.

    The proxy acknowledges messages by their numbers, once it has passed them on. A number that is
    missing, in either direction, ends the link, so that the gap is reported.
    """

    def __init__(self, listener: LinkListener, path: str, prefix: str, identity: bytes) -> None:
        self._listener = listener
        self._prefix = prefix
        self._flow = Flow()
        self._waiting: deque[tuple[int, Callable[[], object]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._requests = Requests(self._send_request)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, identity)
        self._socket.setsockopt(zmq.LINGER, 0)
        # ZeroMQ counts messages. The window bounds the bytes to receive, the broker those to send.
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        # No reconnecting, which would hide what a lost connection dropped.
        self._socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        self._socket.connect(f"ipc://{path}.sock")
        self._fds = (self._socket.fileno(), self._monitor.fileno())
        self._loop.add_reader(self._fds[0], self._receive)
        self._loop.add_reader(self._fds[1], self._check_connection)
        self._loop.call_soon(self._check_connection)

    def _check_connection(self) -> None:
        if not self._closed and self._monitor.poll(0):
            self._receive()  # It may have the reason.
            self._listener.link_lost(BrokerError("Nobody runs the proxy there"))

    def _receive(self) -> None:
        for _ in range(MAX_RECEIVES_PER_TURN):
            if self._closed:
                return
            try:
                message = self._socket.recv(_NOBLOCK)
            except zmq.Again:
                return
            try:
                self._take(message)
            except LinkError as fault:
                self._listener.link_lost(BrokerError(str(fault)))
                return
            # Asking costs less than the exception of an empty queue.
            if self._closed or not self._has_messages():
                return
        self._loop.call_soon(self._receive)

    def _has_messages(self) -> bool:
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & _POLLIN)

    def _take(self, message: bytes) -> None:
        self._flow.take(message)
        for kind, topic, _, start, end in records_in(message):
            if kind != PUBLISH:
                if kind == CUT:
                    raise LinkError(message[start:end].decode("utf-8", "replace"))
                self._requests.answered(message, start, end)
                continue
            channel = topic.decode("utf-8", "surrogateescape")[len(self._prefix) :]
            try:
                for payload in payloads_in(message, start, end):
                    self._listener.message_received(channel, payload)
            except LinkError as fault:
                self._listener.link_failed(BrokerError(f"{fault}, on the channel {channel!r}"))
        while self._waiting and self._waiting[0][0] <= self._flow.acknowledged:
            self._waiting.popleft()[1]()
        if self._flow.unacknowledged >= WINDOW_BYTES // 4 and not self._closed:
            try:
                self._socket.send(self._flow.acknowledgment(), _NOBLOCK)
            except zmq.ZMQError as error:
                raise LinkError(f"Cannot send to the proxy: {error}") from error

    def _send(self, records: Iterable[bytes], then: Callable[[], object]) -> None:
        """Send records in order; `then` is called when the proxy has handled them."""
        batch: list[bytes] = []
        size = 0
        for record in records:
            if batch and size + len(record) > BATCH_BYTES:
                self._socket.send(self._flow.pack(batch), _NOBLOCK)
                batch, size = [], 0
            batch.append(record)
            size += len(record)
        self._socket.send(self._flow.pack(batch), _NOBLOCK)
        self._waiting.append((self._flow.sent, then))
        # ZeroMQ signals its fd once for all events: sending may have consumed the signal for
        # received messages.
        if self._has_messages():
            self._loop.call_soon(self._receive)

    def _topic(self, channel: str) -> bytes:
        return (self._prefix + channel).encode("utf-8", "surrogateescape")

    def publish(self, publishes: Sequence[Publish]) -> None:
        """See `Link`."""
        self._send(self._records(publishes), partial(self._listener.publishes_confirmed, publishes))

    def _records(self, publishes: Sequence[Publish]) -> Iterator[bytes]:
        # Consecutive publishes to one channel share a record, so that the proxy passes it on at
        # once, and its receiver handles them in one batch.
        for channel, items in groupby(publishes, attrgetter("channel")):
            topic = self._topic(channel)
            if len(topic) > MAX_TOPIC_BYTES:
                for item in items:
                    self._listener.publish_refused(item, _too_long(topic))
                continue
            payloads = [item.payload for item in items]
            for part in parts_of(payloads, BATCH_BYTES):
                yield record_of(PUBLISH, topic, body_of(part))

    def publish_stored(self, publishes: Sequence[StoredPublish]) -> None:
        """See `StoringLink`."""
        then = partial(self._listener.publishes_confirmed, publishes)
        self._send(self._store_records(publishes), then)

    def _store_records(self, publishes: Sequence[StoredPublish]) -> Iterator[bytes]:
        channels: dict[str, list[StoredPublish]] = {}
        for publish in publishes:
            channels.setdefault(publish.channel, []).append(publish)
        for channel, items in channels.items():
            topic = self._topic(channel)
            if len(topic) > MAX_TOPIC_BYTES:
                for item in items:
                    self._listener.publish_refused(item, _too_long(topic))
                continue
            yield from store_records(topic, items)

    def _send_request(self, record: bytes) -> None:
        try:
            if not self._closed:
                self._send([record], _nothing)
        except zmq.ZMQError as error:
            raise BrokerError(f"Cannot send to the proxy: {error}") from error

    def _stored_topic(self, channel: str) -> bytes:
        topic = self._topic(channel)
        if len(topic) > MAX_TOPIC_BYTES:
            raise _too_long(topic)
        return topic

    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None,
        limit: int | None,
        reverse: bool,
    ) -> Page:
        """See `StoringLink`."""
        topic = self._stored_topic(channel)
        return await self._requests.history(topic, retention, since, limit, reverse)

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        """See `StoringLink`."""
        return await self._requests.renew_epoch(self._stored_topic(channel), retention, seen)

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None:
        """See `StoringLink`."""
        kept = {self._topic(key): value for key, value in values.items()}
        await self._requests.keep(kept, seconds)

    async def take(self, key: str) -> bytes | None:
        """See `StoringLink`."""
        return await self._requests.take(self._topic(key))

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, BrokerError]:
        """See `Link`."""
        topics = {channel: self._topic(channel) for channel in channels}
        await self._change(SUBSCRIBE, topics.values())
        return {
            channel: _too_long(topic)
            for channel, topic in topics.items()
            if len(topic) > MAX_TOPIC_BYTES
        }

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """See `Link`."""
        await self._change(UNSUBSCRIBE, map(self._topic, channels))

    async def _change(self, kind: int, topics: Iterable[bytes]) -> None:
        known = asyncio.Event()
        fitting = [topic for topic in topics if len(topic) <= MAX_TOPIC_BYTES]
        self._send([record_of(kind, topic) for topic in fitting], known.set)
        await known.wait()

    async def check(self) -> None:
        """Return: the numbers of the messages tell each loss."""

    async def close(self) -> None:
        """See `Link`."""
        if not self._closed:
            self._closed = True
            for fd in self._fds:
                self._loop.remove_reader(fd)
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close()


def _nothing() -> None:
    pass


def _too_long(topic: bytes) -> BrokerError:
    return BrokerError(
        f"The channel's name has {len(topic)} bytes with the prefix; ZeroMQ's messages have room "
        f"for {MAX_TOPIC_BYTES}"
    )


class ZeroMQConnector:
    """Opens links to the proxy at a path. `prefix` includes its separator."""

    def __init__(self, path: str, prefix: str) -> None:
        self.name: str = f"ipc://{path}"
        self._path = path
        self._prefix = prefix
        self._epochs = LinkEpochs()
        self._process = bytes.fromhex(self._epochs.process)

    async def connect(self, listener: LinkListener) -> Link:
        """See `Connector`."""
        identity = identity_of(self._process, self._epochs.next(self._process))
        try:
            return ZeroMQLink(listener, self._path, self._prefix, identity)
        except zmq.ZMQError as error:
            raise BrokerError(f"Cannot connect: {error}") from error


def path_of(address: BrokerAddress) -> str:
    """Return the path of an `ipc://` URL.

    Raises:
        InvalidOptionsError: the URL has no path, or one that is too long for a socket.
    """
    if address.hosts or not address.path:
        raise url_error("an ipc URL names an absolute path: ipc:///run/app/broker")
    path = f"/{address.path}"
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise url_error(f"the path of an ipc URL has at most {MAX_PATH_BYTES} bytes: {path!r}")
    return path


def _checked(address: BrokerAddress) -> str:
    address.check_parameters("history_memory")
    if address.options.max_buffered < MIN_BUFFERED_BYTES:
        raise url_error("max_buffered of an ipc URL must be 1MiB or more")
    return path_of(address)


def _history_memory(address: BrokerAddress, default: int) -> int:
    text = address.query.get("history_memory")
    if text is None:
        return default
    with suppress(ValueError):
        size = size_of(text)
        if size > 0:
            return size
    raise url_error(f"the parameter history_memory must be a size like 64MiB, not {text!r}")


def create(address: BrokerAddress) -> RemoteBroker:
    """Make the broker of `ipc:///path`, where a `Proxy` must run.

    Raises:
        InvalidOptionsError: a part of the URL is wrong.
    """
    connector = ZeroMQConnector(_checked(address), address.name_prefix(":"))
    _history_memory(address, HISTORY_MEMORY)
    return RemoteBroker(connector, address.options)


def proxy_of(address: BrokerAddress, history_memory: int = HISTORY_MEMORY) -> Proxy:
    """Make the proxy of `ipc:///path`, with the URL's `max_buffered`. It does not run yet.

    Args:
        address: the URL.
        history_memory: how many bytes it stores, unless the URL says so.

    Raises:
        InvalidOptionsError: a part of the URL is wrong.
    """
    memory = _history_memory(address, history_memory)
    return Proxy(_checked(address), address.options.max_buffered, memory)
