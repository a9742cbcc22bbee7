"""The log formatters, and the fields of this package's records."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from socketcluster.logs import JSONFormatter, Process, TextFormatter


def record(message: str, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("app", logging.WARNING, "file.py", 1, message, (), None)
    made.created = 1767182400.0127
    made.__dict__.update(extra)
    return made


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the number that a test of the command line has set."""
    monkeypatch.setattr(Process, "worker", None)


def lines_of(text: str) -> dict[str, Any]:
    assert "\n" not in text
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_json_has_the_fields_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    made = record("two\nlines", order=5, user=None)
    assert lines_of(JSONFormatter().format(made)) == {
        "time": "2025-12-31T12:00:00.012Z",
        "level": "WARNING",
        "logger": "app",
        "message": "two\nlines",
        "pid": made.process,
        "order": 5,
    }
    monkeypatch.setattr(Process, "worker", 3)
    assert lines_of(JSONFormatter().format(made))["worker"] == 3


def test_json_takes_any_value() -> None:
    circle: list[Any] = []
    circle.append(circle)

    class Silent:
        def __str__(self) -> str:
            raise ValueError("no text")

    made = record("\ud800", circle=circle, object=object, silent=Silent(), keys={(1, 2): 3})
    found = lines_of(JSONFormatter().format(made))
    assert found["message"] == "\\ud800"
    assert found["silent"] == "<Silent: ValueError>"
    assert lines_of(JSONFormatter().format(record("a", kind=object)))["kind"] == "<class 'object'>"


def test_json_has_the_exception_and_its_bounded_form() -> None:
    made = record("failed")
    try:
        raise ValueError("wrong")
    except ValueError as error:
        made.exc_info = (ValueError, error, error.__traceback__)
    assert lines_of(JSONFormatter().format(made))["exception"].endswith("ValueError: wrong")
    made.exc_text = "bounded"
    assert lines_of(JSONFormatter().format(made))["exception"] == "bounded"
    made.stack_info = "Stack: here"
    assert lines_of(JSONFormatter().format(made))["stack"] == "Stack: here"


def test_text_has_the_time_and_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TextFormatter().format(record("a")) == "2025-12-31T12:00:00.012Z WARNING app: a"
    monkeypatch.setattr(Process, "worker", 3)
    expected = "2025-12-31T12:00:00.012Z [worker 3] WARNING app: a"
    assert TextFormatter().format(record("a")) == expected
