"""ConvertedStream: a stream whose consumers convert each value as they take it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from socketcluster.options import seconds
from socketcluster.streams.consumable import ConsumableStream, Consumer, StreamItem
from socketcluster.streams.demux import StreamDemux
from socketcluster.streams.inbox import NO_VALUE, Inbox, Timeout

T = TypeVar("T")


class ConvertingConsumer(Consumer[T]):
    """A consumer that returns `convert(value)` for each value, and skips NO_VALUE.

    The values of its backlog are not converted yet.
    """

    __slots__ = ("_convert",)

    def __init__(
        self,
        inbox: Inbox,
        attach: Callable[[Inbox], None],
        convert: Callable[[Any], Any],
    ) -> None:
        super().__init__(inbox, attach)
        self._convert = convert

    async def __anext__(self) -> T:
        try:
            if self._inbox.timeout is None:
                while True:
                    value = self._convert(await super().__anext__())
                    if value is not NO_VALUE:
                        return cast("T", value)
            item = await self.next()
        except BaseException:
            del self  # As in `Consumer.__anext__`.
            raise
        if item.done:
            raise StopAsyncIteration
        return cast("T", item.value)

    async def next(self, timeout: Timeout = None) -> StreamItem[T]:
        """See `Consumer.next`; the timeout is for the whole wait, also when values are skipped."""
        within = self._inbox.timeout if timeout is None else seconds(timeout)
        loop = asyncio.get_running_loop()
        deadline = None if within is None else loop.time() + within
        try:
            while True:
                left = None if deadline is None else max(0.0, deadline - loop.time()) * 1000
                item = await super().next(left)
                if item.done:
                    return item
                value = self._convert(item.value)
                if value is not NO_VALUE:
                    return StreamItem(value, False)
        except BaseException:
            del self
            raise


class ConvertedStream(ConsumableStream[T]):
    """One stream of a demux, converted.

    The demux counts its consumers like all others, and their backpressure is the same.
    """

    __slots__ = ("_convert", "_demux", "name")

    def __init__(self, demux: StreamDemux[Any], name: str, convert: Callable[[Any], Any]) -> None:
        """`convert(value)` returns the converted value, or NO_VALUE to skip it."""
        self._demux = demux
        self._convert = convert
        self.name: str = name

    def create_consumer(self, timeout: Timeout = None) -> Consumer[T]:
        """See `ConsumableStream.create_consumer`."""
        make = partial(ConvertingConsumer[T], convert=self._convert)
        return self._demux.create_consumer(self.name, timeout, make)

    def __repr__(self) -> str:
        consumers = self._demux.get_consumer_count(self.name)
        return f"<{type(self).__name__} {self.name!r} consumers={consumers}>"
