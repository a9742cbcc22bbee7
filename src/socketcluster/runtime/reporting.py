"""Rate-limited logging: the first report of a kind in full, then a count once a second.

A kind identifies the fault and its place, without any text of a peer. A line may contain text of a
peer: it is cut to 1 KB, and its control characters are escaped.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
import traceback
from collections.abc import Callable, Hashable
from types import CodeType
from typing import Any

from socketcluster.error_text import text_of
from socketcluster.options import near_miss

SECONDS = 1.0
"""How long reports of a kind are only counted after one was logged."""

MAX_KINDS = 256
"""How many kinds to remember; past that the oldest is forgotten."""

MAX_LINE = 900
"""Bytes of a line in UTF-8: with the time, the level and the logger's name it is below 1 KB."""

MAX_TEXT = 200
"""Characters of a peer's name or text within a line."""


def clean(text: object, limit: int = MAX_TEXT) -> str:
    """Return a text as one line of at most `limit` characters, control characters escaped."""
    line = text_of(text)
    if len(line) > limit:
        line = line[:limit] + "…"
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else _escaped(c) for c in line)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()


def _cut(line: str) -> str:
    data = line.encode()
    return line if len(data) <= MAX_LINE else data[:MAX_LINE].decode(errors="ignore") + "…"


def one_line(error: BaseException) -> str:
    """Return an error as "Name: text", in one line of bounded length."""
    return f"{type(error).__name__}: {clean(error, MAX_LINE)}"


def formatted(error: BaseException) -> str:
    """Return the traceback of an error and its causes, with bounded lines.

    The text of an exception may repeat what a peer sent: its line breaks are escaped, so that it
    cannot look like lines of the log.
    """
    text = "".join(traceback.format_exception(error)).rstrip("\n")
    for original in _texts(error):
        cleaned = clean(original, MAX_LINE)
        if cleaned != original:
            text = text.replace(original, cleaned)
    return "\n".join(_cut(clean(line, MAX_LINE)) for line in text.split("\n"))


def _texts(error: BaseException) -> list[str]:
    """Return the texts and notes of an error and of its causes."""
    found: list[str] = []
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        found.append(text_of(one))
        found += [str(note) for note in getattr(one, "__notes__", ())]
        todo += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions
    return found


def kind_of(error: BaseException) -> Hashable:
    """Return the kind of an error: its type, and the line that raised it."""
    place: Any = None
    found = error.__traceback__
    if found is not None:
        while found.tb_next is not None:
            found = found.tb_next
        place = (found.tb_frame.f_code.co_filename, found.tb_lineno)
    return (type(error).__module__, type(error).__qualname__, place)


def place_of(function: Callable[..., Any]) -> str:
    """Return a function as "name (file:line)"."""
    found: Any = function
    while isinstance(found, functools.partial):
        found = found.func
    found = inspect.unwrap(found)
    code = getattr(found, "__code__", None)
    if code is None:
        code = getattr(type(found).__call__, "__code__", None)
    name = getattr(found, "__qualname__", type(found).__qualname__)
    return (
        f"{name} ({code.co_filename}:{code.co_firstlineno})" if isinstance(code, CodeType) else name
    )


def application_place() -> str:
    """Return the "file:line" of the innermost caller outside this package."""
    package = __name__.partition(".")[0]
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame = frame.f_back
    return "unknown" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


class _Kind:
    """A kind that was logged less than `SECONDS` ago."""

    __slots__ = ("left_out", "timer", "title", "until")

    def __init__(self, title: str) -> None:
        self.title = title
        self.left_out = 0
        self.until = 0.0
        self.timer: asyncio.TimerHandle | None = None


