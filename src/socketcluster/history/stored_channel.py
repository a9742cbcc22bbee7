"""StoredChannel: follows the history of one channel without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from socketcluster.brokers.storing import Page, Position, StoredMessage
from socketcluster.errors import BrokerError
from socketcluster.history.catching_up import CatchUp
from socketcluster.history.held import Held, HeldMessage
from socketcluster.history.numbers import Numbers
from socketcluster.history.options import History
from socketcluster.history.position_log import PositionLog
from socketcluster.history.reading import SharedReads
from socketcluster.history.replay import Replay

PAGE = 1000
"""The most messages that one read of missing ones returns."""

SLICE_BYTES = 1024 * 1024
SLICE_SECONDS = 0.05
"""The bytes of missing messages to deliver before a pause, and its length: clients that cannot read
them at once lose their connection (`max_outbound_buffer`)."""

CATCH_UP_SECONDS = 5.0
"""How long a client waits whose position is ahead of this process."""


class StoredSink(Protocol):
    """Receives what a stored channel delivers and reports."""

    def readable(self, channel: str, payload: bytes) -> bytes | None:
        """Return the data of a message; report it and return None if it is foreign."""

    def deliver_stored(self, channel: str, offset: int, payload: bytes) -> None:
        """Deliver a message to the channel's subscribers."""

    def epoch_changed(self, channel: str) -> None:
        """Called once the position is known, and whenever it is one of another epoch."""

    def history_lost(self, channel: str, seconds: float, reason: str) -> None:
        """Report that messages are missing which can no longer be read."""

    def history_failed(self, channel: str, error: BaseException, action: str = "history") -> None:
        """Report an error that no call can raise; `action` is 'history' or 'foreign'."""


