"""The timing of calls: those of handlers by the procedure's name, those of loops together."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from socketcluster.metrics.durations import CallDurations
from socketcluster.sockets.request import AGRequest, Responder
from socketcluster.sockets.runners import ProcedureRunner


class CallTimes:
    """Counts and times calls of procedures.

    A call of a handler lasts from the start of its function to the answer; one of a loop from its
    arrival to the answer.

    Attributes:
        handlers: the durations by the name of the procedure.
        others: the durations of calls that loops answer, or nothing.
    """

    __slots__ = ("handlers", "others")

    def __init__(self) -> None:
        self.handlers: dict[str, CallDurations] = {}
        self.others: CallDurations = CallDurations()

    def settle(self) -> None:
        """Count the durations if many wait, and time the next calls; the ticker calls it."""
        for durations in (self.others, *self.handlers.values()):
            durations.settle_many()
            durations.time_all()

    def time_procedure(self, runner: ProcedureRunner) -> None:
        """Time the calls of a procedure's handler."""
        runner.timer = self.handlers.setdefault(runner.handler.name, CallDurations())

    def request_class(self) -> type[AGRequest[Any]]:
        """Make the class of the requests that loops answer."""
        times, flags = self.others, self.others.flags

        class CountedRequest(AGRequest[Any]):
            """A request that is counted when it is made."""

            __slots__ = ()

            # The base's body is repeated, because a call of it would take 2 % of a call.
            def __init__(  # pyright: ignore[reportMissingSuperCall]
                self, socket: Any, id: int | float, procedure: str, data: Any = None
            ) -> None:
                self._responder = (
                    _TimedResponder(socket, times) if next(flags) else socket.messaging
                )
                self.socket = socket
                self.id = id
                self.procedure = procedure
                self.data = data
                self.sent = False

        return CountedRequest


class _TimedResponder:
    """A `Responder` of a socket that takes the time until its first answer."""

    __slots__ = ("_add", "_messaging", "_started")

    def __init__(self, socket: Any, times: CallDurations) -> None:
        self._messaging: Responder = socket.messaging
        self._started = times.start()
        self._add = times.add

    def respond(self, rid: int | float, data: Any, error: BaseException | str | None) -> None:
        self._messaging.respond(rid, data, error)
        self._add(perf_counter() - self._started)

    def request_dropped(self, rid: int | float, procedure: str) -> None:
        self._messaging.request_dropped(rid, procedure)

    def request_failed(self, procedure: str, error: BaseException) -> None:
        self._messaging.request_failed(procedure, error)
