"""The queue of one consumer, which its stream writes to."""

from __future__ import annotations

import asyncio
import builtins
import sys
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from threading import get_ident
from typing import Any

import msgspec

from socketcluster.errors import TimeoutError
from socketcluster.options import seconds
from socketcluster.runtime.loop_binding import LoopBinding

Timeout = float | timedelta | None
"""Milliseconds or a timedelta; None waits for ever."""


class Tracked:
    """A value whose writer wants to know when all consumers have dealt with it."""

    __slots__ = ("_done", "_left", "value")

    def __init__(self, value: Any, done: Callable[[], None]) -> None:
        self.value = value
        self._done = done
        self._left = 1

    def hold(self) -> None:
        """One more has it."""
        self._left += 1

    def release(self) -> None:
        """One has dealt with it."""
        self._left -= 1
        if self._left == 0:
            self._done()


class End:
    """Stands in a queue for the end of the stream, or for the error that ends a loop over it."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: Exception | None = None) -> None:
        self.value = value
        self.error = error


NO_VALUE: Any = object()
"""What a `Deferred` makes if there is no value after all."""

MADE_WEIGHT = 32
"""How many bytes of memory a value may take for each byte it was made of: 27 of a list of empty
lists, 30 of a list of empty dicts, in CPython 3.11."""

TEXT_WEIGHT = 4
"""The same for a text: a character takes four bytes if any of them is an emoji."""


class Deferred:
    """A value that is made when the first consumer takes it.

    `make()` returns the value, or NO_VALUE, and consumers go on with what follows.

    Attributes:
        size: bytes that it counts in a gauge.
    """

    __slots__ = ("_make", "_value", "size")

    def __init__(self, size: int, make: Callable[[], Any]) -> None:
        self.size = size
        self._make: Callable[[], Any] | None = make
        self._value: Any = None

    def value(self) -> Any:
        """The value; it is made once."""
        if self._make is not None:
            make, self._make = self._make, None
            self._value = make()
        return self._value


class Payload(msgspec.Struct, eq=False, gc=False):
    """A value as the bytes it was published as: each consumer decodes it for itself, so that
    nothing larger waits. `decode` returns the value, or NO_VALUE."""

    data: bytes
    decode: Callable[[bytes], Any]

    def value(self) -> Any:
        """The value."""
        return self.decode(self.data)


class Gauge:
    """Tells when a consumer of some streams has more than `limit` values not taken, or all of them
    together more than `size_limit` bytes, and when that is over, so that whoever fills them can
    stop for a while.

    `changed(full)` is called with True when they become too full, with False when each consumer
    has come down to half, and so have the bytes.

    Attributes:
        size: bytes of the deferred values that were not taken.
    """

    __slots__ = ("_changed", "_full", "_large", "limit", "size", "size_limit")

    def __init__(
        self, limit: int, changed: Callable[[bool], None], size_limit: int = sys.maxsize
    ) -> None:
        self.limit = limit
        self.size_limit = size_limit
        self.size = 0
        self._changed = changed
        self._full = 0
        self._large = False

    def grow(self, size: int) -> None:
        """A consumer has so many more bytes to take."""
        self.size += size
        if not self._large and self.size > self.size_limit:
            self._large = True
            self.filled()

    def shrink(self, size: int) -> None:
        """It has taken them, or is gone."""
        self.size -= size
        if self._large and self.size <= self.size_limit // 2:
            self._large = False
            self.drained()

    def filled(self) -> None:
        """A consumer has more than the limit."""
        if not self._full:
            self._changed(True)
        self._full += 1

    def drained(self) -> None:
        """It has taken enough, or is gone."""
        self._full -= 1
        if not self._full:
            self._changed(False)


_EMPTY: deque[Any] = deque()
"""Stands for the values of a consumer that had none yet: an empty deque takes 760 bytes."""


class Inbox:
    """What one consumer has not yet taken. The stream holds this, never the consumer itself, so
    that a consumer which nobody holds any more can take itself off the stream. `items` and `limit`
    are for a demux, which adds to what is there already without a call."""

    __slots__ = (
        "_binding",
        "_full",
        "_gauge",
        "_held",
        "_killed",
        "_waiter",
        "id",
        "items",
        "limit",
        "on_removed",
        "timeout",
    )

    def __init__(
        self,
        id: int,
        timeout: Timeout,
        on_removed: Callable[[Inbox], None],
        binding: LoopBinding,
        gauge: Gauge | None = None,
    ) -> None:
        self.id = id
        self._binding = binding
        self._gauge = gauge
        self.limit = sys.maxsize if gauge is None else gauge.limit
        self._full = False
        self.timeout = seconds(timeout)
        self.on_removed = on_removed
        self.items = _EMPTY
        self._waiter: asyncio.Future[None] | None = None
        self._held: Tracked | None = None
        self._killed: End | None = None

    def __len__(self) -> int:
        return len(self.items)

    def put(self, item: Any) -> None:
        """Add a value."""
        if type(item) is Tracked:
            item.hold()
        items = self.items
        if items is _EMPTY:
            items = self.items = deque()
        items.append(item)
        if len(items) > self.limit:
            self._filled()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def put_payload(self, item: Payload) -> None:
        """Add a value that each consumer decodes."""
        self.put(item)

    def put_deferred(self, item: Deferred) -> None:
        """Add a value that is made later."""
        if self._gauge is not None:
            self._gauge.grow(item.size)
        self.put(item)

    def _filled(self) -> None:
        if not self._full and self._gauge is not None:
            self._full = True
            self._gauge.filled()

    def end(self, value: Any) -> None:
        """Add the end."""
        self.put(End(value))

    def kill(self, value: Any, error: Exception | None = None) -> None:
        """Drop everything; the end, or an error, is all there is."""
        self.clear()
        self._killed = End(value, error)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        """Go off the stream; the consumer's loop raises `error`."""
        self.settle()
        self.kill(None, error)
        self.on_removed(self)

    @property
    def killed(self) -> bool:
        """Whether it was killed and its consumer has not noticed yet."""
        return self._killed is not None

    def clear(self) -> None:
        """Drop everything."""
        items, self.items = self.items, _EMPTY
        if self._full:
            self._drained()
        for item in items:
            if type(item) is Tracked:
                item.release()
            elif type(item) is Deferred or type(item) is Payload:
                self._gone(item)

    def take_payload(self) -> Any:
        """The value of the next item, which is a `Payload`; or NO_VALUE."""
        return self.items.popleft().value()

    def _gone(self, item: Any) -> None:
        if self._gauge is not None:
            self._gauge.shrink(item.size)

    def _drained(self) -> None:
        self._full = False
        if self._gauge is not None:
            self._gauge.drained()

    def settle(self) -> None:
        """The value taken last has been dealt with."""
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def leave(self) -> None:
        """Go off the stream, and drop everything."""
        self._binding.check()
        self.settle()
        self.on_removed(self)
        self.clear()

    def finalize(self) -> None:
        """`leave`, for the finalizer of its consumer, which may run in any thread."""
        self._binding.finalize(self.leave)

    def new_waiter(self) -> asyncio.Future[None]:
        """What is done when there is something to take.

        Raises:
            UsageError: the stream is used from another loop.
        """
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("Two tasks wait for the same consumer; give each its own")
        binding = self._binding
        loop = binding.loop
        if loop is None or get_ident() != binding.thread_id or not loop.is_running():
            loop = binding.bind()
        return loop.create_future()

    async def take(self, timeout: float | None) -> tuple[Any, bool]:
        """(value, False) of the next item, or (the `End`, True). Cancelling a wait loses
        nothing."""
        if self._held is not None:
            self.settle()
        while True:
            while not self.items and self._killed is None:
                await self._wait(timeout)
            if self._killed is not None:
                end, self._killed = self._killed, None
                return end, True
            item = self.items.popleft()
            if self._full and len(self.items) <= self.limit // 2:
                self._drained()
            kind = type(item)
            if kind is End:
                return item, True
            if kind is Tracked:
                self._held = item
                return item.value, False
            if kind is Deferred or kind is Payload:
                self._gone(item)
                item = item.value()
                if item is NO_VALUE:
                    continue
            return item, False

    async def _wait(self, timeout: float | None) -> None:
        self._waiter = self.new_waiter()
        try:
            async with asyncio.timeout(timeout):
                await self._waiter
        except builtins.TimeoutError:
            raise TimeoutError("Stream consumer iteration timed out") from None
        finally:
            self._waiter = None


MARKS = (Tracked, End, Deferred, Payload)
"""What stands in a queue for something else than a value."""


def own_binding() -> LoopBinding:
    """The binding of a stream that is no part of a server or a client."""
    return LoopBinding(
        "a stream", "Have its loop do it: `loop.call_soon_threadsafe(stream.write, value)`"
    )
