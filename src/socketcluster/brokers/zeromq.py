"""The ZeroMQ adapter: connects processes of one machine, without a server to install.

The workers' supervisor runs the `Proxy`. `ipc:///path` names two sockets: publishers connect to
`/path.in`, subscribers to `/path.out`.

On the wire, a message has one part: the length of the channel's name (two bytes, big-endian), the
name as UTF-8, 12 bytes with the sender's process and link epoch, then each payload after its length
(four bytes). ZeroMQ matches prefixes of messages; the leading length restricts a match to whole
names.

Source: ZeroMQ RFC 29 (publish-subscribe), zmq_proxy(3); pyzmq.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import IO

import zmq

from socketcluster.brokers.adapter import Link, LinkListener, Publish
from socketcluster.brokers.address import BrokerAddress, url_error
from socketcluster.brokers.epochs import LinkEpochs
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.errors import BrokerError

logger: logging.Logger = logging.getLogger("socketcluster.brokers")

FENCE_RETRY_SECONDS = 0.002
"""How soon to send a fence again: one sent before its subscription is in place is dropped."""

MAX_RECEIVES_PER_TURN = 500
"""How many messages to receive before other callbacks of the loop run."""

PROXY_QUEUE_MESSAGES = 100_000
"""How many messages the proxy queues for a process that does not read; it drops further ones."""

MAX_STALL_SECONDS = 5.0
"""How long a process may go without a heartbeat before the proxy may have dropped messages."""

LOCK_RETRY_SECONDS = 0.2
"""How often a waiting proxy tries to take the lock."""

MAX_PATH_BYTES = 100
"""Unix socket paths have at most 107 bytes, suffix included."""

SENDER_BYTES = 12
"""Process (8 bytes) and link epoch (4 bytes) of a message's sender."""


