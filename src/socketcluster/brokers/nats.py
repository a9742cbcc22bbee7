"""NATS as the backend.

The wire: `PUB <prefix>.<channel> <payload>`, the payload being JSON text (or what the codec
makes). In a subject, `subject_of` escapes what NATS does not allow there. The reply subject of a
publish names process and link that sent it; nobody answers there, and foreign publishes need none.

Source: NATS documentation, "Client protocol", "Subject-based messaging"; nats-py.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import nats.aio.client
import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from socketcluster.brokers.adapter import Link, LinkListener, Publish
from socketcluster.brokers.address import TLS_PARAMETERS, BrokerAddress, host_port, wrong
from socketcluster.brokers.nats_parser import MessageParser, Receiver, answered
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.brokers.senders import Senders
from socketcluster.errors import BrokerError

PORT = 4222
CLOSE_SECONDS = 0.5
NEVER = 10**9
"""Seconds between nats-py's own pings: the heartbeats are ours."""

_UNSAFE = re.compile(r"[\x00-\x20\x7f*>%]|^\.|\.$|\.(?=\.)|(?<=\.)\.")
_VIOLATION = re.compile(r"(?i)permissions violation for (publish|subscription) to \"([^\"]*)\"")


def subject_of(channel: str) -> str:
    """A channel as a subject: white space, `*`, `>`, `%`, and dots that would leave an empty
    token, are percent-encoded as UTF-8."""
    return _UNSAFE.sub(lambda found: f"%{ord(found.group()):02X}", channel) or "%"


class NatsLink:
    """A `Link` over one client of nats-py that does not reconnect by itself."""

    def __init__(self, session: LinkListener, prefix: str, senders: Senders) -> None:
        self.client = Client()
        self._receivers = MessageParser.of(self.client).receivers
        self._session = session
        self._prefix = prefix
        self._senders = senders
        marker = f"{prefix}$link."
        self._marker = marker.encode()
        self._reply = f"{marker}{senders.process}.{senders.new_link(senders.process)}"
        self._last_reply = b""
        self._subscriptions: dict[str, Subscription] = {}
        self._outgoing: asyncio.Queue[Sequence[Publish]] = asyncio.Queue()
        self._refused_publishes: dict[str, deque[BrokerError]] = defaultdict(deque)
        self._refused_subscriptions: dict[str, BrokerError] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._send())

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What nats-py reports

    async def on_error(self, error: Exception) -> None:
        """`error_cb`: what belongs to no call."""
        found = _VIOLATION.search(str(error))
        if found is not None and found.group(1).lower() == "publish":
            self._refused_publishes[found.group(2)].append(_translated(error))
        elif found is not None:
            self._refused_subscriptions[found.group(2)] = _translated(error)
        elif not isinstance(error, nats.errors.StaleConnectionError | OSError | EOFError):
            self._session.failed(_translated(error))

    async def on_lost(self) -> None:
        """`disconnected_cb` and `closed_cb`."""
        error = self.client.last_error
        reason = f": {error}" if error is not None and str(error) else ""
        self._session.lost(BrokerError(f"The server closed the connection{reason}"))

    # What the broker asks for

    def publish(self, publishes: Sequence[Publish]) -> None:
        """See `Link`."""
        self._outgoing.put_nowait(publishes)

    async def _send(self) -> None:
        while True:
            publishes = await self._outgoing.get()
            sent: list[tuple[Publish, str]] = []
            for item in publishes:
                subject = self._prefix + subject_of(item.channel)
                try:
                    await self.client.publish(subject, item.payload, reply=self._reply)
                    sent.append((item, subject))
                except (nats.errors.Error, ValueError) as error:
                    self._session.refused(item, _translated(error))
            self._spawn(self._confirm(sent))

    async def _confirm(self, sent: list[tuple[Publish, str]]) -> None:
        """A pong follows what the server has taken, and what it had to say about it."""
        try:
            await answered(self.client, NEVER)
        except nats.errors.Error as error:
            self._session.lost(_translated(error))
            return
        if not self._refused_publishes:
            self._session.taken([item for item, _ in sent])
            return
        for item, subject in sent:  # The server refuses each by itself, in order.
            if refusals := self._refused_publishes.get(subject):
                self._session.refused(item, refusals.popleft())
                if not refusals:
                    del self._refused_publishes[subject]
            else:
                self._session.taken([item])

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, BrokerError]:
        """See `Link`."""
        subjects = {channel: self._prefix + subject_of(channel) for channel in channels}
        try:
            for channel, subject in subjects.items():
                if channel not in self._subscriptions:
                    self._receivers[subject.encode()] = self._receiver(channel)
                    self._subscriptions[channel] = await self.client.subscribe(subject)
            await answered(self.client, NEVER)
        except nats.errors.Error as error:
            raise _translated(error) from error
        refused: dict[str, BrokerError] = {}
        for channel, subject in subjects.items():
            if (violation := self._refused_subscriptions.pop(subject, None)) is not None:
                refused[channel] = violation
                del self._subscriptions[channel], self._receivers[subject.encode()]
        return refused

    def _receiver(self, channel: str) -> Receiver:
        def receive(reply: bytes, payload: bytes) -> None:
            if reply != self._last_reply:
                if self._is_late(reply):
                    return
                self._last_reply = reply
            try:
                self._session.message(channel, payload)
            except Exception as error:
                self._session.failed(_translated(error))

        return receive

    def _is_late(self, reply: bytes) -> bool:
        if not reply.startswith(self._marker):
            return False  # Published by something else.
        process, _, link = reply.decode().removeprefix(self._marker.decode()).partition(".")
        return link.isdecimal() and self._senders.is_late(process, int(link))

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """See `Link`."""
        try:
            for channel in channels:
                subscription = self._subscriptions.pop(channel, None)
                if subscription is not None:
                    del self._receivers[(self._prefix + subject_of(channel)).encode()]
                    await subscription.unsubscribe()
            await answered(self.client, NEVER)
        except nats.errors.Error as error:
            raise _translated(error) from error

    async def check(self) -> None:
        """NATS drops no subscription by itself: it closes the connection."""

    async def close(self) -> None:
        """See `Link`."""
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):  # It waits for a peer that may be silent.
                await self.client.close()


