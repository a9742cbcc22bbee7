"""Runners: each carries out the messages of one handler, directly or in a line.

`carry_out` takes (socket, cid, data) for a call and (socket, data) for an event; `size` are the
bytes that a waiting message counts.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol

from socketcluster.errors import (
    EncodeError,
    InvalidDataError,
    InvalidMessageError,
    ResourceLimitError,
    TimeoutError,
)
from socketcluster.handlers.dependencies import Invocation
from socketcluster.handlers.handler import Handler
from socketcluster.handlers.line import Line
from socketcluster.handlers.plan import Plan
from socketcluster.handlers.signature import EMPTY
from socketcluster.options import seconds
from socketcluster.protocol.packets import Unparsed
from socketcluster.runtime.cancelling import is_cancelled
from socketcluster.runtime.reporting import Reporter, clean
from socketcluster.sockets.request import answer_failure

INVALID = (InvalidDataError, InvalidMessageError)
FAILURES = (Exception, asyncio.CancelledError)
"""The errors of a handler: it raises a CancelledError if it asks cancelled work for its result."""

_REFUSED = object()
"""In place of data that was refused."""


class RunnerContext(Protocol):
    """The surroundings of the runners of one server or client."""

    latest: Any

    @property
    def reporter(self) -> Reporter: ...
    def line(self, socket: Any, runner: Any) -> Line:
        """The line of a handler on a socket, made on first use."""
        ...

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in a task that ends with the server or client."""
        ...

    def invalid(self, socket: Any, handler: Handler, error: Exception) -> None:
        """Report data that cannot be decoded, or is not of the handler's type."""


class CallTimer(Protocol):
    """Counts calls, and times some of them.

    Attributes:
        flags: has a flag for each call, whether to time it. To take the flag counts the call.
    """

    @property
    def flags(self) -> Iterator[bool]: ...

    def time(self, answer: Callable[..., None], *call: Any) -> None:
        """Time a call of `answer`, because one is due."""

    async def time_async(self, work: Callable[[Any], Awaitable[None]], message: Any) -> None:
        """Time an await of `work`, because one is due. `work` takes a flag again."""


class Runner:
    """Carries out the messages of one handler.

    Attributes:
        handler: the handler.
        call: the function: of (data) if `takes_data`, else of (socket, data).
        to_plain: makes an answer's plain value; None if its value is plain.
        context: the surroundings.
        timer: times calls from the start of the function to the answer; None times nothing.
    """

    __slots__ = ("_data", "call", "context", "handler", "takes_data", "timer", "to_plain")

    def __init__(self, handler: Handler, plan: Plan, context: RunnerContext) -> None:
        self.handler: Handler = handler
        self.context: RunnerContext = context
        self.timer: CallTimer | None = None
        self._data = handler.data
        returns = handler.returns
        is_plain = returns is None or returns.kind == "msgspec"
        self.to_plain: Callable[[Any], Any] | None = (
            None if returns is None or is_plain else returns.to_plain
        )
        self.takes_data: bool = plan.of_data is not None
        self.call: Callable[..., Any] = plan.of_data or plan.simple or _through(plan)

    def _result_of(self, socket: Any, data: Any) -> Any:
        return self.call(data) if self.takes_data else self.call(socket, data)

    def _checked(self, data: Any) -> Any:
        """Return a message's data as the handler's type.

        Raises:
            InvalidMessageError: the codec cannot decode it.
            InvalidDataError: it is not of the type.
        """
        wanted = self._data
        if wanted is None:
            return None
        default = self.handler.default
        if type(data) is Unparsed:
            if default is EMPTY:
                return data.parse() if wanted.is_any else data.parse_as(wanted)
            data = data.parse()  # It may be null.
        if data is None and default is not EMPTY:
            return default
        return wanted.from_value(data)


def _through(plan: Plan) -> Callable[[Any, Any], Any]:
    call = plan.call_async if plan.is_async else plan.call
    return lambda socket, data: call(Invocation(socket, data))


