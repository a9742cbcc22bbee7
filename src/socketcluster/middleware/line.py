"""Middleware: functions that decide on the actions of one socket, and what happens when they fail.

A function is called once per socket (and once per upgrade for the handshake line) with a
`MiddlewareStream`, and decides each `AGAction` it yields. It fails closed: once it has raised,
returned or been cancelled, its action and all later ones of that socket are blocked.

Source: SocketCluster documentation, "Middleware and authorization".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from socketcluster.error_text import text_of
from socketcluster.errors import (
    MiddlewareError,
    SilentMiddlewareBlockedError,
    SocketClusterError,
)
from socketcluster.middleware.action import AGAction
from socketcluster.middleware.stream import MiddlewareFunction, MiddlewareStream
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import Reporter, place_of

spared: set[asyncio.Task[Any]] = set()
"""Tasks that close their server, and are not cancelled by that."""


class MiddlewareLine:
    """One middleware function at work for one socket, or for one upgrade."""

    __slots__ = (
        "_ended",
        "_on_failure",
        "_reporter",
        "_task",
        "_undecided",
        "function",
        "loop_binding",
        "stream",
    )

    def __init__(
        self,
        type: str,
        function: MiddlewareFunction,
        on_failure: Callable[[MiddlewareError], None],
        reporter: Reporter,
        loop_binding: LoopBinding,
    ) -> None:
        self.loop_binding = loop_binding
        self.function = function
        self.stream = MiddlewareStream(type)
        self._on_failure = on_failure
        self._reporter = reporter
        self._ended = False
        self._undecided: dict[_Undecided, None] = {}
        self._task = asyncio.ensure_future(self._run())

    @property
    def type(self) -> str:
        """One of the four middleware types."""
        return self.stream.type

    async def _run(self) -> None:
        cause: BaseException | None = None
        how = "returned"
        try:
            await self.function(self.stream)
        except asyncio.CancelledError as error:
            how, cause = "was cancelled", error
        except Exception as error:
            how, cause = f"raised {type(error).__name__}: {text_of(error)}", error
        except BaseException:  # One that ends the program, or the like.
            self.end()
            raise
        closed = self.stream._closed
        self.end()
        if not closed:
            place = place_of(self.function)
            failure = MiddlewareError(
                f"The {self.type} middleware function {place} {how}; every "
                "action of this socket that it would decide is blocked"
            )
            failure.__cause__ = cause
            if isinstance(cause, Exception):
                self._reporter.fault(str(failure), cause, kind=self.type)
            else:
                self._reporter.line(str(failure), logging.WARNING, (self.type, how, place))
            self._on_failure(failure)

    def put(self, action: AGAction, then: Then) -> None:
        """Put an action before the function; `then(blocked, data)` is called once: with None and
        the data, maybe replaced by the function, or with why it may not pass. The caller must not
        keep the action: one that the function drops undecided is blocked at once.
        """
        if self._ended:
            then(Blocked(self._silent(action.type), None), None)
            return
        undecided = _Undecided(self, action.type, then)
        self._undecided[undecided] = None
        action.on_decided(undecided)
        self.stream.write(action)

    async def decide(self, kind: str, **fields: Any) -> Any:
        """`put` an action made of these fields; returns its data.

        Cancelling it leaves the action undecided.

        Raises:
            Blocked: the function blocked it, or cannot decide it.
        """
        decision: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def then(blocked: Blocked | None, data: Any) -> None:
            if decision.done():
                return
            if blocked is None:
                decision.set_result(data)
            else:
                decision.set_exception(blocked)

        self.put(AGAction(kind, **fields), then)  # Made here, so that nobody else holds it.
        return await decision

    def decided(self, undecided: _Undecided, outcome: str, value: Any) -> None:
        """The function, or its end, has decided an action."""
        if undecided not in self._undecided:
            return
        if outcome == "dropped" and not self._ended:
            # Not before it is known whether the function has ended, which is the reason then.
            self.loop_binding.finalize(self._block_soon, undecided)
            return
        del self._undecided[undecided]
        if outcome == "allowed":
            undecided.then(None, value)
        else:
            undecided.then(self._blocked(undecided.kind, outcome, value), None)

    def _block_soon(self, undecided: _Undecided) -> None:
        asyncio.get_running_loop().call_soon(self._blocks_dropped, undecided)

    def _blocks_dropped(self, undecided: _Undecided) -> None:
        if undecided in self._undecided:
            del self._undecided[undecided]
            undecided.then(self._blocked(undecided.kind, "dropped", None), None)

    def _blocked(self, kind: str, outcome: str, error: Any) -> Blocked:
        silent = self._silent(kind)
        if outcome == "ended":
            return Blocked(silent, None)
        if outcome == "dropped":
            place = place_of(self.function)
            forgotten = MiddlewareError(
                f"The {self.type} middleware function {place} neither allowed nor blocked "
                f"an action of type {kind!r}"
            )
            self._reporter.line(str(forgotten), logging.WARNING, (self.type, kind, place))
            return Blocked(silent, forgotten)
        if error is None:
            return Blocked(silent, silent)
        if isinstance(error, str):
            error = SocketClusterError(error)
            error.name = "MiddlewareError"
        if getattr(error, "silent", False):
            return Blocked(silent, error)
        return Blocked(error, error)

    def _silent(self, kind: str) -> SilentMiddlewareBlockedError:
        return SilentMiddlewareBlockedError(
            f"The {kind} AGAction was blocked by {self.type} middleware", self.type
        )

    @property
    def oldest_undecided(self) -> object | None:
        """What stands for the action that waits longest for the function; None if none does."""
        return next(iter(self._undecided), None)

    def report_held(self, option: str) -> None:
        """Log, once, that the function did not decide its oldest action within an option's time."""
        undecided = next(iter(self._undecided), None)
        if undecided is not None:
            place = place_of(self.function)
            self._reporter.once(
                f"The {self.type} middleware function {place} has neither allowed nor blocked "
                f"an action of type {undecided.kind!r} within {option}; what follows it waits",
                ("held", self.type, place),
            )

    def close(self) -> None:
        """End the function's loop once it has decided what was written."""
        self.stream.close()

    def end(self) -> None:
        """Block all that is undecided and all that may follow."""
        self._ended = True
        self.stream.close()
        self.stream.drain()
        for undecided in list(self._undecided):
            undecided("ended", None)

    def kill(self) -> None:
        """End it and cancel the function."""
        self.end()
        if self._task is not _current_task() and self._task not in spared:
            self._task.cancel()


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


class _Undecided:
    """An action that a function has still to decide; called with what becomes of it."""

    __slots__ = ("_line", "kind", "then")

    def __init__(self, line: MiddlewareLine, kind: str, then: Then) -> None:
        self._line = line
        self.kind = kind
        self.then = then

    def check(self) -> None:
        """See `Deciding`."""
        self._line.loop_binding.check()

    def __call__(self, outcome: str, value: Any) -> None:
        self._line.decided(self, outcome, value)


class Blocked(Exception):
    """An action was not allowed: `for_client` is what the client may know, `for_server` what
    is reported here (None if it was reported already)."""

    def __init__(self, for_client: BaseException, for_server: BaseException | None) -> None:
        super().__init__(text_of(for_client))
        self.for_client = for_client
        self.for_server = for_server


Then = Callable[[Blocked | None, Any], None]