class NatsConnector:
    """Opens links to the first server that answers."""

    def __init__(self, address: BrokerAddress) -> None:
        self.name = address.where(PORT)
        self._address = address
        self._prefix = f"{address.options.prefix}." if address.options.prefix else ""
        self._senders = Senders()
        self._tls = None
        if address.scheme == "tls" or any(name in address.query for name in TLS_PARAMETERS):
            self._tls = address.tls()

    async def connect(self, session: LinkListener) -> Link:
        """See `Connector`."""
        address = self._address
        scheme = "nats" if self._tls is None else "tls"
        servers = [f"{scheme}://{host_port(h, p or PORT)}" for h, p in address.hosts]
        link = NatsLink(session, self._prefix, self._senders)
        account: dict[str, Any] = {}
        if address.password is not None:
            account = {"user": address.username or "", "password": address.password}
        elif address.username is not None:
            account = {"token": address.username}
        if "creds" in address.query:
            account["user_credentials"] = address.query["creds"]
        if "nkey" in address.query:
            account["nkeys_seed"] = address.query["nkey"]
        try:
            await link.client.connect(
                servers,
                name="socketcluster",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=max(1, int(address.options.heartbeat_timeout)),
                ping_interval=NEVER,
                tls=self._tls,
                error_cb=link.on_error,
                disconnected_cb=link.on_lost,
                closed_cb=link.on_lost,
                **account,
            )
        except BaseException as error:
            await link.close()
            if isinstance(error, nats.errors.Error | OSError | ValueError | TimeoutError):
                raise BrokerError(f"Cannot connect: {_text(error)}") from error
            raise
        return link


def _text(error: BaseException) -> str:
    return str(error).removeprefix("nats: ") or type(error).__name__


def _translated(error: Exception) -> BrokerError:
    translated = BrokerError(_text(error))
    translated.__cause__ = error
    return translated


def create(address: BrokerAddress) -> RemoteBroker:
    """The broker of `nats://user:password@host:port,host:port`; `tls://` likewise.

    A user without a password is a token. Parameters: `creds`, the path of a credentials file,
    `nkey`, that of a seed, and those of TLS.

    Raises:
        InvalidOptionsError: a part of the URL is wrong.
    """
    address.only(*TLS_PARAMETERS, "creds", "nkey")
    if not address.hosts:
        raise wrong(f"a {address.scheme}:// URL names at least one host")
    return RemoteBroker(NatsConnector(address), address.options)
