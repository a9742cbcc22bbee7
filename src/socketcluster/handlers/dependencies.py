"""Dependencies: values that functions of the application provide to handlers, by their type.

A provider's value lives for one message, for a socket until its token changes or it leaves, or for
a server until it closes. A provider that yields cleans up behind its `yield` then.
"""

from __future__ import annotations

import asyncio
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
)
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any, Literal

from socketcluster.errors import AuthError
from socketcluster.handlers.signature import EMPTY, Signature
from socketcluster.runtime.cancelling import cancel, is_cancelled

Scope = Literal["message", "socket", "server"]

SCOPES: tuple[Scope, ...] = ("message", "socket", "server")
"""From the shortest life to the longest."""

_GENERATORS = (AsyncGenerator, AsyncIterator, Generator, Iterator)

Arguments = Callable[["Invocation"], tuple[list[Any], dict[str, Any]]]
"""Returns the positional and the keyword arguments of a call."""


class Invocation:
    """One call of a handler: the values that its parameters, and its providers', ask for.

    Attributes:
        socket: the socket of the message; None for an event without one.
        data: the data of the message, or the event.
        names: the channel's name as `channel`, and the parameters of its pattern.
        provided: the values of the dependencies.
    """

    __slots__ = ("data", "names", "provided", "socket")

    def __init__(self, socket: Any, data: Any, names: Mapping[str, Any] | None = None) -> None:
        self.socket: Any = socket
        self.data: Any = data
        self.names: Mapping[str, Any] = {} if names is None else names
        self.provided: dict[Provider, Any] = {}


class Provider:
    """A function that provides the values of one type.

    Attributes:
        provides: the type.
        scope: how long a value lives.
        signature: the function's.
    """

    __slots__ = ("make", "provides", "scope", "signature")

    def __init__(self, signature: Signature, scope: Scope, provides: Any = EMPTY) -> None:
        """Make a provider; `provides` replaces the return annotation.

        Raises:
            UsageError: the scope is unknown, or the function's return annotation is missing.
        """
        if scope not in SCOPES:
            raise signature.error(f"a provider's scope is one of {SCOPES}, not {scope!r}")
        self.signature: Signature = signature
        self.scope: Scope = scope
        self.provides: Any = _provided_type(signature) if provides is EMPTY else provides
        self.make: Callable[..., Any] = signature.call
        if signature.is_generator:
            manager: Any = asynccontextmanager if signature.is_async else contextmanager
            self.make = manager(signature.call)

    def __repr__(self) -> str:
        return f"<Provider of {self.provides!r} by {self.signature.place}>"


def _provided_type(signature: Signature) -> Any:
    returns = signature.returns
    if returns is EMPTY or returns is None or returns is type(None):
        raise signature.error("a provider needs its type as return annotation: -> User")
    if not signature.is_generator:
        return returns
    yielded = typing.get_args(returns)
    if typing.get_origin(returns) not in _GENERATORS or not yielded:
        form = "AsyncIterator" if signature.is_async else "Iterator"
        raise signature.error(f"a provider that yields is annotated -> {form}[User]")
    return yielded[0]


class ScopedValues:
    """The provided values of one socket or one server."""

    __slots__ = ("_calls", "_stack", "_values")

    def __init__(self) -> None:
        self._values: dict[Provider, Any] = {}
        self._calls: dict[Provider, asyncio.Task[Any]] = {}
        self._stack: AsyncExitStack | None = None  # Made on first use.

    def get(self, provider: Provider, make: Callable[[ExitStack | AsyncExitStack], Any]) -> Any:
        """Return the value of a provider that is not async, made on first use."""
        values = self._values
        if provider not in values:
            # `values` are others meanwhile if the provider itself has them forgotten.
            values[provider] = make(self._used_stack())
        return values[provider]

    def _used_stack(self) -> AsyncExitStack:
        if self._stack is None:
            self._stack = AsyncExitStack()
        return self._stack

    async def get_async(
        self, provider: Provider, make: Callable[[AsyncExitStack], Coroutine[Any, Any, Any]]
    ) -> Any:
        """Return the value of an async provider; several callers share one call of it.

        A failed call is not remembered. Cancelling leaves it running for the other callers.

        Raises:
            AuthError: the values were emptied meanwhile.
        """
        calls = self._calls
        call = calls.get(provider)
        if call is None:
            call = asyncio.get_running_loop().create_task(make(self._used_stack()))
            calls[provider] = call

            def called(task: asyncio.Task[Any]) -> None:
                if (task.cancelled() or task.exception()) and calls.get(provider) is task:
                    del calls[provider]

            call.add_done_callback(called)
        try:
            return call.result() if call.done() else await asyncio.shield(call)
        except asyncio.CancelledError as error:
            if call.cancelled() and not is_cancelled(error):
                raise AuthError(
                    "The token of the socket changed while the message was handled"
                ) from error
            raise

    @property
    def used(self) -> bool:
        """Whether there is any value."""
        return self._stack is not None

    def cancel(self) -> None:
        """Cancel the providers that are being called."""
        for call in self._calls.values():
            if not call.done():
                cancel(call)

    def emptied(self) -> ScopedValues:
        """Move the values to a new object, to close it. Values asked for later are made anew."""
        old = ScopedValues()
        old._values, self._values = self._values, {}
        old._calls, self._calls = self._calls, {}
        old._stack, self._stack = self._stack, None
        return old

    async def close(self) -> None:
        """Clean up in the reverse order, once the providers that are being called have returned.

        Raises:
            Exception: of a provider's clean-up; the others were cleaned up too.
        """
        if self._calls:
            await asyncio.wait(self._calls.values())
        if self._stack is not None:
            await self._stack.aclose()
