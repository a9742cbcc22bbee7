"""Inbox: the backlog of one consumer, with special entries for ends and deferred values."""

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
"""Milliseconds or a timedelta; None waits forever."""


class Tracked:
    """A value whose writer is called back when every consumer has processed it."""

    __slots__ = ("_done", "_holders", "value")

    value: Any

    def __init__(self, value: Any, done: Callable[[], None]) -> None:
        self.value = value
        self._done = done
        self._holders = 1

    def hold(self) -> None:
        """Count one more holder."""
        self._holders += 1

    def release(self) -> None:
        """Remove one holder; the last one calls back."""
        self._holders -= 1
        if self._holders == 0:
            self._done()


class End:
    """The end of a stream in a backlog, or the error that ends a loop over the stream."""

    __slots__ = ("error", "value")

    value: Any

    def __init__(self, value: Any, error: Exception | None = None) -> None:
        self.value = value
        self.error: Exception | None = error


NO_VALUE: Any = object()
"""The result of a `Deferred` or a `Payload` that turns out to have no value: it is skipped."""

MADE_WEIGHT = 32
"""Bytes of memory that a decoded value may take for each byte it was made of: 27 for a list of
empty lists, 30 for a list of empty dicts, in CPython 3.11."""

TEXT_WEIGHT = 4
"""The same for a text: each character takes four bytes if any of them is an emoji."""


class Deferred:
    """A value that is made when the first consumer takes it.

    Attributes:
        size: the bytes that it counts in a gauge.
    """

    __slots__ = ("_make", "_value", "size")

    def __init__(self, size: int, make: Callable[[], Any]) -> None:
        """`make()` returns the value, or NO_VALUE."""
        self.size: int = size
        self._make: Callable[[], Any] | None = make
        self._value: Any = None

    def value(self) -> Any:
        """Make the value, unless it was made before, and return it."""
        if self._make is not None:
            make, self._make = self._make, None
            self._value = make()
        return self._value


class Payload(msgspec.Struct, eq=False, gc=False):
    """A published value as its bytes: each consumer decodes it for itself.

    That way a backlog holds the bytes, and not values that may be 30 times as large. `decode`
    returns the value, or NO_VALUE.
    """

    data: bytes
    decode: Callable[[bytes], Any]

    def value(self) -> Any:
        """Decode the value."""
        return self.decode(self.data)


class Gauge:
    """Backpressure gauge: tells the writer when the consumers of some streams fall behind.

    Calls `changed(True)` when a consumer's backlog exceeds `limit` values or all backlogs together
    `size_limit` bytes, and `changed(False)` when all have drained to half of it.

    Attributes:
        size: bytes of the deferred values in all backlogs.
    """

    __slots__ = ("_changed", "_full", "_large", "limit", "size", "size_limit")

    def __init__(
        self, limit: int, changed: Callable[[bool], None], size_limit: int = sys.maxsize
    ) -> None:
        self.limit: int = limit
        self.size_limit: int = size_limit
        self.size: int = 0
        self._changed = changed
        self._full = 0
        self._large = False

    def grow(self, size: int) -> None:
        """Count the bytes of a deferred value that was written."""
        self.size += size
        if not self._large and self.size > self.size_limit:
            self._large = True
            self.filled()

    def shrink(self, size: int) -> None:
        """Count the bytes of a deferred value that was taken or dropped."""
        self.size -= size
        if self._large and self.size <= self.size_limit // 2:
            self._large = False
            self.drained()

    def filled(self) -> None:
        """Count a backlog that exceeds its limit."""
        if not self._full:
            self._changed(True)
        self._full += 1

    def drained(self) -> None:
        """Count a backlog that has drained to half of its limit, or is dropped."""
        self._full -= 1
        if not self._full:
            self._changed(False)


_EMPTY: deque[Any] = deque()
"""The backlog of a consumer that never had a value: an empty deque takes 760 bytes."""


