"""The NATS adapter: a `RemoteBroker` with NATS as the backend.

On the wire: `PUB <prefix>.<channel> <reply> <payload>`; the payload is JSON text, or the output of
another codec. `subject_of` escapes characters that NATS does not allow in subjects. The reply
subject names the process and the link epoch of the sender. No program replies to it, and publishes
of other programs need none.

Source: NATS documentation, "Client protocol", "Subject-based messaging"; nats-py.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from socketcluster.brokers.adapter import Link, LinkListener, Publish, StoredPublish
from socketcluster.brokers.address import (
    TLS_PARAMETERS,
    BrokerAddress,
    host_port,
    url_error,
)
from socketcluster.brokers.epochs import LinkEpochs
from socketcluster.brokers.nats_account import account_of
from socketcluster.brokers.nats_names import Names, subject_of
from socketcluster.brokers.nats_parser import MessageParser, Receiver, TlsClient, flush
from socketcluster.brokers.nats_store import NatsStore
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.brokers.storing import Page, Position, Retention
from socketcluster.errors import BrokerError, InvalidOptionsError

PORT = 4222
CLOSE_SECONDS = 0.5
DISABLED_SECONDS = 10**9
"""Turns off nats-py's own pings and timeouts: the session's heartbeats find a dead connection."""

_VIOLATION = re.compile(r"(?i)permissions violation for (publish|subscription) to \"([^\"]*)\"")


class NatsLink:
    """A `Link` over one client of nats-py, which does not reconnect by itself."""

    def __init__(
        self,
        listener: LinkListener,
        prefix: str,
        epochs: LinkEpochs,
        requires_tls: bool,
        names: Names,
        replicas: int,
    ) -> None:
        self.client: Client = TlsClient() if requires_tls else Client()
        self._parser = parser = MessageParser.of(self.client)
        self._receivers = parser.receivers
        self._channels: dict[bytes, str] = {}
        self._listener = listener
        self._prefix = prefix
        self._epochs = epochs
        marker = f"{prefix}$link."
        self._marker = marker.encode()
        link_name = f"{epochs.process}.{epochs.next(epochs.process)}"
        self._reply = f"{marker}{link_name}"
        self._last_reply = b""
        self._subscriptions: dict[str, Subscription] = {}
        self._outgoing: asyncio.Queue[Sequence[Publish]] = asyncio.Queue()
        self._refused_publishes: dict[str, deque[BrokerError]] = defaultdict(deque)
        self._refused_subscriptions: dict[str, BrokerError] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._send())
        self._names = names
        self.store: NatsStore = NatsStore(
            self.client,
            parser,
            names,
            link_name,
            replicas,
            listener,
            self._channels.get,
            self._spawn,
        )

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Callbacks of nats-py

    async def on_error(self, error: Exception) -> None:
        """Handle an error that nats-py raises in no call (`error_cb`)."""
        violation = _VIOLATION.search(self._parser.last_error)
        if violation is not None:
            self._parser.last_error = ""
            self._on_violation(violation[1], violation[2], _refusal(violation[0]))
        elif not isinstance(error, nats.errors.StaleConnectionError | OSError | EOFError):
            self._listener.link_failed(_translated(error))

    def _on_violation(self, action: str, subject: str, refusal: BrokerError) -> None:
        if action.lower() == "publish":
            if not self.store.requests.refused(subject, refusal):
                self._refused_publishes[subject].append(refusal)
        elif subject.startswith(self._names.replies):
            self.store.requests.close(refusal)
        else:
            self._refused_subscriptions[subject] = refusal

    async def on_lost(self) -> None:
        """Report the lost connection (`disconnected_cb` and `closed_cb`)."""
        error = self.client.last_error
        reason = f": {error}" if error is not None and str(error) else ""
        self._listener.link_lost(BrokerError(f"The server closed the connection{reason}"))

    # Requests of the session

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
                    self._listener.publish_refused(item, _translated(error))
            self._spawn(self._confirm(sent))

    async def _confirm(self, sent: list[tuple[Publish, str]]) -> None:
        """Wait for the server's PONG, which follows its errors about these publishes."""
        try:
            await flush(self.client, DISABLED_SECONDS)
        except nats.errors.Error as error:
            self._listener.link_lost(_translated(error))
            return
        if not self._refused_publishes:
            self._listener.publishes_confirmed([item for item, _ in sent])
            return
        for item, subject in sent:  # The server sends one violation per publish, in order.
            if refusals := self._refused_publishes.get(subject):
                self._listener.publish_refused(item, refusals.popleft())
                if not refusals:
                    del self._refused_publishes[subject]
            else:
                self._listener.publishes_confirmed([item])

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, BrokerError]:
        """See `Link`."""
        subjects = {channel: self._prefix + subject_of(channel) for channel in channels}
        try:
            for channel, subject in subjects.items():
                if channel not in self._subscriptions:
                    self._channels[subject.encode()] = channel
                    self._receivers[subject.encode()] = self._receiver(channel)
                    self._subscriptions[channel] = await self.client.subscribe(subject)
            await flush(self.client, DISABLED_SECONDS)
        except nats.errors.Error as error:
            raise _translated(error) from error
        refused: dict[str, BrokerError] = {}
        for channel, subject in subjects.items():
            if (refusal := self._refused_subscriptions.pop(subject, None)) is not None:
                refused[channel] = refusal
                del self._subscriptions[channel]
                self._drop(subject.encode())
        return refused

    def _drop(self, subject: bytes) -> None:
        del self._receivers[subject], self._channels[subject]
        self.store.forget(subject)

    def _receiver(self, channel: str) -> Receiver:
        def receive(reply: bytes, payload: bytes) -> None:
            # Most messages have the sender of the one before: comparing it saves 2 µs of parsing.
            if reply != self._last_reply:
                if self._is_stale(reply):
                    return
                self._last_reply = reply
            try:
                self._listener.message_received(channel, payload)
            except Exception as error:
                self._listener.link_failed(_translated(error))

        return receive

    def _is_stale(self, reply: bytes) -> bool:
        if not reply.startswith(self._marker):
            return False  # Published by another program.
        process, _, epoch = reply.decode().removeprefix(self._marker.decode()).partition(".")
        return epoch.isdecimal() and self._epochs.is_stale(process, int(epoch))

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """See `Link`."""
        try:
            for channel in channels:
                subscription = self._subscriptions.pop(channel, None)
                if subscription is not None:
                    self._drop((self._prefix + subject_of(channel)).encode())
                    await subscription.unsubscribe()
            await flush(self.client, DISABLED_SECONDS)
        except nats.errors.Error as error:
            raise _translated(error) from error

    async def check(self) -> None:
        """Look for overdue publishes. NATS drops no subscription, it closes the connection."""
        self.store.check()

    def publish_stored(self, publishes: Sequence[StoredPublish]) -> None:
        """See `StoringLink`."""
        self.store.publish(publishes)

    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None,
        limit: int | None,
        reverse: bool,
    ) -> Page:
        """See `StoringLink`."""
        return await self.store.history(channel, retention, since, limit, reverse)

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        """See `StoringLink`."""
        return await self.store.renew_epoch(channel, retention, seen)

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None:
        """See `StoringLink`."""
        await self.store.keep(values, seconds)

    async def take(self, key: str) -> bytes | None:
        """See `StoringLink`."""
        return await self.store.take(key)

    async def close(self) -> None:
        """See `Link`."""
        for task in list(self._tasks):
            task.cancel()
        # nats-py waits for a peer that may hang.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.client.close()


