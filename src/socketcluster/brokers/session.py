"""One link of `RemoteBroker` while it lasts: what waits for the backend, and the heartbeat."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from itertools import islice
from typing import Any, TypeVar

from socketcluster.brokers.adapter import BrokerOptions, Connector, Link, Publish
from socketcluster.errors import BrokerError
from socketcluster.runtime.cancelling import cancel

TICKS = 10
"""Parts of a heartbeat's time, so that a loop that was busy for long does not blame the backend."""

SUBSCRIBED_AT_ONCE = 1000
"""Channels per answer that is waited for when everything is subscribed again."""

Result = TypeVar("Result")


class Session:
    """What a link reports to, until it is lost.

    Args:
        options: of the broker.
        inbox: the channel for its heartbeats.
        deliver: called with what else the backend delivers.
        failed: called with what belongs to no call.
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
        self.over: asyncio.Future[BrokerError] = loop.create_future()
        self.proven_at = loop.time()
        self.unconfirmed: dict[Publish, None] = {}
        self._options = options
        self._inbox = inbox
        self._deliver = deliver
        self._failed = failed
        self._echoes: dict[bytes, asyncio.Future[None]] = {}

    # What the link reports

    def message(self, channel: str, payload: bytes) -> None:
        """See `LinkListener`."""
        if self.over.done():
            return
        if channel != self._inbox:
            self._deliver(channel, payload)
        elif payload in self._echoes:
            settle(self._echoes[payload])

    def taken(self, publishes: Sequence[Publish]) -> None:
        """See `LinkListener`."""
        for publish in publishes:
            if publish in self.unconfirmed:
                del self.unconfirmed[publish]
                settle(publish.taken)

    def refused(self, publish: Publish, error: BrokerError) -> None:
        """See `LinkListener`."""
        if publish in self.unconfirmed:
            del self.unconfirmed[publish]
            settle(publish.taken, error)

    def failed(self, error: BrokerError) -> None:
        """See `LinkListener`."""
        if not self.over.done():
            self._failed(error)

    def lost(self, error: BrokerError) -> None:
        """See `LinkListener`."""
        if self.over.done():
            return
        self.over.set_result(error)
        unconfirmed, self.unconfirmed = self.unconfirmed, {}
        reason = f"The backend did not confirm the publish before it was lost: {error}"
        for publish in unconfirmed:
            settle(publish.taken, BrokerError(reason))

    # What is asked of the link

    async def open(self, connector: Connector, channels: set[str]) -> None:
        """Connect, see a heartbeat come back, and subscribe to `channels`, which others change.

        Raises:
            BrokerError: something of that failed.
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
            new = set(islice(channels - subscribed, SUBSCRIBED_AT_ONCE))
            gone = subscribed - channels
            try:
                async with asyncio.timeout(seconds):
                    if gone:
                        await self.run(self.link.unsubscribe(list(gone)))
                    await self._subscribe(self.link, new)
            except TimeoutError as error:
                raise BrokerError("The backend did not confirm the subscriptions") from error
            subscribed = (subscribed | new) - gone

    async def _subscribe(self, link: Link, channels: set[str]) -> None:
        refused = await self.run(link.subscribe(list(channels)))
        for channel, error in refused.items():
            if channel == self._inbox:
                raise error
            self._failed(error)  # It was delivered before: it stays wanted.

    def publish(self, publishes: Sequence[Publish]) -> None:
        """Hand publishes to the backend; each is settled when it answers."""
        assert self.link is not None
        if self.over.done():  # Lost in this turn of the loop, and nobody has been told yet.
            for publish in publishes:
                settle(publish.taken, BrokerError(f"The backend was lost: {self.over.result()}"))
            return
        for publish in publishes:
            self.unconfirmed[publish] = None
        try:
            self.link.publish(publishes)
        except Exception as error:
            self.lost(as_broker_error(error))

    async def run(self, operation: Coroutine[Any, Any, Result]) -> Result:
        """Wait for an operation of the link.

        Raises:
            BrokerError: it failed, or the link was lost meanwhile.
        """
        task = asyncio.ensure_future(operation)
        either: set[asyncio.Future[Any]] = {task, self.over}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self.over.result()
            return task.result()
        finally:
            task.cancel()

    async def watch(self) -> None:
        """Prove again and again that the backend delivers; ends the session when it does not."""
        try:
            while True:
                await asyncio.sleep(self._options.heartbeat_interval)
                await self.prove()
        except BrokerError as error:
            self.lost(error)

    async def prove(self) -> None:
        """Send something to the own inbox and wait for it.

        Raises:
            BrokerError: it did not come back in time, or the backend dropped subscriptions.
        """
        assert self.link is not None
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        nonce = secrets.token_hex(8).encode()
        echo: asyncio.Future[None] = loop.create_future()
        self._echoes[nonce] = echo
        beat = Publish(self._inbox, nonce, loop.create_future())
        checked = asyncio.ensure_future(self.run(self.link.check()))
        self.publish([beat])
        try:
            await self._in_time({checked, echo, beat.taken})
            self.proven_at = sent_at
        finally:
            del self._echoes[nonce]
            self.unconfirmed.pop(beat, None)
            cancel(checked)

    async def _in_time(self, pending: set[asyncio.Future[None]]) -> None:
        seconds = self._options.heartbeat_timeout
        for _ in range(TICKS):
            done, pending = await asyncio.wait(
                pending, timeout=seconds / TICKS, return_when=asyncio.FIRST_EXCEPTION
            )
            for future in done:
                future.result()
            if not pending:
                return
        raise BrokerError(f"The backend did not deliver a heartbeat within {seconds:g} s")


def as_broker_error(error: Exception) -> BrokerError:
    """What a link raised, as what a broker raises."""
    if isinstance(error, BrokerError):
        return error
    wrapped = BrokerError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def settle(future: asyncio.Future[None], error: BrokerError | None = None) -> None:
    """Give a future its result; nobody has to look at an error."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()