class Inbox:
    """The backlog of one consumer.

    The stream refers to the inbox, and never to the consumer, so that a consumer without other
    references can remove itself from the stream.

    `StreamDemux.put` and `Consumer.__anext__` handle the common case with the attributes and
    without a call; both say what that saves.

    Attributes:
        id: the consumer's number.
        items: the backlog: values, and the marks in `MARKS`.
        limit: how many values may wait before the gauge is called.
        full: whether more than `limit` values were waiting, and no drain to half of it was seen.
        timeout: seconds that an iteration waits; None is forever.
        waiter: the future of the task that waits for a value.
        tracked: the value that the consumer is processing, if its writer wants to know.
        killed: the end to return at once; None before `kill`.
        on_removed: called to remove this inbox from its stream.
    """

    __slots__ = (
        "_binding",
        "_gauge",
        "full",
        "id",
        "items",
        "killed",
        "limit",
        "on_removed",
        "timeout",
        "tracked",
        "waiter",
    )

    def __init__(
        self,
        id: int,
        timeout: Timeout,
        on_removed: Callable[[Inbox], None],
        binding: LoopBinding,
        gauge: Gauge | None = None,
    ) -> None:
        self.id: int = id
        self._binding = binding
        self._gauge = gauge
        self.limit: int = sys.maxsize if gauge is None else gauge.limit
        self.full: bool = False
        self.timeout: float | None = seconds(timeout)
        self.on_removed: Callable[[Inbox], None] = on_removed
        self.items: deque[Any] = _EMPTY
        self.waiter: asyncio.Future[None] | None = None
        self.tracked: Tracked | None = None
        self.killed: End | None = None

    def __len__(self) -> int:
        return len(self.items)

    def put(self, item: Any) -> None:
        """Add a value or a mark, and wake the consumer."""
        if type(item) is Tracked:
            item.hold()
        items = self.items
        if items is _EMPTY:
            items = self.items = deque[Any]()
        items.append(item)
        if len(items) > self.limit:
            self._filled()
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def put_payload(self, item: Payload) -> None:
        """Add a value that each consumer decodes for itself."""
        self.put(item)

    def put_deferred(self, item: Deferred) -> None:
        """Add a value that is made later."""
        if self._gauge is not None:
            self._gauge.grow(item.size)
        self.put(item)

    def _filled(self) -> None:
        if not self.full and self._gauge is not None:
            self.full = True
            self._gauge.filled()

    def end(self, value: Any) -> None:
        """Add the end of the stream after the backlog."""
        self.put(End(value))

    def kill(self, value: Any, error: Exception | None = None) -> None:
        """Drop the backlog, and end the consumer's loop now, with an error if there is one."""
        self.clear()
        self.killed = End(value, error)
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        """Leave the stream, and raise `error` in the consumer's loop."""
        self.release()
        self.kill(None, error)
        self.on_removed(self)

    def clear(self) -> None:
        """Drop the backlog."""
        items, self.items = self.items, _EMPTY
        if self.full:
            self._drained()
        for item in items:
            if type(item) is Tracked:
                item.release()
            elif type(item) is Deferred or type(item) is Payload:
                self._removed(item)

    def take_payload(self) -> Any:
        """Take the next item, which is a `Payload`, and return its value or NO_VALUE."""
        return self.items.popleft().value()

    def _removed(self, item: Any) -> None:
        if self._gauge is not None:
            self._gauge.shrink(item.size)

    def _drained(self) -> None:
        self.full = False
        if self._gauge is not None:
            self._gauge.drained()

    def release(self) -> None:
        """Release the tracked value that the consumer has processed."""
        tracked, self.tracked = self.tracked, None
        if tracked is not None:
            tracked.release()

    def leave(self) -> None:
        """Leave the stream, and drop the backlog."""
        self._binding.check()
        self.release()
        self.on_removed(self)
        self.clear()

    def finalize(self) -> None:
        """Leave the stream from the consumer's finalizer, which may run in any thread."""
        self._binding.finalize(self.leave)

    def new_waiter(self) -> asyncio.Future[None]:
        """Create the future that `put` resolves.

        Raises:
            UsageError: the stream is used from another loop.
            RuntimeError: another task waits for the same consumer.
        """
        if self.waiter is not None and not self.waiter.done():
            raise RuntimeError("Two tasks wait for the same consumer; give each its own")
        binding = self._binding
        loop = binding.loop
        if loop is None or get_ident() != binding.thread_id or not loop.is_running():
            loop = binding.bind()
        return loop.create_future()

    async def take(self, timeout: float | None) -> tuple[Any, bool]:
        """Wait for the next item: (value, False), or (the `End`, True).

        Canceling take() is safe: no value is lost; the next call returns it.
        """
        if self.tracked is not None:
            self.release()
        while True:
            while not self.items and self.killed is None:
                await self._wait(timeout)
            if self.killed is not None:
                end, self.killed = self.killed, None
                return end, True
            item = self.items.popleft()
            if self.full and len(self.items) <= self.limit // 2:
                self._drained()
            kind = type(item)
            if kind is End:
                return item, True
            if kind is Tracked:
                self.tracked = item
                return item.value, False
            if kind is Deferred or kind is Payload:
                self._removed(item)
                item = item.value()
                if item is NO_VALUE:
                    continue
            return item, False

    async def _wait(self, timeout: float | None) -> None:
        self.waiter = self.new_waiter()
        try:
            async with asyncio.timeout(timeout):
                await self.waiter
        except builtins.TimeoutError:
            raise TimeoutError("Stream consumer iteration timed out") from None
        finally:
            self.waiter = None


MARKS = (Tracked, End, Deferred, Payload)
"""The types that stand in a backlog in place of a value."""


def own_binding() -> LoopBinding:
    """Create the binding of a stream that belongs to no server or client."""
    return LoopBinding(
        "a stream", "Have its loop do it: `loop.call_soon_threadsafe(stream.write, value)`"
    )
