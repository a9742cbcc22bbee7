"""FlowControl on its own: what pauses the reading of a connection, and what resumes it."""

from __future__ import annotations

from typing import Any

import pytest

from socketcluster import StreamDemux
from socketcluster.server.parts.flow_control import FlowControl


class Reading:
    """A connection as far as it is read from."""

    def __init__(self) -> None:
        self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Owner:
    def __init__(self) -> None:
        self.behind: list[bool] = []

    def loops_changed(self, behind: bool) -> None:
        self.behind.append(behind)


def control(limit: int = 4, size_limit: int = 100) -> tuple[FlowControl, Reading, list[bool]]:
    connection, owner = Reading(), Owner()
    return FlowControl(connection, limit, size_limit, owner), connection, owner.behind  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message", "most", "half"), [(b"x", 4, 2), (b"x" * 30, 3, 1)], ids=["number", "bytes"]
)
def test_a_backlog_pauses_until_half_of_it_is_gone(message: bytes, most: int, half: int) -> None:
    flow, connection, _ = control()
    for _ in range(most):
        flow.add(message)
        assert not connection.paused
    flow.add(message)
    assert connection.paused
    assert flow.size == (most + 1) * len(message)
    for left in reversed(range(half + 1, most + 1)):
        flow.remove(message)
        assert connection.paused, left
    flow.remove(message)
    assert not connection.paused
    assert flow.size == half * len(message)


def test_a_dropped_backlog_resumes() -> None:
    flow, connection, _ = control()
    for _ in range(5):
        flow.add(b"x")
    flow.clear()
    assert not connection.paused
    assert flow.size == 0
    flow.clear()
    assert not connection.paused


async def test_loops_that_are_behind_pause() -> None:
    flow, connection, behind = control()
    assert flow.gauge is flow.gauge
    demux = StreamDemux[int](flow.gauge)
    consumer = demux.create_consumer("x")
    for number in range(5):
        assert not connection.paused
        demux.write("x", number)
    assert connection.paused
    assert behind == [True]
    for _ in range(2):
        await consumer.next()
    assert connection.paused
    await consumer.next()
    assert not connection.paused
    assert behind == [True, False]


def test_bytes_of_loops_count() -> None:
    flow, connection, _ = control()
    demux = StreamDemux[int](flow.gauge)
    consumer = demux.create_consumer("x")
    flow.add(b"x" * 10)
    demux.write_deferred("x", 90, lambda: 1)
    assert flow.total_size == 100
    assert not connection.paused
    demux.write_deferred("x", 20, lambda: 1)
    assert connection.paused
    consumer.return_()
    assert not connection.paused
    assert flow.total_size == 10


REASONS: dict[str, tuple[Any, Any]] = {
    "held": (lambda flow: flow.hold(True), lambda flow: flow.hold(False)),
    "backlog": (lambda flow: flow.add(b"x" * 101), lambda flow: flow.remove(b"x" * 101)),
    "loops": (lambda flow: flow.gauge.filled(), lambda flow: flow.gauge.drained()),
}


@pytest.mark.parametrize("first", REASONS)
@pytest.mark.parametrize("second", REASONS)
def test_the_last_reason_to_pause_has_to_go(first: str, second: str) -> None:
    if first == second:
        return
    flow, connection, _ = control()
    for reason in (first, second):
        REASONS[reason][0](flow)
        assert connection.paused
    REASONS[first][1](flow)
    assert connection.paused
    assert flow.paused
    REASONS[second][1](flow)
    assert not connection.paused
    assert not flow.paused


def test_a_pause_in_between_is_remembered_once() -> None:
    flow, _, _ = control()
    assert not flow.was_paused()
    flow.hold(True)
    flow.hold(False)
    assert flow.was_paused(), "though it is not any more"
    assert not flow.was_paused()
    flow.hold(True)
    assert flow.was_paused()
    assert flow.was_paused(), "it still is"
    flow.hold(False)
    assert flow.was_paused()
    assert not flow.was_paused()