class NatsConnector:
    """Opens links to the first server that answers."""

    def __init__(self, address: BrokerAddress) -> None:
        self.name: str = address.display_url(PORT)
        self._address = address
        self._prefix = address.name_prefix(".")
        self._names = Names.of(address.options.prefix)
        self._replicas = _replicas(address)
        self._epochs = LinkEpochs()
        account_of(address)
        self._tls = None
        if address.scheme == "tls" or any(name in address.query for name in TLS_PARAMETERS):
            self._tls = address.tls_context()

    async def connect(self, listener: LinkListener) -> Link:
        """See `Connector`."""
        address = self._address
        scheme = "nats" if self._tls is None else "tls"
        servers = [f"{scheme}://{host_port(h, p or PORT)}" for h, p in address.hosts]
        try:
            account = account_of(address)  # Read again, because credentials may be renewed.
        except InvalidOptionsError as error:
            raise BrokerError(f"Cannot connect: {error}") from error
        link = NatsLink(
            listener,
            self._prefix,
            self._epochs,
            self._tls is not None,
            self._names,
            self._replicas,
        )
        try:
            await link.client.connect(
                servers,
                name="socketcluster",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=max(1, int(address.options.heartbeat_timeout)),
                ping_interval=DISABLED_SECONDS,
                tls=self._tls,
                error_cb=link.on_error,
                disconnected_cb=link.on_lost,
                closed_cb=link.on_lost,
                **account,
            )
        except BaseException as error:
            await link.close()
            if isinstance(error, Exception):
                raise BrokerError(f"Cannot connect: {_text(error)}") from error
            raise
        return link


def _replicas(address: BrokerAddress) -> int:
    text = address.query.get("replicas", "1")
    if text not in ("1", "3", "5"):
        raise url_error(f"the parameter replicas must be 1, 3 or 5, not {text!r}")
    return int(text)


def _text(error: BaseException) -> str:
    return str(error).removeprefix("nats: ") or type(error).__name__


def _refusal(text: str) -> BrokerError:
    return BrokerError(
        f"{text} (the permissions of the broker's NATS user have to allow it, see "
        "Permissions in docs/scaling.md)"
    )


def _translated(error: Exception) -> BrokerError:
    translated = BrokerError(_text(error))
    translated.__cause__ = error
    return translated


def create(address: BrokerAddress) -> RemoteBroker:
    """Make the broker of `nats://user:password@host:port,host:port`, or `tls://` likewise.

    A user without a password is a token. Parameters: `creds`, the path of a credentials file;
    `nkey`, the path of a seed; `replicas`, how many servers keep the history of channels; and
    those of TLS. The files must be readable already.

    Raises:
        InvalidOptionsError: a part of the URL is wrong.
    """
    address.check_parameters(*TLS_PARAMETERS, "creds", "nkey", "replicas")
    if not address.hosts:
        raise url_error(f"a {address.scheme}:// URL names at least one host")
    return RemoteBroker(NatsConnector(address), address.options)
