"""ConsumableStream, which `async for` consumes, and Consumer, which does it.

Source: npm consumable-stream, writable-consumable-stream.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from socketcluster.errors import TimeoutError
from socketcluster.options import seconds
from socketcluster.streams.inbox import MARKS, NO_VALUE, End, Inbox, Payload, Timeout

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamItem(Generic[T]):
    """What `next()` returns: a value, or with `done` the end of the stream (and a last value)."""

    value: T | None
    done: bool


@dataclass(frozen=True, slots=True)
class ConsumerStats:
    """Figures of one consumer: `backpressure` is what it has not yet taken, `stream` the name
    of its stream in a demux ("" outside one), `timeout` in milliseconds."""

    id: int
    backpressure: int
    stream: str = ""
    timeout: float | None = None


class Consumer(Generic[T]):
    """One reader of a stream: an asynchronous iterator, and `next()`.

    It sees every value written since it was made, as long as somebody holds it: a time-out or a
    cancellation in between loses nothing. It is removed from the stream at the stream's end, by
    `return_()`, and as soon as nobody holds it. An `async for` over a stream is the only holder
    of its consumer, so leaving that loop removes it at once.
    """

    __slots__ = ("_attach", "_inbox", "_removed")

    def __init__(self, inbox: Inbox, attach: Callable[[Inbox], None]) -> None:
        self._inbox = inbox
        self._attach = attach
        self._removed = True
        attach(inbox)
        self._removed = False

    @property
    def id(self) -> int:
        """Its number, for the `…_consumer` methods."""
        return self._inbox.id

    @property
    def timeout(self) -> float | None:
        """Milliseconds that an iteration waits for a value."""
        return None if self._inbox.timeout is None else self._inbox.timeout * 1000

    @property
    def is_alive(self) -> bool:
        """Whether it is on its stream."""
        return not self._removed and not self._inbox.killed

    def get_backpressure(self) -> int:
        """How much it has not yet taken."""
        return len(self._inbox)

    def get_stats(self) -> ConsumerStats:
        """Its figures."""
        return ConsumerStats(self.id, len(self._inbox), timeout=self.timeout)

    def __aiter__(self) -> Consumer[T]:
        return self

    async def __anext__(self) -> T:
        """The next value. Cancelling it is safe: nothing is lost, and the next call returns the
        next value.

        Raises:
            StopAsyncIteration: the stream has ended.
            TimeoutError: nothing came for the consumer's own timeout. Nothing is lost either.
            BackpressureError: a consumer of a channel of the exchange was too slow.
        """
        inbox = self._inbox
        if not (self._removed or inbox._held or inbox._killed or inbox._full):
            # The common case in one coroutine rather than three.
            items = inbox.items
            if not items and inbox.timeout is None:
                inbox._waiter = inbox.new_waiter()
                try:
                    await inbox._waiter
                except BaseException:
                    inbox._waiter = None
                    del self  # A traceback holds frames: the loop alone holds the consumer.
                    raise
                inbox._waiter = None
                items = inbox.items
            if items and not inbox._full:
                kind = type(items[0])
                if kind not in MARKS:
                    return items.popleft()  # type: ignore[no-any-return]
                if kind is Payload and (value := inbox.take_payload()) is not NO_VALUE:
                    return value  # type: ignore[no-any-return]
        try:
            value, done = await self._take(inbox.timeout)
        except BaseException:
            del self
            raise
        if done:
            self._ended(value)
            raise StopAsyncIteration
        return value  # type: ignore[no-any-return]

    async def next(self, timeout: Timeout = None) -> StreamItem[T]:
        """The next value, or the end.

        Cancelling next() is safe: nothing is lost, and the next call returns the next value. A
        time-out is as safe. The consumer stays on the stream meanwhile, and what it has not yet
        taken counts as backpressure.

        Raises:
            TimeoutError: nothing came for `timeout` (else the consumer's own) milliseconds.
            BackpressureError: a consumer of a channel of the exchange was too slow.
        """
        within = self._inbox.timeout if timeout is None else seconds(timeout)
        try:
            value, done = await self._take(within)
        except BaseException:
            del self
            raise
        if done:
            self._ended(value)
            return StreamItem(value.value, True)
        return StreamItem(value, False)

    def _ended(self, end: End) -> None:
        self.return_()
        if end.error is not None:
            raise end.error

    def _take(self, timeout: float | None) -> Awaitable[tuple[Any, bool]]:
        if self._removed:
            self._attach(self._inbox)
            self._removed = False
        return self._inbox.take(timeout)

    def return_(self) -> None:
        """Take it off the stream; what it had not taken is dropped. `next()` puts it back, for
        what is written from then on."""
        if not self._removed:
            self._inbox.leave()
            self._removed = True

    async def aclose(self) -> None:
        """`return_()`, as asynchronous generators have it."""
        self.return_()

    def __del__(self) -> None:
        if not getattr(self, "_removed", True):
            with contextlib.suppress(RuntimeError):  # Its loop has just been closed.
                self._inbox.finalize()


class ConsumableStream(ABC, Generic[T]):
    """A stream of values: `async for value in stream`. Each loop is a consumer of its own, made
    when the loop begins."""

    __slots__ = ()

    @abstractmethod
    def create_consumer(self, timeout: Timeout = None) -> Consumer[T]:
        """A consumer of what is written from now on; `timeout` in ms for each iteration."""

    def __aiter__(self) -> Consumer[T]:
        return self.create_consumer()

    async def next(self, timeout: Timeout = None) -> StreamItem[T]:
        """The next value written, or the end.

        Each call has a consumer of its own, which sees what is written while the call waits:
        what is written between two calls reaches neither. To take values one by one and miss
        none, hold a consumer: `consumer = stream.create_consumer()`, `await consumer.next()`.
        Cancelling it gives up the waiting.

        Raises:
            TimeoutError: nothing came for `timeout` milliseconds.
        """
        consumer = self.create_consumer(timeout)
        try:
            return await consumer.next()
        finally:
            consumer.return_()

    async def once(self, timeout: Timeout = None) -> T:
        """The next value written; as `next()`, it sees only what is written while it waits.

        If the stream ends it goes on waiting: without a timeout for ever, with one until that is
        over. Cancelling it gives up the waiting.

        Raises:
            TimeoutError: no value came for `timeout` milliseconds.
        """
        item = await self.next(timeout)
        if not item.done:
            return item.value  # type: ignore[return-value]
        try:
            async with asyncio.timeout(seconds(timeout)):
                await asyncio.get_running_loop().create_future()
        except builtins.TimeoutError:
            pass
        raise TimeoutError("Stream consumer operation timed out early because stream ended")
