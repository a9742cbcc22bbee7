"""The storing part of a NATS link: stored publishes, histories and kept values, in JetStream.

A stored publish goes to a subject of a stream, which stores it, confirms it, and republishes it to
the subject of its channel. There it arrives with headers that tell its place; the link puts it into
an envelope.

Source: NATS documentation, "Streams" (RePublish), "JetStream wire API Reference".
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from nats.aio.client import Client

from socketcluster.brokers.adapter import LinkListener, StoredPublish
from socketcluster.brokers.nats_delivery import Delivery
from socketcluster.brokers.nats_history import HistoryReader
from socketcluster.brokers.nats_kept import KeptValues
from socketcluster.brokers.nats_marks import Marks
from socketcluster.brokers.nats_names import Names, epoch_of, subject_of
from socketcluster.brokers.nats_parser import MessageParser, Receiver
from socketcluster.brokers.nats_requests import ANSWER_SECONDS, Requests, unanswered
from socketcluster.brokers.nats_streams import Histories, HistoryStream, Streams
from socketcluster.brokers.storing import Page, Position, Retention
from socketcluster.errors import BrokerError

RENEWAL_ATTEMPTS = 10
"""How often to try to renew an epoch, while other processes renew it, too."""


class NatsStore:
    """The storing part of one link.

    Args:
        client: the link's.
        parser: the client's.
        names: those of the application.
        link_name: a name for this link that no other one has, of letters, digits and dots.
        replicas: how many servers keep a new stream.
        listener: the link's.
        channel_of: returns the channel of a subject that the link is subscribed to.
        spawn: runs a coroutine until the link is closed.

    Attributes:
        requests: the link's requests.
    """

    def __init__(
        self,
        client: Client,
        parser: MessageParser,
        names: Names,
        link_name: str,
        replicas: int,
        listener: LinkListener,
        channel_of: Callable[[bytes], str | None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._client = client
        self._names = names
        self._listener = listener
        self._spawn = spawn
        inbox = f"{names.own}reply.{link_name}."
        self.requests: Requests = Requests(client, inbox, listener, self._unheard)
        self._streams = Streams(self.requests, names, replicas)
        self._reader = HistoryReader(self._streams)
        self._kept = KeptValues(self._streams)
        self._histories = Histories(self._streams)
        self._delivery = Delivery(self._histories, listener, channel_of, self._open_soon)
        self._marks = Marks(self._histories, self.requests, names.channels)
        self._renewed = f"{names.own}renewed."
        self._listening = False
        self._parser = parser
        self._parser.headed = self._headed
        self._parser.unrouted = self._unrouted

    # Streams

    async def _listen(self) -> None:
        """Subscribe to answers, and to renewals of epochs.

        Raises:
            BrokerError: the broker has no prefix.
            Error: nats-py's.
        """
        if not self._names.channels[:-1]:
            raise BrokerError(
                "History needs a prefix: without one channels use all subjects, and none is left "
                "for stored publishes. Set the parameter prefix of the broker's URL"
            )
        if not self._listening:
            self._listening = True
            await self._client.subscribe(self.requests.inbox)
            await self._client.subscribe(f"{self._renewed}>")

    def _open_soon(self, stream: HistoryStream) -> None:
        """Read the stream's state; the messages that wait for it are handled then."""
        if not stream.opening:
            stream.opening = True
            self._spawn(self._open(stream))

    async def _open(self, stream: HistoryStream) -> None:
        failure: BrokerError | None = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._listen()
                while not stream.created:
                    # A message alone makes no stream: any program can forge one.
                    await stream.refresh(create=bool(stream.waiting))
        except TimeoutError:
            failure = unanswered()
        except Exception as error:
            failure = error if isinstance(error, BrokerError) else BrokerError(str(error))
        stream.opening = False
        waiting, stream.waiting = stream.waiting, []
        if failure is None:
            self._send(stream, waiting)
        else:
            for publish in waiting:
                self._listener.publish_refused(publish, failure)
        self._delivery.release(stream, failure)

    # Publishes

    def publish(self, publishes: Sequence[StoredPublish]) -> None:
        """See `StoringLink.publish_stored`."""
        batches: dict[Retention, list[StoredPublish]] = {}
        for item in publishes:
            batches.setdefault(item.retention, []).append(item)
        for retention, batch in batches.items():
            stream = self._histories.of(retention)
            if stream.ready:
                self._send(stream, batch)
            else:
                stream.waiting += batch
                self._open_soon(stream)

    def _send(self, stream: HistoryStream, publishes: Sequence[StoredPublish]) -> None:
        for item in publishes:
            subject = stream.start + subject_of(item.channel)
            headers = b"" if item.id is None else _id_header(subject, item.id)
            try:
                self.requests.send(subject, headers, item.payload, item)
            except BrokerError as error:
                self._listener.publish_refused(item, error)
        self.requests.flush()

    def _unheard(self, publish: StoredPublish) -> None:
        stream = self._histories.of(publish.retention)
        stream.created = ""  # The next publish makes it anew.
        text = f"The stream {stream.name!r} of JetStream is missing, or its servers are away"
        self._listener.publish_refused(publish, BrokerError(text))

    # Messages

    def _unrouted(self, subject: bytes, payload: bytes) -> None:
        self.requests.answered(subject, b"", payload)

    def _headed(self, subject: bytes, headers: bytes) -> Receiver | None:
        receive = self._parser.receivers.get(subject)
        if receive is None:
            return partial(self._answered, subject, headers)
        return partial(self._received, subject, headers, receive)

    def _received(
        self, subject: bytes, headers: bytes, receive: Receiver, reply: bytes, payload: bytes
    ) -> None:
        if not self._delivery.received(subject, headers, payload):
            receive(reply, payload)

    def _answered(self, subject: bytes, headers: bytes, _reply: bytes, payload: bytes) -> None:
        if not self.requests.answered(subject, headers, payload):
            token = subject.decode(errors="replace").removeprefix(self._renewed).partition(".")[0]
            stream = self._histories.by_name.get(f"{self._names.streams}history_{token}")
            if stream is not None:
                stream.created = ""  # To be read again before the next message.

    def forget(self, subject: bytes) -> None:
        """Forget a channel that the link is no longer subscribed to."""
        self._delivery.forget(subject)

    def check(self) -> None:
        """Fail overdue publishes, and mark idle channels before the stream forgets them."""
        self.requests.check()
        with contextlib.suppress(BrokerError):
            self._marks.check()

    # Requests

    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None,
        limit: int | None,
        reverse: bool,
    ) -> Page:
        """See `StoringLink.history`."""
        stream = self._histories.of(retention)
        await self._listen()
        subject = subject_of(channel)
        own = (self._names.channels + subject).encode()
        stored = stream.start + subject
        page, newest = await self._reader.read(stream, own, stored, since, limit, reverse)
        self._delivery.follow(own, stream, newest)
        return page

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        """See `StoringLink.renew_epoch`."""
        stream = self._histories.of(retention)
        await self._listen()
        subject = subject_of(channel)
        own = (self._names.channels + subject).encode()
        for _ in range(RENEWAL_ATTEMPTS):
            _, _, top = await self._reader.top(stream, stream.start + subject, own, direct=False)
            if top.epoch != seen.epoch or top.offset >= seen.offset:
                return top
            if stream.created and epoch_of(stream.epoch, own) == seen.epoch:
                await stream.renew()
        raise BrokerError(f"The epoch of the stream {stream.name!r} cannot be renewed")

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None:
        """See `StoringLink.keep`."""
        await self._listen()
        await self._kept.keep(values, seconds)

    async def take(self, key: str) -> bytes | None:
        """See `StoringLink.take`."""
        await self._listen()
        return await self._kept.take(key)


def _id_header(subject: str, id: str) -> bytes:
    """Return the header of an id: streams compare ids of all channels."""
    digest = hashlib.blake2b(f"{subject}\0{id}".encode(errors="surrogatepass"), digest_size=16)
    return b"Nats-Msg-Id: " + digest.hexdigest().encode()
