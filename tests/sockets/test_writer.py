"""FrameWriter on its own: its limit, its end, and a connection that cannot be written to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from socketcluster.codecs.json import JSONCodec
from socketcluster.protocol.wire import Wire
from socketcluster.sockets.flusher import Flusher
from socketcluster.sockets.writer import FrameWriter


class Connection:
    """What a writer uses of a connection."""

    def __init__(self, error: Exception | None = None) -> None:
        self.written: list[bytes] = []
        self.error = error
        self.is_aborted = False

    def write(self, frames: Sequence[bytes]) -> int:
        if self.error is not None:
            raise self.error
        self.written += frames
        return 0

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.is_aborted = True


def made(connection: Connection, limit: int = 110) -> tuple[FrameWriter, list[int]]:
    """A writer, and a list with its buffer size at each overflow."""
    overflows: list[int] = []

    class Writer(FrameWriter):
        def overflow(self) -> None:
            overflows.append(self.get_buffer_size())

    return Writer(connection, Wire(JSONCodec()), limit, Flusher()), overflows  # type: ignore[arg-type]


async def test_the_bytes_of_written_frames_are_counted() -> None:
    connection = Connection()
    writer, overflows = made(connection)

    def written() -> int:
        return sum(map(len, connection.written))

    assert writer.get_sent_size() == 0
    for number in range(20):  # In all they are larger than the limit several times.
        if number % 2:
            writer.start_batch()
            writer.send({"event": "held"})
        writer.send({"event": "x" * number})
        assert writer.get_sent_size() == written()
        writer.flush_batch()
        await asyncio.sleep(0)
        assert writer.get_sent_size() == written()
    assert written() > 400
    assert overflows == []
    writer.send({"event": "dropped"})
    writer.start_batch()
    writer.send({"event": "dropped, too"})
    writer.close()
    await asyncio.sleep(0)
    assert writer.get_sent_size() == written()


@pytest.mark.parametrize("batch", [False, True])
async def test_more_than_the_limit_overflows(batch: bool) -> None:
    writer, overflows = made(Connection())
    if batch:
        writer.start_batch()
    for _ in range(3):
        writer.send({"event": "x" * 20})
        assert overflows == []
    writer.send({"event": "x" * 20})
    (size,) = overflows
    assert size > 110
    await asyncio.sleep(0)


@pytest.mark.parametrize("reads", [False, True])
async def test_frames_that_the_transport_keeps_count_until_they_are_read(reads: bool) -> None:
    class Slow(Connection):
        kept = 0

        def write(self, frames: Sequence[bytes]) -> int:
            self.kept += sum(map(len, frames))
            return self.kept

        def get_write_buffer_size(self) -> int:
            return self.kept

    connection = Slow()
    writer, overflows = made(connection)
    for _ in range(3):
        writer.send({"event": "x" * 20})
        await asyncio.sleep(0)
        assert overflows == []
    if reads:
        connection.kept = 0
    writer.send({"event": "x" * 20})
    assert len(overflows) == (not reads)
    await asyncio.sleep(0)


async def test_a_closed_writer_holds_and_writes_nothing() -> None:
    connection = Connection()
    writer, overflows = made(connection)
    writer.start_batch()
    writer.send({"event": "before"})
    writer.close()
    writer.start_batch()
    assert writer.batch is None
    writer.send({"event": "x" * 200})
    writer.send_message("x" * 200)
    writer.flush_batch()
    await asyncio.sleep(0)
    assert connection.written == []
    assert writer.get_buffer_size() == writer.get_held_size() == 0
    assert overflows == []


async def test_a_connection_that_cannot_be_written_to_is_aborted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = Connection(OSError("Gone"))
    writer, _ = made(connection)
    writer.send({"event": "x"})
    await asyncio.sleep(0)
    assert connection.is_aborted
    assert "A connection could not be written to" in caplog.text
