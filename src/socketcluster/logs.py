"""Formatters for the standard library's logging: one line of JSON, or of text, for each record.

python-json-logger is not used: it formats the traceback anew, without the bounds that this
package's records have, and msgspec, which writes the JSON, is a dependency anyway.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec

_STANDARD = frozenset(
    {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "color_message"}
)


class Process:
    """The process that logs.

    Attributes:
        worker: its number under `serve --workers`, else None.
    """

    worker: int | None = None


def time_of(record: logging.LogRecord) -> str:
    """Return the time of a record in UTC, as RFC 3339 writes it, with milliseconds."""
    time = datetime.fromtimestamp(record.created, UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z"


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Its fields are `time` (RFC 3339, UTC), `level`, `logger`, `message`, `pid`, `worker`,
    `exception` with the traceback, and the attributes of the record that `extra` added. Records of
    this package have those that are known: `socket_id`, `user`, `address`, `procedure`, `channel`
    and `lag_seconds`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {
            "time": time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if Process.worker is not None:
            fields["worker"] = Process.worker
        for name, value in record.__dict__.items():
            if name not in _STANDARD and name not in fields and value is not None:
                fields[name] = value
        if record.exc_text:
            fields["exception"] = record.exc_text
        elif record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        try:
            return msgspec.json.encode(fields, enc_hook=str).decode()
        except Exception:  # A value that JSON does not have: half a character, a circle.
            return msgspec.json.encode({k: _text(v) for k, v in fields.items()}).decode()


class TextFormatter(logging.Formatter):
    """Formats a record as text: "2026-01-31T12:00:00.000Z WARNING socketcluster: …"."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback below it."""
        worker = "" if Process.worker is None else f" [worker {Process.worker}]"
        return f"{time_of(record)}{worker} {super().format(record)}"

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")


def _text(value: Any) -> str:
    try:
        text = str(value)
    except Exception as error:
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()
