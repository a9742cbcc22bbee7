"""The event loop that an object belongs to, and calls to it from other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
import threading
from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any, ParamSpec, TypeVar, overload

from socketcluster.errors import InvalidActionError, UsageError

P = ParamSpec("P")
T = TypeVar("T")

_POLL_SECONDS = 0.2
"""How often a thread that waits for a loop checks whether the loop has ended."""


class LoopBinding:
    """The binding of a server, a client or a stream to one event loop.

    Before `bind`, and after that loop has ended, any thread may use the object. `check` compares
    thread ids: before Python 3.12 asking asyncio for the running loop takes a system call.

    Attributes:
        loop: the event loop; None before `bind`.
        thread_id: the id of the thread that runs the loop.
        takes_calls: whether other threads may call functions on the loop.
    """

    __slots__ = ("_owner", "_remedy", "loop", "takes_calls", "thread_id")

    def __init__(self, owner: str, remedy: str) -> None:
        """Create a binding; the error of `check` names `owner` ("a stream") and `remedy`."""
        self._owner = owner
        self._remedy = remedy
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread_id: int = 0
        self.takes_calls: bool = False

    def bind(self) -> asyncio.AbstractEventLoop:
        """Bind to the running loop, and return it.

        Raises:
            UsageError: it is bound to another loop, which is still running.
            RuntimeError: no loop is running.
        """
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            if self.loop is not None and self.loop.is_running():
                raise self._wrong_thread()
            self.loop, self.thread_id, self.takes_calls = loop, get_ident(), True
        return loop

    def check(self) -> None:
        """Check that this is the loop's thread.

        Raises:
            UsageError: the loop runs in another thread.
        """
        if get_ident() != self.thread_id and self._is_elsewhere():
            raise self._wrong_thread()

    def _is_elsewhere(self) -> bool:
        return self.loop is not None and self.loop.is_running()

    def _wrong_thread(self) -> UsageError:
        return UsageError(
            f"The thread {threading.current_thread().name!r} may not use {self._owner}: only the "
            f"thread of its event loop may. {self._remedy}"
        )

    def finalize(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Call back from a finalizer: at once on the loop's thread, else through the loop.

        A finalizer runs in any thread that drops or collects an object.

        Raises:
            RuntimeError: the loop has just been closed.
        """
        if get_ident() != self.thread_id and self._is_elsewhere():
            assert self.loop is not None
            self.loop.call_soon_threadsafe(callback, *arguments)
        else:
            callback(*arguments)

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """See `ThreadMixin.from_thread`."""
        loop = self.loop
        if loop is None or not self.takes_calls or not loop.is_running():
            raise InvalidActionError(
                "from_thread() needs a running event loop: start the server (`await "
                "server.listen(…)`, or `await server.start()` under another ASGI server), or "
                "connect the client, before other threads use it"
            )
        if get_ident() == self.thread_id:
            raise UsageError(
                "from_thread() is for other threads: on the thread of the event loop it would "
                "wait for itself. Call the function, or await it"
            )
        result: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            loop.call_soon_threadsafe(
                _start, result, function, arguments, keywords, context=contextvars.copy_context()
            )
        except RuntimeError:  # Closed meanwhile.
            raise _ended() from None
        while True:
            try:
                result.exception(_POLL_SECONDS)  # It returns the function's error.
            except concurrent.futures.CancelledError:
                raise _ended() from None
            except concurrent.futures.TimeoutError:
                if not loop.is_running() and result.cancel():
                    raise _ended() from None
            else:
                return result.result()


class ThreadMixin:
    """`from_thread`: calls from other threads to an object that belongs to one loop."""

    __slots__ = ()

    loop_binding: LoopBinding

    @overload
    def from_thread(
        self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    def from_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...
    def from_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a plain or async function on the event loop from another thread.

        `server.from_thread(server.exchange.transmit_publish, "news", data)` blocks this thread
        until the function is done, and returns its result or raises its error. The function runs
        in this thread's context (`contextvars`).

        Raises:
            UsageError: this is the loop's thread, which would wait for itself.
            InvalidActionError: the loop does not run, or it ended before the function was done.
        """
        return self.loop_binding.call(function, *args, **kwargs)


def binding_of(name: str, variable: str) -> LoopBinding:
    """Create the binding of an object with `from_thread`, and of its parts.

    `binding_of("AGServer", "server")`: its class, and a name for the advice in an error.
    """
    return LoopBinding(
        f"an {name} or a part of it",
        f"Call `{variable}.from_thread(function, *args)`: it calls the function there and returns "
        "its result",
    )


def _ended() -> InvalidActionError:
    return InvalidActionError(
        "The function that from_thread() called was cancelled, as when its event loop ends"
    )


def _start(
    result: concurrent.futures.Future[Any],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
) -> None:
    if result.cancelled():
        return
    try:
        value = function(*arguments, **keywords)
    except BaseException as error:
        result.set_exception(error)
        return
    if not inspect.isawaitable(value):
        result.set_result(value)
        return

    def finished(task: asyncio.Future[Any]) -> None:
        if result.done():
            return
        if task.cancelled():
            result.cancel()
        elif (error := task.exception()) is not None:
            result.set_exception(error)
        else:
            result.set_result(task.result())

    asyncio.ensure_future(value).add_done_callback(finished)