class ZeroMQLink:
    """A `Link` over a publishing and a subscribing socket.

    ZeroMQ confirms nothing. A mark, sent after publishes, returns when the proxy has passed them
    on. A fence, sent on a topic of its own, returns when the proxy knows the subscriptions before
    it.
    """

    def __init__(self, listener: LinkListener, path: str, prefix: str, epochs: LinkEpochs) -> None:
        self._listener = listener
        self._prefix = prefix
        self._epochs = epochs
        process = bytes.fromhex(epochs.process)
        self._sender = process + epochs.next(process).to_bytes(4, "big")
        self._mark = topic_of(f"$mark.{self._sender.hex()}")
        self._marked: list[Publish] = []
        self._unmarked: list[Publish] = []
        self._fences: dict[bytes, asyncio.Event] = {}
        self._loop = asyncio.get_running_loop()
        self._checked_at = self._loop.time()
        self._closed = False
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._out: zmq.Socket[bytes] = context.socket(zmq.PUB)
        self._in: zmq.Socket[bytes] = context.socket(zmq.SUB)
        for socket in (self._out, self._in):
            socket.setsockopt(zmq.LINGER, 0)
            # No bounds here, where ZeroMQ would drop messages silently: the broker bounds the
            # publishes. No reconnecting either, which would hide what a lost connection dropped.
            socket.setsockopt(zmq.SNDHWM, 0)
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self._monitor = self._in.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        self._out.connect(f"ipc://{path}.in")
        self._in.connect(f"ipc://{path}.out")
        self._in.setsockopt(zmq.SUBSCRIBE, self._mark)
        self._fds = (self._in.fileno(), self._monitor.fileno())
        self._loop.add_reader(self._fds[0], self._receive)
        self._loop.add_reader(self._fds[1], self._check_connection)
        self._loop.call_soon(self._check_connection)

    def _check_connection(self) -> None:
        if not self._closed and self._monitor.poll(0):
            self._listener.link_lost(BrokerError("Nobody runs the proxy there"))

    async def fence(self) -> None:
        """Wait until all earlier subscriptions are in place at the proxy."""
        topic = topic_of(f"$fence.{secrets.token_hex(12)}")
        returned = self._fences[topic] = asyncio.Event()
        try:
            self._in.setsockopt(zmq.SUBSCRIBE, topic)
            while not returned.is_set():
                self._out.send(topic + self._sender)
                # ZeroMQ signals its fd once for all events: sending may have consumed the signal
                # for received messages.
                self._receive()
                try:
                    async with asyncio.timeout(FENCE_RETRY_SECONDS):
                        await returned.wait()
                except TimeoutError:
                    continue
        finally:
            del self._fences[topic]
            if not self._closed:
                self._in.setsockopt(zmq.UNSUBSCRIBE, topic)

    def _receive(self) -> None:
        for _ in range(MAX_RECEIVES_PER_TURN):
            if self._closed:
                return
            try:
                message = self._in.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._dispatch(message)
        self._loop.call_soon(self._receive)

    def _dispatch(self, message: bytes) -> None:
        start = 2 + int.from_bytes(message[:2], "big")
        topic, sender = message[:start], message[start : start + SENDER_BYTES]
        if topic == self._mark:
            self._listener.publishes_confirmed(self._marked)
            self._marked.clear()
            if self._unmarked:
                self._send_mark()
        elif topic in self._fences:
            self._fences[topic].set()
        elif len(sender) < SENDER_BYTES:
            self._listener.link_failed(BrokerError(f"A message of the wrong form on {topic!r}"))
        elif not self._epochs.is_stale(sender[:8], int.from_bytes(sender[8:], "big")):
            channel = topic[2:].decode("utf-8", "surrogateescape")[len(self._prefix) :]
            start += SENDER_BYTES
            while start < len(message):
                end = start + 4 + int.from_bytes(message[start : start + 4], "big")
                self._listener.message_received(channel, message[start + 4 : end])
                start = end

    def _send_mark(self) -> None:
        self._marked, self._unmarked = self._unmarked, self._marked
        self._out.send(self._mark + self._sender)

    def _topic(self, channel: str) -> bytes:
        return topic_of(self._prefix + channel)

    def publish(self, publishes: Sequence[Publish]) -> None:
        """See `Link`."""
        # Consecutive publishes to one channel share a message, so that its receiver, too, handles
        # them in one batch.
        for channel, items in groupby(publishes, attrgetter("channel")):
            parts = [self._topic(channel), self._sender]
            for item in items:
                parts += (len(item.payload).to_bytes(4, "big"), item.payload)
            self._out.send(b"".join(parts))
        self._unmarked.extend(publishes)
        if not self._marked:
            self._send_mark()

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, BrokerError]:
        """See `Link`."""
        for channel in channels:
            self._in.setsockopt(zmq.SUBSCRIBE, self._topic(channel))
        await self.fence()
        return {}

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """See `Link`."""
        for channel in channels:
            self._in.setsockopt(zmq.UNSUBSCRIBE, self._topic(channel))
        self._receive()

    async def check(self) -> None:
        """Raise if this process stalled so long that the proxy may have dropped its messages."""
        now = self._loop.time()
        stalled, self._checked_at = now - self._checked_at, now
        if stalled > MAX_STALL_SECONDS:
            raise BrokerError(f"This process stalled for {stalled:.0f} s")

    async def close(self) -> None:
        """See `Link`."""
        if not self._closed:
            self._closed = True
            for fd in self._fds:
                self._loop.remove_reader(fd)
            self._in.disable_monitor()
            self._monitor.close(0)
            self._in.close()
            self._out.close()


def topic_of(name: str) -> bytes:
    """Return the prefix that all messages on a channel have, and no others."""
    encoded = name.encode("utf-8", "surrogateescape")
    return len(encoded).to_bytes(2, "big") + encoded


