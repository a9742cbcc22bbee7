"""Pages of a history in a stream of JetStream.

The offset of a publish is its sequence in the stream, which has other channels' publishes too. A
mark (`nats_streams.StreamMessage.mark`) makes the position of a channel without publishes provable.

Source: NATS documentation, "JetStream wire API Reference" (direct get).
"""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

from socketcluster.brokers.nats_names import epoch_of
from socketcluster.brokers.nats_requests import checked
from socketcluster.brokers.nats_streams import (
    FIRST_MARK,
    HistoryStream,
    StreamMessage,
    Streams,
    StreamState,
)
from socketcluster.brokers.storing import Page, Position, StoredMessage

IN_FLIGHT = 64
"""How many messages one link asks for at once."""

CHAINS = 16
"""How many parts of a range are read side by side. Each message tells where the next one may be, so
that one part is read message by message."""

MIN_PART = 8
"""The least sequences of a part."""


class HistoryReader:
    """Reads histories over one link."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def top(
        self, stream: HistoryStream, subject: str, channel: bytes, direct: bool
    ) -> tuple[StreamState, StreamMessage, Position]:
        """Return the state of a stream, the newest message of a channel, and its position.

        A channel without any message gets a mark.

        Raises:
            BrokerError: JetStream refused or is off.
        """
        state = await stream.refresh()
        epoch = epoch_of(stream.epoch, channel)
        query = {"last_by_subj": subject}
        newest = await self._streams.get(stream.name, query, direct)
        if newest is None:
            marked = checked(await self._streams.requests.ask(subject, headers=FIRST_MARK))
            newest = StreamMessage(marked["seq"], subject, time.time(), b"", marked["seq"])
            # Another process may have set a later one. This server possibly lacks ours.
            latest = await self._streams.get(stream.name, query, direct)
            if latest is not None and latest.sequence > newest.sequence:
                newest = latest
        return state, newest, Position(epoch, newest.place)

    async def read(
        self,
        stream: HistoryStream,
        channel: bytes,
        subject: str,
        since: Position | None,
        limit: int | None,
        reverse: bool,
    ) -> tuple[Page, StreamMessage]:
        """Read a page. See `StoringBroker.history`. Return the channel's newest message, too."""
        state, newest, top = await self.top(stream, subject, channel, stream.direct)
        start = top.offset if reverse else -1
        if since is not None and since.epoch == top.epoch:
            start = since.offset
        if start > top.offset:
            return Page([], top, False), newest
        if limit == 0:
            return Page([], top, since is None or since == top), newest
        reading = _Reading(self, stream, subject, state, newest, start)
        if reverse:
            messages, complete = await reading.backwards(limit)
        else:
            messages, complete = await reading.forwards(limit)
        if since is None or since.epoch != top.epoch:
            complete = since is None
        return Page(messages, top, complete), newest

    async def get(
        self, stream: HistoryStream, sequence: int, subject: str | None
    ) -> StreamMessage | None:
        """Return the message with a sequence, or the first one of a subject from there on."""
        query: dict[str, object] = {"seq": sequence}
        if subject is not None:
            query["next_by_subj"] = subject
        async with self._in_flight:
            return await self._streams.get(stream.name, query, stream.direct)