class ProcedureRunner(Runner):
    """Answers calls."""

    __slots__ = ()

    def _checked_for(self, socket: Any, cid: int | float, data: Any) -> Any:
        """Return a call's data as the handler's type; answer a call without such data."""
        try:
            return self._checked(data)
        except INVALID as error:
            self.context.invalid(socket, self.handler, error)
            answer_failure(socket.messaging, cid, self.handler.name, error)
        except FAILURES as error:
            self.fail(socket, cid, error)
        return _REFUSED

    def fail(self, socket: Any, cid: int | float, error: BaseException, result: Any = None) -> None:
        """Answer a call with the error of the handler, or of its result, which is no answer."""
        self.handler.failed += 1
        if isinstance(error, EncodeError):
            error = _dropped(result, self.handler) or error
        elif isinstance(error, ResourceLimitError) and result is not None:
            # The answer is too large: a fault of this side, which the caller learns, too.
            socket.messaging.request_failed(self.handler.name, error)
        answer_failure(socket.messaging, cid, self.handler.name, _exception(error))


class ReceiverRunner(Runner):
    """Handles events of the peer."""

    __slots__ = ()

    def fail(self, socket: Any, error: BaseException) -> None:
        """Report the error of the handler."""
        _report(self.context, self.handler, error, socket)


class DirectProcedure(ProcedureRunner):
    """Answers calls with a plain function, at once."""

    __slots__ = ()

    def carry_out(self, socket: Any, cid: int | float, data: Any, *, size: int = 0) -> None:
        """Carry out a call; it never raises."""
        self.context.latest = self.handler
        data = self._checked_for(socket, cid, data)
        if data is _REFUSED:
            return
        if self.timer is not None and next(self.timer.flags):
            self.time(socket, cid, data)
        else:
            self._answer(socket, cid, data)

    def time(self, socket: Any, cid: int | float, data: Any) -> None:
        """Carry out a call whose data is of the handler's type, and time it, as it is due."""
        assert self.timer is not None
        self.timer.time(self._answer, socket, cid, data)

    def _answer(self, socket: Any, cid: int | float, data: Any) -> None:
        result = None
        try:
            result = self._result_of(socket, data)
            if self.to_plain is not None:
                result = self.to_plain(result)
            socket.messaging.answer(cid, result)
        except FAILURES as error:
            self.fail(socket, cid, error, result)


class DirectReceiver(ReceiverRunner):
    """Handles events with a plain function, at once."""

    __slots__ = ()

    def carry_out(self, socket: Any, data: Any, *, size: int = 0) -> None:
        """Carry out an event; it never raises."""
        self.context.latest = self.handler
        try:
            try:
                data = self._checked(data)
            except INVALID as error:
                self.context.invalid(socket, self.handler, error)
                return
            result = self._result_of(socket, data)
            if result is not None:
                _check_dropped(result, self.handler)
        except FAILURES as error:
            self.fail(socket, error)


def _dropped(result: Any, handler: Handler) -> TypeError | None:
    """Return the error for a coroutine that nothing awaits, and close it; None for others."""
    if not inspect.iscoroutine(result):
        return None
    result.close()
    return TypeError(
        f"{handler.place} returned a coroutine, and nothing awaits it: make the function async, "
        "and await the coroutine in it"
    )


def _check_dropped(result: Any, handler: Handler) -> None:
    error = _dropped(result, handler)
    if error is not None:
        raise error


def _report(context: RunnerContext, handler: Handler, error: BaseException, socket: Any) -> None:
    context.reporter.fault(
        f"The handler of the event {clean(handler.name)!r} failed, {handler.place}",
        _exception(error),
        kind=handler.name,
        socket=socket,
        procedure=handler.name,
    )


class _Lined(Runner):
    """Carries out messages with an async function, in the line of their socket."""

    __slots__ = ("_seconds",)

    def __init__(self, handler: Handler, plan: Plan, context: RunnerContext) -> None:
        super().__init__(handler, plan, context)
        self._seconds = seconds(handler.options.timeout)

    async def _in_time(self, socket: Any, data: Any) -> Any:
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                return await self._result_of(socket, data)
        except builtins.TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"{self.handler.name!r} took longer than its timeout of {self._seconds:g} s"
            ) from None