class Reporter:
    """Rate-limited reports to one logger. Its methods are cheap to call often, and never raise.

    Attributes:
        identify: returns the user of a socket; called for records that are logged, and must not
            raise.
    """

    __slots__ = ("_kinds", "_logged_once", "_logger", "identify")

    def __init__(
        self, logger: logging.Logger, identify: Callable[[Any], str | None] = lambda socket: None
    ) -> None:
        self._logger = logger
        self.identify: Callable[[Any], str | None] = identify
        self._kinds: dict[tuple[int, Hashable], _Kind] = {}
        self._logged_once: dict[Hashable, None] = {}

    def fault(
        self,
        text: str,
        error: BaseException,
        level: int = logging.ERROR,
        kind: Hashable = None,
        **about: Any,
    ) -> None:
        """Log an error with its traceback. `kind` separates errors of one type and line.

        `about` adds fields to the record: `procedure`, `channel`, and those of a `socket`, or of
        the `request` of one that does not exist yet.
        """
        self._report(level, (kind, kind_of(error)), text, error, about)

    def line(self, text: str, level: int, kind: Hashable, **about: Any) -> None:
        """Log one line without a traceback. See `fault` about `about`."""
        self._report(level, kind, text, None, about)

    def line_once(
        self, text: str, kind: Hashable, level: int = logging.WARNING, **about: Any
    ) -> None:
        """Log one line without a traceback, once while the kind is remembered."""
        if kind not in self._logged_once:
            if len(self._logged_once) >= MAX_KINDS:
                del self._logged_once[next(iter(self._logged_once))]
            self._logged_once[kind] = None
            self._log(level, text, None, about)

    def check_event_name(self, event: str, events: frozenset[str]) -> None:
        """Log, once, that the event of a listener looks like a misspelled documented one."""
        if event not in events:
            near = near_miss(event, events)
            if near is not None:
                self.line_once(
                    f"Nothing emits {clean(event)!r}, to which a listener was made; did you mean "
                    f"{near!r}?",
                    ("listener", event),
                )

    def flush(self) -> None:
        """Log the outstanding counts, and forget all kinds."""
        for key, recent in list(self._kinds.items()):
            self._forget(key, recent)

    def _report(
        self,
        level: int,
        kind: Hashable,
        text: str,
        error: BaseException | None,
        about: dict[str, Any],
    ) -> None:
        if not self._logger.isEnabledFor(level):
            return
        key = (level, kind)
        recent = self._kinds.get(key)
        if (
            recent is not None and time.monotonic() >= recent.until
        ):  # Its timer is late, or it has none.
            self._window_over(key, recent)
            recent = self._kinds.get(key)
        if recent is not None:
            recent.left_out += 1
            return
        if len(self._kinds) >= MAX_KINDS:
            oldest = next(iter(self._kinds))
            self._forget(oldest, self._kinds[oldest])
        self._log(level, text, error, about)
        recent = self._kinds[key] = _Kind(text)
        self._open_window(key, recent)

    def _open_window(self, key: tuple[int, Hashable], recent: _Kind) -> None:
        recent.until = time.monotonic() + SECONDS
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # The next report, or `flush`, logs the count.
            recent.timer = None
        else:
            recent.timer = loop.call_later(SECONDS, self._window_over, key, recent)

    def _window_over(self, key: tuple[int, Hashable], recent: _Kind) -> None:
        if self._kinds.get(key) is not recent:
            return
        if recent.left_out == 0:
            self._forget(key, recent)
        else:
            self._count(key[0], recent)
            if recent.timer is not None:
                recent.timer.cancel()
            self._open_window(key, recent)

    def _count(self, level: int, recent: _Kind) -> None:
        left_out, recent.left_out = recent.left_out, 0
        text = f"… and {left_out:,} more of this kind in the last second: {recent.title}"
        self._log(level, text, None, {"repeated": left_out})

    def _forget(self, key: tuple[int, Hashable], recent: _Kind) -> None:
        if recent.timer is not None:
            recent.timer.cancel()
        del self._kinds[key]
        if recent.left_out:
            self._count(key[0], recent)

    def _log(
        self, level: int, text: str, error: BaseException | None, about: dict[str, Any]
    ) -> None:
        logger = self._logger
        if not logger.isEnabledFor(level):
            return
        file, line, function, _ = logger.findCaller(False, 4)
        info = None if error is None else (type(error), error, error.__traceback__)
        message = _cut(clean(text, MAX_LINE))
        record = logger.makeRecord(logger.name, level, file, line, "%s", (message,), info, function)
        if error is not None:
            # The standard formatters show this, instead of a text without bounds.
            record.exc_text = formatted(error)
        record.__dict__.update(self._fields_of(about))
        logger.handle(record)

    def _fields_of(self, about: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a record: those of a `socket` or `request`, and others as given."""
        fields: dict[str, Any] = {}
        for name, value in about.items():
            fields[name] = clean(value) if isinstance(value, str) else value
        request, socket = fields.pop("request", None), fields.pop("socket", None)
        if request is not None:
            fields["address"] = request.client_address
        if hasattr(socket, "id"):  # A client has one connection, which needs no id.
            fields["socket_id"] = socket.id
            fields["address"] = getattr(socket, "client_address", None)
            user = self._user_of(socket)
            fields["user"] = None if user is None else clean(user)
        return fields

    def _user_of(self, socket: Any) -> str | None:
        identify = self.identify
        # A record that is made meanwhile has no user: `identify` would be asked without end.
        self.identify = lambda socket: None
        try:
            return identify(socket)
        finally:
            self.identify = identify
