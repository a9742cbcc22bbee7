"""Logs of positions: where a channel was at a count, within a bound for all channels together."""

from __future__ import annotations

import pytest

from socketcluster.brokers.storing import Position
from socketcluster.history import position_log
from socketcluster.history.position_log import CHUNK, PositionLog, PositionLogs


def made(logs: PositionLogs, limit: int = 1000) -> PositionLog:
    log = PositionLog(limit, logs)
    log.restart(0, Position("e", 0))
    return log


def test_logs_of_many_channels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(position_log, "MAX_CHUNKS", 20)
    logs = PositionLogs()
    channels = [made(logs) for _ in range(50)]
    count = 0
    for log in channels:
        for _ in range(1000):
            count += 1
            log.add(count, count)
    lengths = [len(log) for log in channels]
    assert sum(lengths) <= (20 + 2 * len(channels)) * CHUNK
    # A channel that was last heard of long ago still knows where it is.
    assert all(log.offset_at(count) == 1000 * (n + 1) for n, log in enumerate(channels))
    # The newest one knows where it was.
    assert channels[-1].offset_at(count - 900) == count - 900
    # One that is heard of again grows again, and others become short.
    for _ in range(1000):
        count += 1
        channels[0].add(count, count)
    assert channels[0].offset_at(count - 900) == count - 900
    assert channels[-1].offset_at(count - 1000) == count - 1000
    assert channels[-1].offset_at(count - 1900) is None


def test_a_log_that_is_forgotten_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(position_log, "MAX_CHUNKS", 20)
    logs = PositionLogs()
    kept = made(logs)
    for number in range(1, 1000):
        kept.add(number, number)
    for _ in range(50):
        log = made(logs)
        for number in range(1000, 1300):
            log.add(number, number)
        log.forget()
    assert kept.offset_at(5) == 5
    assert logs.count == 1


def test_a_log_keeps_at_least_its_limit() -> None:
    log = made(PositionLogs(), limit=10)
    for number in range(1, 1000):
        log.add(number, number)
        assert log.offset_at(number - 9) == number - 9 or number < 10
        assert len(log) <= 20 + CHUNK
