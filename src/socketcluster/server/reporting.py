"""The error reports of a server: its log, and the events 'error' and 'warning'."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from socketcluster.errors import BrokerError, SocketClusterError
from socketcluster.events import ErrorEvent, WarningEvent
from socketcluster.runtime.reporting import Reporter, clean, one_line

_BROKER_FAILURES = {
    "publish": "A publish failed",
    "subscribe": "A subscription failed",
    "unsubscribe": "The backend may still send a channel that has no subscribers",
    "history": "A history cannot be read",
    "session": "The position of a client may be lost",
    "foreign": "A message of the backend was not delivered",
}


class ReportEmitter(Protocol):
    """A server's emitter, as its reports use it."""

    def emit(self, event: str, data: Any = None) -> None: ...
    def has_listener(self, event: str) -> bool: ...


class ServerReports:
    """Logs and emits a server's errors. Repeats of the same fault are counted, not logged again.

    Attributes:
        about: the `socket` whose error is being emitted as 'warning', or the `request` of one that
            does not exist yet.
    """

    __slots__ = ("_emitter", "_reporter", "about")

    def __init__(self, emitter: ReportEmitter, reporter: Reporter) -> None:
        self._emitter = emitter
        self._reporter = reporter
        self.about: dict[str, Any] = {}

    def emit_error(self, error: BaseException) -> None:
        """Emit 'error', and without a listener log the error with its traceback."""
        if not self._emitter.has_listener("error"):
            self._reporter.fault(one_line(error), error)
        self._emitter.emit("error", ErrorEvent(error))

    def emit_warning(self, warning: BaseException) -> None:
        """Emit 'warning', usually about a client's fault.

        Without a listener, log it at DEBUG in one line.
        """
        if not self._emitter.has_listener("warning"):
            kind = type(warning).__qualname__
            self._reporter.line(one_line(warning), logging.DEBUG, kind, **self.about)
        self._emitter.emit("warning", WarningEvent(warning))

    def report_broker(self, action: str, error: BaseException, channel: str | None = None) -> None:
        """Log a broker failure: an expected error in one line, any other with its traceback.

        Each `action` is a kind of its own, so that many failures of one do not hide another.
        """
        text = _BROKER_FAILURES.get(action, "The broker failed")
        if channel is not None:
            text += f" (channel {clean(channel)!r})"
        text += f": {one_line(error)}"
        if isinstance(error, SocketClusterError):
            self._reporter.line(text, logging.WARNING, ("broker", action))
        else:
            self._reporter.fault(text, error, kind=("broker", action))

    def report_auth_engine(self, error: BaseException, socket: Any = None) -> None:
        """Log an auth engine's failure, as opposed to a bad token."""
        if not isinstance(error, SocketClusterError):
            text = "The auth engine failed to verify a token"
            self._reporter.fault(text, error, socket=socket)
        elif isinstance(error, BrokerError):
            self.report_broker("authentication", error)

    def broker_failed(
        self, error: BaseException, action: str = "background", channel: str | None = None
    ) -> None:
        """Report a broker failure that no caller receives: log it, and emit 'warning'."""
        self.report_broker(action, error, channel)
        self._emitter.emit("warning", WarningEvent(error))

    def report_fault(self, error: BaseException, socket: Any = None) -> None:
        """Report this side's fault that no caller receives: log its traceback, emit 'error'."""
        self._reporter.fault(f"Unexpected {one_line(error)}", error, socket=socket)
        self._emitter.emit("error", ErrorEvent(error))
