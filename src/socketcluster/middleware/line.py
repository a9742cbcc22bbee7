"""MiddlewareLine: runs one middleware function for one socket, and fails closed.

A function is called once per socket (and once per upgrade for the handshake line) with a
`MiddlewareStream`, and decides on each `AGAction` it yields. It fails closed: when it raises,
returns or is cancelled, its action and all later ones of that socket are blocked.

Source: SocketCluster documentation, "Middleware and authorization".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from socketcluster.error_text import text_of
from socketcluster.errors import (
    MiddlewareError,
    SilentMiddlewareBlockedError,
    SocketClusterError,
)
from socketcluster.literals import ActionType, MiddlewareType
from socketcluster.middleware.action import AGAction, Outcome
from socketcluster.middleware.stream import MiddlewareFunction, MiddlewareStream
from socketcluster.runtime.futures import complete
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import Reporter, place_of

spared: set[asyncio.Task[Any]] = set()
"""Tasks that are closing their server: `kill` does not cancel them."""


class MiddlewareLine:
    """One call of a middleware function, for one socket or one upgrade.

    Attributes:
        function: the function.
        stream: the actions that it reads.
        socket, request: what log records are about: the socket, or the upgrade without one.
    """

    __slots__ = (
        "_ended",
        "_on_failure",
        "_reporter",
        "_task",
        "_undecided",
        "function",
        "loop_binding",
        "request",
        "socket",
        "stream",
    )

    def __init__(
        self,
        type: MiddlewareType,
        function: MiddlewareFunction,
        on_failure: Callable[[MiddlewareError], None],
        reporter: Reporter,
        loop_binding: LoopBinding,
        *,
        socket: Any = None,
        request: Any = None,
    ) -> None:
        self.loop_binding: LoopBinding = loop_binding
        self.socket: Any = socket
        self.request: Any = request
        self.function: MiddlewareFunction = function
        self.stream: MiddlewareStream = MiddlewareStream(type)
        self._on_failure = on_failure
        self._reporter = reporter
        self._ended = False
        self._undecided: dict[_Undecided, None] = {}
        self._task = asyncio.ensure_future(self._run())

    @property
    def _about(self) -> dict[str, Any]:
        return {"request": self.request} if self.socket is None else {"socket": self.socket}

    @property
    def type(self) -> MiddlewareType:
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
        except BaseException:  # KeyboardInterrupt or SystemExit.
            self.end()
            raise
        closed = self.stream.closed
        self.end()
        if not closed:
            place = place_of(self.function)
            failure = MiddlewareError(
                f"The {self.type} middleware function {place} {how}; every "
                "action of this socket that it would decide is blocked"
            )
            failure.__cause__ = cause
            if isinstance(cause, Exception):
                self._reporter.fault(str(failure), cause, kind=self.type, **self._about)
            else:
                kind = (self.type, how, place)
                self._reporter.line(str(failure), logging.WARNING, kind, **self._about)
            self._on_failure(failure)

    def submit(self, action: AGAction, callback: OnDecided) -> None:
        """Submit an action to the function.

        `callback(blocked, data)` is called exactly once: (None, data) if the function allowed it,
        perhaps with other data, or (reason, None) if it is blocked. The caller must not keep the
        action: one that the function drops without a decision is blocked at once.
        """
        if self._ended:
            callback(Blocked(self._silent(action.type), None), None)
            return
        undecided = _Undecided(self, action.type, callback)
        self._undecided[undecided] = None
        action.on_decision(undecided)
        self.stream.write(action)

    async def decide(self, kind: ActionType, **fields: Any) -> Any:
        """Submit an action made of these fields, and return its data.

        Canceling decide() leaves the action undecided.

        Raises:
            Blocked: the function blocked it, or cannot decide on it.
        """
        decision: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        callback = partial(complete, decision)
        self.submit(AGAction(kind, **fields), callback)  # Only the function holds it.
        return await decision

    def decided(self, undecided: _Undecided, outcome: Outcome, value: Any) -> None:
        """Take the decision of the function, or the one that its end makes."""
        if undecided not in self._undecided:
            return
        if outcome == "dropped" and not self._ended:
            # If the function has just ended, that is the reason to report: wait and see.
            self.loop_binding.finalize(self._block_soon, undecided)
            return
        del self._undecided[undecided]
        if outcome == "allowed":
            undecided.callback(None, value)
        else:
            undecided.callback(self._blocked(undecided.kind, outcome, value), None)

    def _block_soon(self, undecided: _Undecided) -> None:
        asyncio.get_running_loop().call_soon(self._block_dropped, undecided)

    def _block_dropped(self, undecided: _Undecided) -> None:
        if undecided in self._undecided:
            del self._undecided[undecided]
            undecided.callback(self._blocked(undecided.kind, "dropped", None), None)

    def _blocked(self, kind: ActionType, outcome: Outcome, error: Any) -> Blocked:
        silent = self._silent(kind)
        if outcome == "ended":
            return Blocked(silent, None)
        if outcome == "dropped":
            place = place_of(self.function)
            forgotten = MiddlewareError(
                f"The {self.type} middleware function {place} neither allowed nor blocked "
                f"an action of type {kind!r}"
            )
            self._reporter.line(
                str(forgotten), logging.WARNING, (self.type, kind, place), **self._about
            )
            return Blocked(silent, forgotten)
        if error is None:
            return Blocked(silent, silent)
        if isinstance(error, str):
            error = SocketClusterError(error)
            error.name = "MiddlewareError"
        if getattr(error, "silent", False):
            return Blocked(silent, error)
        return Blocked(error, error)

    def _silent(self, kind: ActionType) -> SilentMiddlewareBlockedError:
        return SilentMiddlewareBlockedError(
            f"The {kind} AGAction was blocked by {self.type} middleware", self.type
        )

    @property
    def oldest_undecided(self) -> object | None:
        """A token for the action that has waited longest for a decision; None without one."""
        return next(iter(self._undecided), None)

    def report_held(self, option: str) -> None:
        """Log, once, that the function holds its oldest action for longer than an option allows."""
        undecided = next(iter(self._undecided), None)
        if undecided is not None:
            place = place_of(self.function)
            self._reporter.line_once(
                f"The {self.type} middleware function {place} has neither allowed nor blocked "
                f"an action of type {undecided.kind!r} within {option}; what follows it waits",
                ("held", self.type, place),
                **self._about,
            )

    def close(self) -> None:
        """End the function's loop after the actions that were written."""
        self.stream.close()

    def end(self) -> None:
        """Block all undecided actions, and all later ones."""
        self._ended = True
        self.stream.close()
        self.stream.drain()
        for undecided in list(self._undecided):
            undecided("ended", None)

    def kill(self) -> None:
        """Call `end`, and cancel the function."""
        self.end()
        if self._task is not _current_task() and self._task not in spared:
            self._task.cancel()


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


class _Undecided:
    """An action without a decision yet: the `OnDecision` of that action."""

    __slots__ = ("_line", "callback", "kind")

    def __init__(self, line: MiddlewareLine, kind: ActionType, callback: OnDecided) -> None:
        self._line = line
        self.kind: ActionType = kind
        self.callback: OnDecided = callback

    def check(self) -> None:
        """See `OnDecision`."""
        self._line.loop_binding.check()

    def __call__(self, outcome: Outcome, value: Any) -> None:
        self._line.decided(self, outcome, value)


class Blocked(Exception):
    """An action is blocked.

    Attributes:
        for_client: the error that the client receives.
        for_server: the error to report on this side; None if it was reported already.
    """

    def __init__(self, for_client: BaseException, for_server: BaseException | None) -> None:
        super().__init__(text_of(for_client))
        self.for_client = for_client
        self.for_server = for_server


OnDecided = Callable[[Blocked | None, Any], None]
"""See `MiddlewareLine.submit`."""