class ZeroMQConnector:
    """Opens links to the proxy at a path."""

    def __init__(self, path: str, prefix: str) -> None:
        self.name: str = f"ipc://{path}"
        self._path = path
        self._prefix = f"{prefix}:" if prefix else ""
        self._epochs = LinkEpochs()

    async def connect(self, listener: LinkListener) -> Link:
        """See `Connector`."""
        try:
            return ZeroMQLink(listener, self._path, self._prefix, self._epochs)
        except zmq.ZMQError as error:
            raise BrokerError(f"Cannot connect: {error}") from error


class Proxy:
    """The backend: forwards messages from publishers to subscribers, in a thread of its own.

    Its sockets and its lock file are accessible to this user only, whatever the umask. Of several
    proxies on one path, one runs and the others wait; when it ends another takes over.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stopped = threading.Event()
        self._running = threading.Event()
        self._lock: IO[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="zeromq-proxy", daemon=True)

    def start(self) -> None:
        """Bind the sockets; if another proxy runs on the path, wait in the background to take over.

        Raises:
            BrokerError: the lock file is a symbolic link.
            OSError: the sockets cannot be created there.
        """
        try:
            self._lock = _open_lock(f"{self._path}.lock")
            if self._try_lock():
                self._bind()
        except BaseException:
            self._context.term()
            if self._lock is not None:
                self._lock.close()
            raise
        self._thread.start()

    def _try_lock(self) -> bool:
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _bind(self) -> None:
        self._publishers = self._context.socket(zmq.XSUB)
        self._subscribers = self._context.socket(zmq.XPUB)
        try:
            for socket, end in ((self._publishers, "in"), (self._subscribers, "out")):
                socket.setsockopt(zmq.LINGER, 0)
                socket.setsockopt(zmq.RCVHWM, PROXY_QUEUE_MESSAGES)
                socket.setsockopt(zmq.SNDHWM, PROXY_QUEUE_MESSAGES)
                _bind_private(socket, f"ipc://{self._path}.{end}")
        except zmq.ZMQError as error:
            self._publishers.close()
            self._subscribers.close()
            raise OSError(error.errno, f"Cannot use {self._path!r}: {error.strerror}") from error
        # Subscribe to everything, so that publishers send every message and the proxy filters. A
        # publisher would otherwise drop messages until it learned of a new subscription.
        self._publishers.send(b"\x01")
        self._running.set()

    def _run(self) -> None:
        while not self._running.is_set():
            if self._stopped.wait(LOCK_RETRY_SECONDS):
                return
            if self._try_lock():
                try:
                    self._bind()
                except OSError:
                    logger.exception("The ZeroMQ proxy cannot take over")
                    return
        try:
            zmq.proxy(self._publishers, self._subscribers)
        except zmq.ContextTerminated:
            self._publishers.close()
            self._subscribers.close()

    def stop(self) -> None:
        """Stop the proxy and wait for its thread."""
        self._stopped.set()
        self._context.term()
        self._thread.join()
        if self._lock is not None:
            self._lock.close()


def _open_lock(path: str) -> IO[bytes]:
    """Open a lock file that only this user can access.

    It does not follow a symbolic link: someone who can write to the folder could use one to have
    another of this user's files opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags, 0o600), "wb")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise BrokerError(
            f"{path} is a symbolic link, and the lock of a ZeroMQ proxy must be a file of its own. "
            "Remove the link, or use a folder that only this user can write to"
        ) from error


def _bind_private(socket: zmq.Socket[bytes], address: str) -> None:
    # With a umask rather than a later chmod, the socket is never accessible to others.
    mask = os.umask(0o177)
    try:
        socket.bind(address)
    finally:
        os.umask(mask)


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


def create(address: BrokerAddress) -> RemoteBroker:
    """Make the broker of `ipc:///path`, where a `Proxy` must run.

    Raises:
        InvalidOptionsError: a part of the URL is wrong.
    """
    address.check_parameters()
    return RemoteBroker(ZeroMQConnector(path_of(address), address.options.prefix), address.options)