class LinedProcedure(_Lined, ProcedureRunner):
    """Answers calls with an async function, in the line of their socket."""

    __slots__ = ()

    def carry_out(self, socket: Any, cid: int | float, data: Any, *, size: int = 0) -> None:
        """Carry out a call when it is its turn."""
        socket.messaging.unanswered[cid] = self.handler.name
        if type(data) is Unparsed:
            size = data.size
        self.context.line(socket, self).put((socket, cid, data, False), size)

    async def work(self, message: tuple[Any, int | float, Any, bool]) -> None:
        """Carry out a call of the line; only its own cancellation is raised.

        The last item of the message says whether the data is of the handler's type already.
        """
        socket, cid, data, checked = message
        if not checked:
            data = self._checked_for(socket, cid, data)
            if data is _REFUSED:
                return
        timer = self.timer
        if timer is not None and next(timer.flags):
            await timer.time_async(self.work, (socket, cid, data, True))
            return
        result = None
        try:
            if self._seconds is not None:
                result = await self._in_time(socket, data)
            elif self.takes_data:
                result = await self.call(data)
            else:
                result = await self.call(socket, data)
            if self.to_plain is not None:
                result = self.to_plain(result)
            socket.messaging.answer(cid, result)
        except FAILURES as error:
            if is_cancelled(error):
                self._drop(socket, cid)
                raise
            self.fail(socket, cid, error, result)
        except BaseException:
            self._drop(socket, cid)
            raise

    def _drop(self, socket: Any, cid: int | float) -> None:
        self.handler.failed += 1
        socket.messaging.request_dropped(cid, self.handler.name)


class LinedReceiver(_Lined, ReceiverRunner):
    """Handles events with an async function, in the line of their socket."""

    __slots__ = ()

    def carry_out(self, socket: Any, data: Any, *, size: int = 0) -> None:
        """Carry out an event when it is its turn."""
        if type(data) is Unparsed:
            size = data.size
        self.context.line(socket, self).put((socket, data), size)

    async def work(self, message: tuple[Any, Any]) -> None:
        """Carry out an event of the line; only its own cancellation is raised."""
        socket, data = message
        try:
            try:
                data = self._checked(data)
            except INVALID as error:
                self.context.invalid(socket, self.handler, error)
                return
            if self._seconds is not None:
                result = await self._in_time(socket, data)
            else:
                result = await self._result_of(socket, data)
            if result is not None:
                _check_dropped(result, self.handler)
        except FAILURES as error:
            if is_cancelled(error):
                raise
            self.fail(socket, error)


def _exception(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    found = RuntimeError("The handler needs something that was cancelled")
    found.__cause__ = error
    return found


class EventRunner:
    """Handles events of the server or the client itself.

    Attributes:
        handler: the handler.
    """

    __slots__ = ("_context", "_plan", "handler")

    def __init__(self, handler: Handler, plan: Plan, context: RunnerContext) -> None:
        self.handler: Handler = handler
        self._plan = plan
        self._context = context

    def __call__(self, event: Any, socket: Any = None) -> asyncio.Task[None] | None:
        """Handle an event; return the task of an async function. It never raises.

        `socket` is for an event that has none of its own.
        """
        invocation = Invocation(getattr(event, "socket", socket), event)
        try:
            if self._plan.is_async:
                return self._context.start(self._handle(invocation))
            self._context.latest = self.handler
            _check_dropped(self._plan.call(invocation), self.handler)
        except FAILURES as error:
            _report(self._context, self.handler, error, invocation.socket)
        return None

    async def _handle(self, invocation: Invocation) -> None:
        try:
            _check_dropped(await self._plan.call_async(invocation), self.handler)
        except FAILURES as error:
            if is_cancelled(error):
                raise
            _report(self._context, self.handler, error, invocation.socket)
