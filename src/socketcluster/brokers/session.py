"""One session of a link, from subscribed to lost: its unconfirmed publishes and its heartbeats."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from itertools import islice
from typing import Any, TypeVar, cast

from socketcluster.brokers.adapter import (
    BrokerOptions,
    Connector,
    Link,
    Publish,
    StoredPublish,
    StoringLink,
)
from socketcluster.errors import BrokerError
from socketcluster.runtime.cancelling import cancel

HEARTBEAT_WAITS = 10
"""The number of waits that a heartbeat's timeout is split into. A loop that was blocked for
the whole timeout then still reads the backend's answer before the heartbeat counts as lost."""

MAX_CHANNELS_PER_SUBSCRIBE = 1000
"""How many channels to subscribe to again before waiting for the backend's answer."""

Result = TypeVar("Result")


class Session:
    """A `LinkListener` for one link, which ends when the link is lost.

    Args:
        options: those of the broker.
        inbox: the channel for this broker's heartbeats.
        deliver: called with the channel and payload of each message that is no heartbeat.
        failed: called with errors that belong to no call.

    Attributes:
        link: the link, once it is open.
        ended: done when the link is lost; the result is the reason.
        proven_at: when the last heartbeat that returned was sent, by the loop's clock.
        round_trip: seconds that this heartbeat took to return.
        unconfirmed: publishes that the backend has not answered, in order.
        unconfirmed_bytes: the bytes of their payloads.
    """

    def __init__(
        self,
        options: BrokerOptions,
        inbox: str,
        deliver: Callable[[str, bytes], None],
        failed: Callable[[BrokerError], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.link: Link | None = None
        self.ended: asyncio.Future[BrokerError] = loop.create_future()
        self.proven_at: float = loop.time()
        self.round_trip: float = 0.0
        self.unconfirmed: dict[Publish, None] = {}
        self.unconfirmed_bytes: int = 0
        self._options = options
        self._inbox = inbox
        self._deliver = deliver
        self._failed = failed
        self._heartbeats: dict[bytes, asyncio.Future[None]] = {}

    # Reports of the link

    def message_received(self, channel: str, payload: bytes) -> None:
        """See `LinkListener`."""
        if self.ended.done():
            return
        if channel != self._inbox:
            self._deliver(channel, payload)
        elif payload in self._heartbeats:
            resolve(self._heartbeats[payload])

    def publishes_confirmed(self, publishes: Sequence[Publish]) -> None:
        """See `LinkListener`."""
        for publish in publishes:
            if publish in self.unconfirmed:
                del self.unconfirmed[publish]
                self.unconfirmed_bytes -= len(publish.payload)
                resolve(publish.confirmed)

    def publish_refused(self, publish: Publish, error: BrokerError) -> None:
        """See `LinkListener`."""
        if publish in self.unconfirmed:
            del self.unconfirmed[publish]
            self.unconfirmed_bytes -= len(publish.payload)
            resolve(publish.confirmed, error)

    def link_failed(self, error: BrokerError) -> None:
        """See `LinkListener`."""
        if not self.ended.done():
            self._failed(error)

    def link_lost(self, error: BrokerError) -> None:
        """See `LinkListener`."""
        if self.ended.done():
            return
        self.ended.set_result(error)
        unconfirmed, self.unconfirmed = self.unconfirmed, {}
        reason = f"The backend did not confirm the publish before it was lost: {error}"
        for publish in unconfirmed:
            resolve(publish.confirmed, BrokerError(reason))

    # Requests to the link

    async def open(self, connector: Connector, channels: set[str]) -> None:
        """Connect, wait for a first heartbeat, and subscribe to `channels`.

        The caller may change `channels` meanwhile; this returns once all of them are subscribed.

        Raises:
            BrokerError: one of these steps failed.
        """
        seconds = self._options.connect_timeout
        try:
            async with asyncio.timeout(seconds):
                self.link = await connector.connect(self)
                await self._subscribe(self.link, {self._inbox})
        except TimeoutError as error:
            raise BrokerError(f"There was no answer within {seconds:g} s") from error
        await self.prove()
        subscribed: set[str] = set()
        while channels != subscribed:
            added = set(islice(channels - subscribed, MAX_CHANNELS_PER_SUBSCRIBE))
            removed = subscribed - channels
            try:
                async with asyncio.timeout(seconds):
                    if removed:
                        await self.run(self.link.unsubscribe(list(removed)))
                    await self._subscribe(self.link, added)
            except TimeoutError as error:
                raise BrokerError("The backend did not confirm the subscriptions") from error
            subscribed = (subscribed | added) - removed

    async def _subscribe(self, link: Link, channels: set[str]) -> None:
        refused = await self.run(link.subscribe(list(channels)))
        for channel, error in refused.items():
            if channel == self._inbox:
                raise error
            # An earlier session was subscribed to it: keep the channel for the next one.
            text = f"The backend refused the subscription to the channel {channel!r}: {error}"
            self._failed(BrokerError(text))

    def publish(self, publishes: Sequence[Publish]) -> None:
        """Send publishes; each is completed when the backend answers, or the link is lost."""
        assert self.link is not None
        self._send(publishes, self.link.publish)

    def publish_stored(self, publishes: Sequence[StoredPublish]) -> None:
        """Do the same with stored publishes."""
        self._send(publishes, self.storing_link.publish_stored)

    @property
    def storing_link(self) -> StoringLink:
        """The link, of an adapter that stores."""
        return cast("StoringLink", self.link)

    def _send(self, publishes: Sequence[Publish], send: Callable[[Any], None]) -> None:
        if self.ended.done():  # Lost in this loop turn; the broker has not been woken up yet.
            for publish in publishes:
                error = BrokerError(f"The backend was lost: {self.ended.result()}")
                resolve(publish.confirmed, error)
            return
        for publish in publishes:
            self.unconfirmed[publish] = None
            self.unconfirmed_bytes += len(publish.payload)
        try:
            send(publishes)
        except Exception as error:
            self.link_lost(as_broker_error(error))

    async def run(self, operation: Coroutine[Any, Any, Result]) -> Result:
        """Run one of the link's operations.

        Raises:
            BrokerError: the operation failed, or the link was lost meanwhile.
        """
        task = asyncio.ensure_future(operation)
        either: set[asyncio.Future[Any]] = {task, self.ended}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self.ended.result()
            return task.result()
        finally:
            task.cancel()

    async def prove_repeatedly(self) -> None:
        """Send heartbeats until one does not return, which ends the session."""
        try:
            while True:
                await asyncio.sleep(self._options.heartbeat_interval)
                await self.prove()
        except BrokerError as error:
            self.link_lost(error)

    async def prove(self) -> None:
        """Prove that the backend delivers: send a heartbeat to the inbox and wait for it.

        Raises:
            BrokerError: it did not return in time, or the backend dropped subscriptions.
        """
        assert self.link is not None
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        nonce = secrets.token_hex(8).encode()
        returned: asyncio.Future[None] = loop.create_future()
        self._heartbeats[nonce] = returned
        heartbeat = Publish(self._inbox, nonce, loop.create_future())
        checked = asyncio.ensure_future(self.run(self.link.check()))
        self.publish([heartbeat])
        try:
            await self._wait_for_heartbeat({checked, returned, heartbeat.confirmed})
            self.proven_at = sent_at
            self.round_trip = loop.time() - sent_at
        finally:
            del self._heartbeats[nonce]
            self.publish_refused(heartbeat, BrokerError("The heartbeat is over"))
            cancel(checked)

    async def _wait_for_heartbeat(self, pending: set[asyncio.Future[None]]) -> None:
        seconds = self._options.heartbeat_timeout
        for _ in range(HEARTBEAT_WAITS):
            done, pending = await asyncio.wait(
                pending, timeout=seconds / HEARTBEAT_WAITS, return_when=asyncio.FIRST_EXCEPTION
            )
            for future in done:
                future.result()
            if not pending:
                return
        raise BrokerError(f"The backend did not deliver a heartbeat within {seconds:g} s")


def measured(session: Session | None, outgoing: int) -> tuple[int, float | None]:
    """See `MeasuredBroker.measure`; `outgoing` publishes have not been sent yet."""
    if session is None:
        return outgoing, None
    return outgoing + len(session.unconfirmed), session.round_trip


def as_broker_error(error: Exception) -> BrokerError:
    """Return an exception of a link as a `BrokerError`."""
    if isinstance(error, BrokerError):
        return error
    wrapped = BrokerError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def resolve(future: asyncio.Future[None], error: BrokerError | None = None) -> None:
    """Complete a future that is not done yet. An error that no task awaits is not logged."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()