class _Reading:
    """One page.

    Args:
        start: the offset to start behind, or before if backwards; -1 for the oldest publish.
    """

    def __init__(
        self,
        reader: HistoryReader,
        stream: HistoryStream,
        subject: str,
        state: StreamState,
        newest: StreamMessage,
        start: int,
    ) -> None:
        self._reader = reader
        self._stream = stream
        self._subject = subject
        self._first = max(1, state.first)
        self._newest = newest
        self._start = start
        self._size = stream.retention.size
        self._oldest_shown = time.time() - stream.retention.ttl

    async def forwards(self, limit: int | None) -> tuple[list[StoredMessage], bool]:
        """Return messages behind the start, and whether none was dropped before them."""
        start = self._start
        kept = False  # Whether the message at the start is in the stream, so all later ones are.
        if start > 0:
            witness = await self._reader.get(self._stream, start, None)
            kept = witness is not None and witness.subject == self._subject
        found = await self._scan(start + 1, limit if kept else None)
        if limit is not None and kept and len(found) >= limit > self._count_shown(found):
            found = await self._scan(start + 1, None)
        placed, dropped = self._place(found)
        covered = (
            kept
            or self._first == start + 1  # The stream has dropped nothing behind the start.
            or (bool(found) and found[0].mark is not None and found[0].mark <= start)
        )
        complete = covered and not dropped
        if complete and placed:
            placed[0] = StoredMessage(placed[0].offset, start, placed[0].payload)
        return placed[:limit], complete

    async def backwards(self, limit: int | None) -> tuple[list[StoredMessage], bool]:
        """Return messages up to the start, and whether the first of them is at the start."""
        start = self._start
        found: list[StreamMessage] = []
        if limit is not None:
            found = await self._scan_down(start, limit + 1)
        if limit is None or self._count_shown(found) <= limit:
            # The oldest one may be more than readers see: count from the newest.
            found = await self._scan(1, None)
        placed, _ = self._place(found)
        shown = [message for message in placed if message.offset <= start]
        shown.reverse()
        marks = [message.sequence for message in found if message.mark is not None]
        complete = start == 0 or start in marks or (bool(shown) and shown[0].offset == start)
        return shown[:limit], complete

    def _count_shown(self, found: list[StreamMessage]) -> int:
        return sum(message.mark is None and self._is_shown(message) for message in found)

    def _place(self, found: list[StreamMessage]) -> tuple[list[StoredMessage], bool]:
        """Return the newest publishes that readers see, and whether others were dropped."""
        publishes: list[StoredMessage] = []
        before, dropped = 0, 0
        for message in found:
            if message.mark is None:
                publishes.append(StoredMessage(message.sequence, before, message.payload))
                dropped += not self._is_shown(message)
            before = message.place
        dropped = max(dropped, len(publishes) - self._size)
        return publishes[dropped:], dropped > 0

    def _is_shown(self, message: StreamMessage) -> bool:
        return message.stored_at > self._oldest_shown

    async def _scan(self, low: int, limit: int | None) -> list[StreamMessage]:
        """Return the channel's messages from a sequence on, at least `limit` if there are."""
        newest = self._newest
        low = max(low, self._first)
        if newest.sequence < low:
            return []
        found: list[StreamMessage] = []
        end = newest.sequence
        span = end - low if limit is None else 2 * limit
        while low < end and (limit is None or len(found) < limit):
            high = min(low + span, end)
            found += await self._range(low, high)
            low, span = high, 2 * span
        return found if low < end else [*found, newest]

    async def _scan_down(self, high: int, count: int) -> list[StreamMessage]:
        """Return the channel's messages up to a sequence, at least `count` if there are."""
        newest = self._newest
        found = [newest] if newest.sequence <= high else []
        end, span = min(high + 1, newest.sequence), 2 * count
        while end > self._first and len(found) < count:
            low = max(self._first, end - span)
            found = await self._range(low, end) + found
            end, span = low, 2 * span
        return found

    async def _range(self, low: int, high: int) -> list[StreamMessage]:
        """Return the channel's messages with a sequence from `low` to below `high`."""
        parts = max(1, min(CHAINS, (high - low) // MIN_PART))
        bounds = [low + (high - low) * part // parts for part in range(parts + 1)]
        chains = await asyncio.gather(*(self._chain(*bound) for bound in pairwise(bounds)))
        return [message for chain in chains for message in chain]

    async def _chain(self, low: int, high: int) -> list[StreamMessage]:
        found: list[StreamMessage] = []
        while low < high:
            message = await self._reader.get(self._stream, low, self._subject)
            if message is None or message.sequence >= high:
                break
            found.append(message)
            low = message.sequence + 1
        return found
