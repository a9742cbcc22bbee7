"""ZeroMQ between the processes of one machine: nothing to install or to run beside them.

`Proxy` is the backend; the supervisor of the workers owns it. `ipc:///path` names two sockets:
publishers connect to `/path.in` and subscribers to `/path.out`.

The wire: one part per message: the length of the channel's name (two bytes, big-endian), the name
as UTF-8, 12 bytes that name the process and the link of the sender, and each payload after its
length (four bytes). ZeroMQ matches prefixes; the length in front makes them whole names.

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
from socketcluster.brokers.address import BrokerAddress, wrong
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.brokers.senders import Senders
from socketcluster.errors import BrokerError

logger = logging.getLogger("socketcluster.brokers")

ASK_AGAIN_SECONDS = 0.002
RECEIVED_AT_ONCE = 500
"""Messages after which others get their turn."""

WAITING_MESSAGES = 100_000
"""What the proxy keeps for a process that does not read; the rest of its messages is dropped."""

STANDSTILL_SECONDS = 5.0
TAKE_OVER_SECONDS = 0.2
LONGEST_PATH = 100
ID_BYTES = 12


class ZeroMQLink:
    """A `Link` over a publishing and a subscribing socket.

    ZeroMQ confirms nothing. A mark that follows publishes through the proxy, and comes back,
    shows that it has taken them; a fence on a topic of its own shows the same for subscriptions.
    """

    def __init__(self, session: LinkListener, path: str, prefix: str, senders: Senders) -> None:
        self._session = session
        self._prefix = prefix
        self._senders = senders
        process = bytes.fromhex(senders.process)
        self._id = process + senders.new_link(process).to_bytes(4, "big")
        self._mark = topic_of(f"$mark.{self._id.hex()}")
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
            # What may wait is bounded by the broker, which does not lose it silently; and what a
            # lost connection did not deliver must not go unnoticed.
            socket.setsockopt(zmq.SNDHWM, 0)
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self._monitor = self._in.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        self._out.connect(f"ipc://{path}.in")
        self._in.connect(f"ipc://{path}.out")
        self._in.setsockopt(zmq.SUBSCRIBE, self._mark)
        self._fds = (self._in.fileno(), self._monitor.fileno())
        self._loop.add_reader(self._fds[0], self._receive)
        self._loop.add_reader(self._fds[1], self._disconnected)
        self._loop.call_soon(self._disconnected)

    def _disconnected(self) -> None:
        if not self._closed and self._monitor.poll(0):
            self._session.lost(BrokerError("Nobody runs the proxy there"))

    async def fence(self) -> None:
        """Wait until the proxy has taken all that was subscribed to before."""
        topic = topic_of(f"$fence.{secrets.token_hex(12)}")
        seen = self._fences[topic] = asyncio.Event()
        try:
            self._in.setsockopt(zmq.SUBSCRIBE, topic)
            while not seen.is_set():
                self._out.send(topic + self._id)
                self._receive()  # The use of a socket may have taken its wake-up.
                try:
                    async with asyncio.timeout(ASK_AGAIN_SECONDS):
                        await seen.wait()
                except TimeoutError:
                    continue
        finally:
            del self._fences[topic]
            if not self._closed:
                self._in.setsockopt(zmq.UNSUBSCRIBE, topic)

    def _receive(self) -> None:
        for _ in range(RECEIVED_AT_ONCE):
            if self._closed:
                return
            try:
                message = self._in.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(message)
        self._loop.call_soon(self._receive)

    def _take(self, message: bytes) -> None:
        start = 2 + int.from_bytes(message[:2], "big")
        topic, sender = message[:start], message[start : start + ID_BYTES]
        if topic == self._mark:
            self._session.taken(self._marked)
            self._marked.clear()
            if self._unmarked:
                self._send_mark()
        elif topic in self._fences:
            self._fences[topic].set()
        elif len(sender) < ID_BYTES:
            self._session.failed(BrokerError(f"A message of the wrong form on {topic!r}"))
        elif not self._senders.is_late(sender[:8], int.from_bytes(sender[8:], "big")):
            channel = topic[2:].decode("utf-8", "surrogateescape")[len(self._prefix) :]
            start += ID_BYTES
            while start < len(message):
                end = start + 4 + int.from_bytes(message[start : start + 4], "big")
                self._session.message(channel, message[start + 4 : end])
                start = end

    def _send_mark(self) -> None:
        self._marked, self._unmarked = self._unmarked, self._marked
        self._out.send(self._mark + self._id)

    def _topic(self, channel: str) -> bytes:
        return topic_of(self._prefix + channel)

    def publish(self, publishes: Sequence[Publish]) -> None:
        """See `Link`."""
        # Those of one channel in one message: they are delivered in one go too.
        for channel, items in groupby(publishes, attrgetter("channel")):
            parts = [self._topic(channel), self._id]
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
        """The proxy drops silently what a process that stands still for long does not read."""
        now = self._loop.time()
        still, self._checked_at = now - self._checked_at, now
        if still > STANDSTILL_SECONDS:
            raise BrokerError(f"This process stood still for {still:.0f} s")

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
    """What a message on a channel begins with, and no message on another does."""
    encoded = name.encode("utf-8", "surrogateescape")
    return len(encoded).to_bytes(2, "big") + encoded


class ZeroMQConnector:
    """Opens links to the proxy at a path."""

    def __init__(self, path: str, prefix: str) -> None:
        self.name = f"ipc://{path}"
        self._path = path
        self._prefix = f"{prefix}:" if prefix else ""
        self._senders = Senders()

    async def connect(self, session: LinkListener) -> Link:
        """See `Connector`."""
        try:
            return ZeroMQLink(session, self._path, self._prefix, self._senders)
        except zmq.ZMQError as error:
            raise BrokerError(f"Cannot connect: {error}") from error


class Proxy:
    """The backend: passes on what publishers send to those who want it, in a thread of its own.

    Its sockets and its lock file are for this user alone, whatever the umask. Of several on one
    path one runs; another takes over when it ends.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stopped = threading.Event()
        self._running = threading.Event()
        self._lock: IO[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="zeromq-proxy", daemon=True)

    def start(self) -> None:
        """Bind, unless another proxy runs there already, in whose place this one waits.

        Raises:
            BrokerError: the lock file is a symbolic link, which it is not followed through.
            OSError: the sockets cannot be made there.
        """
        try:
            self._lock = _open_lock(f"{self._path}.lock")
            if self._locked():
                self._bind()
        except BaseException:
            self._context.term()
            raise
        self._thread.start()

    def _locked(self) -> bool:
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
                socket.setsockopt(zmq.RCVHWM, WAITING_MESSAGES)
                socket.setsockopt(zmq.SNDHWM, WAITING_MESSAGES)
                _bind_private(socket, f"ipc://{self._path}.{end}")
        except zmq.ZMQError as error:
            self._publishers.close()
            self._subscribers.close()
            raise OSError(error.errno, f"Cannot use {self._path!r}: {error.strerror}") from error
        # Publishers send everything: what nobody wants ends here, and what somebody has just
        # begun to want is not held back by a publisher that does not know yet.
        self._publishers.send(b"\x01")
        self._running.set()

    def _run(self) -> None:
        while not self._running.is_set():
            if self._stopped.wait(TAKE_OVER_SECONDS):
                return
            if self._locked():
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
        """End it, and wait for that."""
        self._stopped.set()
        self._context.term()
        self._thread.join()
        if self._lock is not None:
            self._lock.close()


def _open_lock(path: str) -> IO[bytes]:
    """A file to lock, for this user alone. It is not opened through a symbolic link: somebody who
    can write to its folder could have another file of this user opened."""
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
    # The mask is there when the socket is made: it has no other mode for a moment.
    mask = os.umask(0o177)
    try:
        socket.bind(address)
    finally:
        os.umask(mask)


def path_of(address: BrokerAddress) -> str:
    """The path of an `ipc://` URL.

    Raises:
        InvalidOptionsError: it names none, or a longer one than sockets can have.
    """
    if address.hosts or not address.path:
        raise wrong("an ipc URL names an absolute path: ipc:///run/app/broker")
    path = f"/{address.path}"
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise wrong(f"the path of an ipc URL has at most {LONGEST_PATH} bytes: {path!r}")
    return path


def create(address: BrokerAddress) -> RemoteBroker:
    """The broker of `ipc:///path`; a `Proxy` has to run there.

    Raises:
        InvalidOptionsError: a part of the URL is wrong.
    """
    address.only()
    return RemoteBroker(ZeroMQConnector(path_of(address), address.options.prefix), address.options)
