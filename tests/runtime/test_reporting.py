"""Rate-limited logging. Guarantee 10: the first of a kind in full, then counts."""

from __future__ import annotations

import functools
import logging
import threading
import time
from typing import Any

import pytest

from socketcluster.runtime.reporting import MAX_KINDS, Reporter, clean, formatted, place_of
from socketcluster.sockets.flusher import report_unwritable
from socketcluster.testing import clock

logger = logging.getLogger("socketcluster.tests")


@pytest.fixture
def reporter(caplog: Any) -> Reporter:
    caplog.set_level(logging.DEBUG)
    return Reporter(logger)


def fail(text: str = "oops") -> None:
    raise ValueError(text)


def caught(text: str = "oops") -> ValueError:
    try:
        fail(text)
    except ValueError as error:
        return error
    raise AssertionError


def lines(caplog: Any) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def test_the_first_in_full_then_counts(reporter: Reporter, caplog: Any) -> None:
    async with clock() as moving:
        for _ in range(1000):
            reporter.fault("It failed", caught())
        assert caplog.text.count("Traceback") == 1
        assert lines(caplog) == ["It failed"]
        await moving.advance(1)
        # The last count appears although nothing more is reported.
        assert lines(caplog)[1:] == ["… and 999 more of this kind in the last second: It failed"]
        for _ in range(3):
            reporter.fault("It failed", caught())
            await moving.advance(0.4)
        assert lines(caplog)[2:] == ["… and 3 more of this kind in the last second: It failed"]
        await moving.advance(2)
        caplog.clear()
        # After a quiet second the next one is the first of its kind again.
        reporter.fault("It failed", caught())
        assert lines(caplog) == ["It failed"]
        assert "Traceback" in caplog.text
        await moving.advance(2)
    assert len(caplog.records) == 1


def test_without_a_loop_the_next_report_counts(
    reporter: Reporter, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 5.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(5):
        reporter.fault("It failed", caught())
    now = 6.0
    reporter.fault("It failed", caught())
    reporter.flush()
    assert lines(caplog) == [
        "It failed",
        "… and 4 more of this kind in the last second: It failed",
        "… and 1 more of this kind in the last second: It failed",
    ]


async def test_a_loop_that_is_busy_does_not_keep_the_counts(
    reporter: Reporter, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 5.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    reporter.line("a", logging.WARNING, "a")
    reporter.line("a", logging.WARNING, "a")
    now = 8.0
    reporter.line("a", logging.WARNING, "a")
    assert lines(caplog) == ["a", "… and 1 more of this kind in the last second: a"]
    reporter.flush()


async def test_kinds(reporter: Reporter, caplog: Any) -> None:
    reporter.fault("one", caught())
    reporter.fault("one", caught("another text"))  # The same line of code.
    try:
        raise ValueError
    except ValueError as error:
        reporter.fault("two", error)
    try:
        int("x")
    except ValueError as error:
        reporter.fault("three", error)
    reporter.fault("four", caught(), kind="another procedure")
    reporter.fault("five", caught(), logging.WARNING)
    reporter.fault("six", KeyError())  # Which nobody raised.
    assert lines(caplog) == ["one", "two", "three", "four", "five", "six"]
    reporter.flush()
    assert lines(caplog)[6:] == ["… and 1 more of this kind in the last second: one"]


async def test_kinds_that_are_remembered_are_bounded(reporter: Reporter, caplog: Any) -> None:
    reporter.line("first", logging.WARNING, "first")
    reporter.line("first", logging.WARNING, "first")
    for number in range(2 * MAX_KINDS):
        reporter.line(f"line {number}", logging.WARNING, number)
        reporter.line_once(f"once {number}", number)
    assert len(reporter._kinds) == len(reporter._logged_once) == MAX_KINDS
    assert "… and 1 more of this kind in the last second: first" in lines(caplog)
    reporter.flush()
    assert not reporter._kinds


async def test_once(reporter: Reporter, caplog: Any) -> None:
    for _ in range(3):
        reporter.line_once("a", "kind")
    reporter.line_once("b", "other", logging.DEBUG)
    assert lines(caplog) == ["a", "b"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]


async def test_a_level_that_is_off_costs_no_memory(reporter: Reporter, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, logger.name)
    reporter.line("a", logging.DEBUG, "a")
    assert not caplog.records
    assert not reporter._kinds


async def test_from_another_thread(reporter: Reporter, caplog: Any) -> None:
    def report() -> None:
        for _ in range(3):
            reporter.fault("In a thread", caught())

    thread = threading.Thread(target=report)
    thread.start()
    thread.join()
    reporter.flush()
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "text",
    ["x" * 100_000, "a\nTraceback (most recent call last):\n  forged", "\x1b[31mred\x00", "\ud83d"],
    ids=["long", "line breaks", "controls", "surrogate"],
)
async def test_what_a_peer_sent_makes_no_line_long_and_none_more(
    reporter: Reporter, caplog: Any, text: str
) -> None:
    def handle() -> None:
        try:
            fail(text)
        except ValueError as error:
            error.add_note(text)
            raise KeyError(text) from ExceptionGroup(text, [error])

    try:
        handle()
    except KeyError as error:
        reporter.fault(f"The handler of {text} failed", error)
    reporter.line(text, logging.WARNING, "line")
    record, other = caplog.records
    assert all(len(line.encode()) < 1024 for line in caplog.text.splitlines())
    for shown in (record.getMessage(), other.getMessage(), *record.exc_text.split("\n")):
        assert shown.isprintable()
    assert "  forged" not in record.exc_text.split("\n")
    assert "in handle" in record.exc_text
    assert "in fail" in record.exc_text


def test_an_exception_whose_text_fails() -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "OddError" in formatted(OddError())


def test_clean() -> None:
    assert clean("plain é") == "plain é"
    assert clean("a\nb\x00\u2028\ud800") == "a\\nb\\x00\\u2028\\ud800"
    assert clean("x" * 300) == "x" * 200 + "…"
    assert clean(ValueError("x")) == "x"


def test_place_of() -> None:
    class Callable_:
        async def __call__(self, stream: Any) -> None:
            """It is called."""

        async def method(self, stream: Any) -> None:
            """It is bound."""

    line = place_of.__code__.co_firstlineno
    expected = f"place_of ({place_of.__code__.co_filename}:{line})"
    assert place_of(place_of) == expected
    assert place_of(functools.partial(functools.partial(place_of))) == expected
    assert "Callable_" in place_of(Callable_())
    assert __file__ in place_of(Callable_())
    assert "Callable_.method" in place_of(Callable_().method)
    assert place_of(len) == "len"


async def test_connections_that_cannot_be_written_to_are_counted(caplog: Any) -> None:
    async with clock() as moving:
        for _ in range(1000):
            report_unwritable(caught())
        assert lines(caplog) == ["A connection could not be written to"]
        assert caplog.text.count("Traceback") == 1
        await moving.advance(1)
        (count,) = lines(caplog)[1:]
        assert count.startswith("… and 999 more of this kind")
        await moving.advance(2)