class StoredChannel:
    """One stored channel with a subscriber in this process.

    It delivers each message once, in the order of the offsets. A message whose predecessor is not
    the position is held until the missing ones are read. A gap that cannot be filled is reported.

    Attributes:
        name: of the channel.
        history: what the channel's rule says.
        position: the place of the newest delivered message; None until it is known, as in an
            outage that began before the subscription.
        log: where the position was, and where the present epoch began.
        replay: what clients missed.
    """

    __slots__ = (
        "_behind_since",
        "_catching_up",
        "_held",
        "_numbers",
        "_reads",
        "_sink",
        "history",
        "log",
        "name",
        "position",
        "replay",
    )

    def __init__(self, name: str, history: History, reads: SharedReads, sink: StoredSink) -> None:
        self.name: str = name
        self.history: History = history
        self.position: Position | None = None
        self._reads = reads
        self._numbers: Numbers = reads.numbers
        self._sink = sink
        self.log: PositionLog = PositionLog(history.recover_limit, reads.logs)
        self.replay: Replay = Replay(self, reads)
        self._held: Held | None = Held([])  # None while it follows the live messages.
        self._behind_since = 0.0
        self._catching_up = CatchUp(
            self._read_missing,
            lambda: reads.broker.ready,
            lambda error: sink.history_failed(name, error),
        )

    async def start(self) -> None:
        """Begin to follow, after the broker's subscription: read the position.

        Messages that came meanwhile are delivered. If the backend is away, the position is read
        when it is back.

        Raises:
            BrokerError: the backend refused.
        """
        self._stop(self._held or Held([]))
        await self._catching_up.begin()

    def close(self) -> None:
        """Follow no more."""
        self._stop(Held([]))

    def _stop(self, held: Held) -> None:
        self.position = None
        self.log.forget()
        self._held = held
        self._catching_up.stop()
        self.replay.restart()

    # Following

    def received(self, epoch: str, offset: int, previous: int, payload: bytes) -> None:
        """Deliver a message of the broker, or hold it until the missing ones before it are read."""
        position = self.position
        if (
            self._held is None
            and position is not None
            and position.offset == previous
            and position.epoch == epoch
        ):
            self._deliver(epoch, StoredMessage(offset, previous, payload))
            return
        message = HeldMessage(epoch, offset, previous, payload)
        if self._held is None:
            if _is_old(message, position):
                return
            self._hold(Held([]))
            self._catching_up.start()
        if self._held is not None:
            self._held.add(message)

    def _deliver(self, epoch: str, message: StoredMessage) -> None:
        offset = message.offset
        self.position = Position(epoch, offset)
        self._numbers.count += 1
        self.log.add(self._numbers.count, offset)
        readable = self.readable(message)
        self.replay.delivered(message, readable)
        if readable is not None:
            self._sink.deliver_stored(self.name, offset, readable.payload)

    def readable(self, message: StoredMessage) -> StoredMessage | None:
        """Return a message as clients receive it; None if it is foreign, which is reported."""
        payload = self._sink.readable(self.name, message.payload)
        if payload is message.payload:
            return message
        return None if payload is None else StoredMessage(message.offset, message.previous, payload)

    def _hold(self, held: Held, seconds: float = 0.0) -> None:
        self._held = held
        self._behind_since = asyncio.get_running_loop().time() - seconds

    def resync(self, seconds: float = 0.0) -> None:
        """Read the missing messages, because the broker may have lost messages for some seconds."""
        if self._held is None:
            self._hold(Held([]), seconds)
        else:
            self._held.is_again = True
        self._catching_up.start()

    # Reading missing messages

    async def _read_missing(self) -> bool:
        """Read once, deliver the missing messages and the held ones; return whether all are there.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        known, held = self.position, self._held
        if held is None:
            return True
        before, dropped, held.is_again = len(held.messages), held.dropped, False
        page = await _read_page(self._reads, self.name, self.history, known)
        if self.position is not known or self._held is not held:
            return False  # It was closed, began anew, or another read was faster.
        if known is None:
            self._move(page.top)
            self.replay.note_page(page)
        elif page.top.epoch != known.epoch:
            self._lose("its history was lost")
            self._move(page.top)
        elif page.top.offset < known.offset:
            if not await self._renew_epoch(known):
                return False
        elif not await self._deliver_page(page):
            return False  # Another page follows.
        else:
            return self._release(held, before if held.dropped == dropped else 0)
        return self._release(held, 0) and self._has_reached(page.top)

    def _move(self, top: Position) -> None:
        """Take a position that does not follow: before the held messages, or else the newest."""
        offset = top.offset if self._held is None else self._held.start(*top)
        if self.position is not None and self.position.epoch == top.epoch:
            offset = max(offset, self.position.offset)
        self.position = Position(top.epoch, offset)
        self.replay.restart()
        if self.log.restart(self._numbers.count, self.position):
            self._sink.epoch_changed(self.name)

    async def _renew_epoch(self, known: Position) -> bool:
        """Have a channel that went back renew its epoch; return False to read again."""
        top = await self._reads.renew_epoch(self.name, self.history.retention, known)
        if top.epoch == known.epoch and top.offset < known.offset:
            raise BrokerError(f"The backend gave the channel {self.name!r} no new epoch")
        if top.epoch == known.epoch or self.position is not known:
            return False
        self._lose("the backend lost the newest ones")
        self._move(top)
        return True

    def _has_reached(self, top: Position) -> bool:
        """Whether the held messages led to a position; if not, those behind them are to be read."""
        position = self.position
        if position is None or position.epoch != top.epoch or position.offset >= top.offset:
            return True
        self._held = self._held or Held([])
        return False

    def _lose(self, reason: str) -> None:
        seconds = asyncio.get_running_loop().time() - self._behind_since
        self._sink.history_lost(self.name, seconds, reason)

    async def _deliver_page(self, page: Page) -> bool:
        """Deliver the missing messages of a page; return whether they are the last ones."""
        position = self.position
        assert position is not None
        messages = [message for message in page.messages if message.offset > position.offset]
        if not page.complete:
            self._lose("they are no longer stored")
        elif messages:
            self._numbers.filled += 1
        deliver = partial(self._deliver, position.epoch)
        if not await _deliver_in_slices(messages, deliver, lambda: self.position):
            return False
        if len(page.messages) >= PAGE and messages and messages[-1].offset < page.top.offset:
            return False
        if self.position is not None and self.position.offset < page.top.offset:
            self._move(page.top)  # The newest ones expired.
        return True

    def _release(self, held: Held, before: int) -> bool:
        """Deliver the held messages, as far as they follow; return whether all of them do.

        `before` of the messages were there before the read.
        """
        self._held = None
        for index, message in enumerate(held.messages):
            position = self.position
            if position is None or _is_old(message, position):
                continue
            if message.epoch == position.epoch and message.previous == position.offset:
                self._deliver(position.epoch, StoredMessage(*message[1:]))
            elif index >= before:
                self._held = Held(held.messages[index:])
                return False
            elif message.epoch == position.epoch:
                error = _foreign_error(self.name, message, position)
                self._sink.history_failed(self.name, error, "foreign")
        self._held = Held([]) if held.is_again else None
        return not held.is_again

    # Answers

    async def catch_up_with(self, since: Position) -> None:
        """See `FollowedChannel`."""
        position = self.position
        if position is None or since.epoch != position.epoch or since.offset <= position.offset:
            return
        if self._held is None:
            self.resync()
        await self._catching_up.wait(CATCH_UP_SECONDS)

    def position_at(self, number: int) -> Position | None:
        """Return the position when the process's count was `number`.

        None if that was before this process followed the channel, or too long ago.
        """
        offset = self.log.offset_at(number)
        position = self.position
        return None if offset is None or position is None else Position(position.epoch, offset)

    async def page_since(self, since: Position, limit: int) -> Page:
        """Return the messages behind a position, up to that of this process. Many calls read once.

        Raises:
            BrokerError: the backend is away, or refused; or the position is not known yet.
        """
        return await self.replay.page_since(since, limit)


async def _read_page(
    reads: SharedReads, name: str, history: History, known: Position | None
) -> Page:
    """Read the messages behind a position, or else the position."""
    if known is not None:
        return await reads.read(name, history.retention, known, PAGE)
    if history.recover == "latest":
        return await reads.read(name, history.retention, None, 1, reverse=True)
    return await reads.read(name, history.retention, None, 0)


async def _deliver_in_slices(
    messages: Sequence[StoredMessage],
    deliver: Callable[[StoredMessage], None],
    position: Callable[[], Position | None],
) -> bool:
    """Deliver messages with pauses; return False if the channel was closed or began anew."""
    size = 0
    for message in messages:
        if size > SLICE_BYTES:
            size, known = 0, position()
            await asyncio.sleep(SLICE_SECONDS)
            if position() is not known:
                return False
        deliver(message)
        size += len(message.payload)
    return True


def _is_old(message: HeldMessage, position: Position | None) -> bool:
    return (
        position is not None
        and message.epoch == position.epoch
        and message.offset <= position.offset
    )


def _foreign_error(name: str, message: HeldMessage, position: Position) -> BrokerError:
    """Return the error of a message that a read which began after it did not find."""
    return BrokerError(
        f"A message on the channel {name!r} of the backend is foreign: its offset "
        f"{message.offset} is not in the history, which ends at {position.offset}"
    )
