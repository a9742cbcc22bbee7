"""The timing of calls: those of handlers by the procedure's name, those of loops together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, cast

from socketcluster.metrics.durations import FEW, CallDurations
from socketcluster.sockets.request import AGRequest
from socketcluster.sockets.runners import CallTimer, DirectProcedure, LinedProcedure


class CallTimes:
    """Counts and times calls of procedures.

    The functions of handlers are replaced by functions that time them, so that a server without
    metrics pays nothing. A call of a handler lasts as long as its function runs; one of a loop from
    its arrival to its answer.

    Attributes:
        handlers: the durations by the name of the procedure.
        others: the durations of calls that loops answer, or nothing.
    """

    __slots__ = ("_before", "handlers", "others")

    def __init__(self) -> None:
        self.handlers: dict[str, CallDurations] = {}
        self.others: CallDurations = CallDurations()
        self._before: dict[CallDurations, int] = {}

    def settle(self) -> None:
        """Count the durations since the last time; the ticker calls it."""
        for durations in (self.others, *self.handlers.values()):
            durations.settle()
            begun = durations.begun
            if begun - self._before.get(durations, 0) < FEW:
                durations.time_all()
            self._before[durations] = begun

    def time_procedure(self, runner: DirectProcedure | LinedProcedure) -> None:
        """Time the function of a procedure's handler."""
        times = self.handlers.setdefault(runner.handler.name, CallDurations())
        if isinstance(runner, LinedProcedure):
            wrap = _timed_async_of_data if runner.takes_data else _timed_async
        else:
            wrap = _timed_of_data if runner.takes_data else _timed
            runner.timing = (runner.call, cast("CallTimer", times))
        runner.call = wrap(runner.call, times)

    def request_maker(self) -> Callable[..., AGRequest[Any]]:
        """Make the function that makes the requests that loops answer."""
        times = self.others
        due, refill = times.due, times.refill

        def make(socket: Any, cid: int | float, procedure: str, data: Any) -> AGRequest[Any]:
            try:
                is_timed = due()
            except IndexError:
                is_timed = refill()
            if is_timed:
                request = _TimedRequest(socket, cid, procedure, data)
                request.add = times.add
                request.started = perf_counter()
                return request
            return AGRequest(socket, cid, procedure, data)

        return make


class _TimedRequest(AGRequest[Any]):
    """A request that tells how long its answer took."""

    __slots__ = ("add", "started")

    add: Callable[[float], None]
    started: float

    def end(self, data: Any = None) -> None:
        super().end(data)
        self.add(perf_counter() - self.started)

    def error(self, error: BaseException | str) -> None:
        super().error(error)
        self.add(perf_counter() - self.started)


# Four functions, because `*arguments` would take longer than the timing. None of them is async, so
# that a call that is not timed has no coroutine more.


def _timed_of_data(call: Callable[[Any], Any], times: CallDurations) -> Callable[..., Any]:
    due, refill = times.due, times.refill

    def timed(data: Any) -> Any:
        try:
            is_timed = due()
        except IndexError:
            is_timed = refill()
        return _take(times.add, call, data) if is_timed else call(data)

    return timed


def _timed(call: Callable[[Any, Any], Any], times: CallDurations) -> Callable[..., Any]:
    due, refill = times.due, times.refill

    def timed(socket: Any, data: Any) -> Any:
        try:
            is_timed = due()
        except IndexError:
            is_timed = refill()
        return _take(times.add, call, socket, data) if is_timed else call(socket, data)

    return timed


def _timed_async_of_data(
    call: Callable[[Any], Awaitable[Any]], times: CallDurations
) -> Callable[..., Awaitable[Any]]:
    due, refill = times.due, times.refill

    def timed(data: Any) -> Awaitable[Any]:
        try:
            is_timed = due()
        except IndexError:
            is_timed = refill()
        return _take_async(times.add, call, data) if is_timed else call(data)

    return timed


def _timed_async(
    call: Callable[[Any, Any], Awaitable[Any]], times: CallDurations
) -> Callable[..., Awaitable[Any]]:
    due, refill = times.due, times.refill

    def timed(socket: Any, data: Any) -> Awaitable[Any]:
        try:
            is_timed = due()
        except IndexError:
            is_timed = refill()
        return _take_async(times.add, call, socket, data) if is_timed else call(socket, data)

    return timed


def _take(add: Callable[[float], None], call: Callable[..., Any], *arguments: Any) -> Any:
    started = perf_counter()
    try:
        return call(*arguments)
    finally:
        add(perf_counter() - started)


async def _take_async(
    add: Callable[[float], None], call: Callable[..., Awaitable[Any]], *arguments: Any
) -> Any:
    started = perf_counter()
    try:
        return await call(*arguments)
    finally:
        add(perf_counter() - started)
