"""Deciders: the handlers of channels, which decide who may subscribe and publish.

A decider runs after INBOUND middleware. It refuses by an error; its functions refuse with False or
with an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from socketcluster.errors import (
    InvalidDataError,
    InvalidRequestError,
    SocketClusterError,
    UsageError,
    internal_error,
)
from socketcluster.handlers.data_type import DataType
from socketcluster.handlers.dependencies import Invocation
from socketcluster.handlers.handler import ChannelHandler
from socketcluster.handlers.plan import Getter, Plan, Source, Surroundings, get_data
from socketcluster.handlers.signature import EMPTY, Parameter, Signature
from socketcluster.patterns import PatternTable
from socketcluster.runtime.reporting import Reporter

REMEMBERED_CHANNELS = 10_000
"""How many channels' deciders are kept. Clients choose the names, so there must be a bound."""


class Decider:
    """Decides on subscriptions and publishes to the channels of one pattern.

    Attributes:
        subscribing, publishing: the functions that decide; None without one.
        data: the type of the publishes; None if any data is possible.
    """

    __slots__ = ("_handler", "_reporter", "data", "publishing", "subscribing")

    def __init__(
        self,
        handler: ChannelHandler,
        sources: Mapping[str, Source],
        surroundings: Surroundings,
        reporter: Reporter,
    ) -> None:
        """Prepare; raise UsageError if a parameter has no source and no provider."""

        def function(signature: Signature | None) -> DecidingFunction | None:
            return (
                None
                if signature is None
                else DecidingFunction(handler, signature, sources, surroundings)
            )

        self._handler = handler
        self._reporter = reporter
        self.data: DataType[Any] | None = handler.data
        self.subscribing: DecidingFunction | None = function(handler.subscribe)
        self.publishing: DecidingFunction | None = function(handler.publish)

    @property
    def decides_on_publishes(self) -> bool:
        """Whether a publish has to be looked at."""
        handler = self._handler
        return not handler.publishable or handler.publish is not None or handler.data is not None

    def check_publishable(self, channel: str) -> None:
        """Raise InvalidRequestError if clients cannot publish at all."""
        if not self._handler.publishable:
            raise refused("publish to", channel)

    def error_for_client(self, error: Exception) -> SocketClusterError:
        """Return the error for the client; report one that the client receives less of."""
        if isinstance(error, SocketClusterError) and not isinstance(error, UsageError):
            return error
        self._reporter.fault(
            f"The handler of the channel {self._handler.name!r} failed, {self._handler.place}",
            error,
            kind=self._handler.name,
        )
        return internal_error()


class DecidingFunction:
    """A function of a channel's handler."""

    __slots__ = ("_action", "_false_refuses", "_plan", "_returns", "is_async")

    def __init__(
        self,
        handler: ChannelHandler,
        signature: Signature,
        sources: Mapping[str, Source],
        surroundings: Surroundings,
    ) -> None:
        all_sources = {**sources, "data": Source(None, get_data)}
        all_sources["channel"] = Source(None, _get_channel)
        for name in handler.pattern.parameters:
            all_sources[name] = Source(None, _parameter_getter(signature, name))
        self._plan = Plan(signature, all_sources, surroundings)
        self.is_async: bool = self._plan.is_async
        # A channel of truth values publishes False.
        is_bool = handler.data is not None and handler.data.annotation is bool
        self._action = "publish to" if signature is handler.publish else "subscribe to"
        self._false_refuses = not (signature is handler.publish and is_bool)
        returns = signature.returns
        self._returns: DataType[Any] | None = handler.data
        if returns not in (EMPTY, None, bool, type(None)):
            self._returns = DataType.of(returns)

    def call(self, invocation: Invocation) -> Any:
        """Call a plain function, and return its result.

        Raises:
            InvalidRequestError: it refused with False.
            Exception: it refused, or failed.
        """
        return self._judged(self._plan.call(invocation), invocation)

    async def call_async(self, invocation: Invocation) -> Any:
        """Call an async function as `call` does a plain one."""
        return self._judged(await self._plan.call_async(invocation), invocation)

    def _judged(self, result: Any, invocation: Invocation) -> Any:
        if result is False and self._false_refuses:
            raise refused(self._action, invocation.names["channel"])
        return result

    def replacement(self, result: Any, data: Any) -> Any:
        """Return the data to publish: that of the function, or the data as received."""
        if result is None or (result is True and self._false_refuses):
            return data
        return result if self._returns is None else self._returns.to_plain(result)


def refused(action: str, channel: str) -> InvalidRequestError:
    """Make the error of a refusal without a reason: `action` is "subscribe to", for example."""
    return InvalidRequestError(f"It is not allowed to {action} the {channel} channel")


def _get_channel(invocation: Invocation) -> Any:
    return invocation.names["channel"]


def _parameter_getter(signature: Signature, name: str) -> Getter:
    """Return the getter of a parameter of the pattern, converted to its annotation."""
    parameter: Parameter | None = signature.parameter(name)
    if parameter is None or parameter.annotation in (EMPTY, str, Any):

        def get_text(invocation: Invocation) -> Any:
            return invocation.names[name]

        return get_text
    annotation = parameter.annotation

    def get(invocation: Invocation) -> Any:
        try:
            return msgspec.convert(invocation.names[name], annotation, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidDataError(
                f"The channel's {name} is invalid: {error}", f"$.{name}"
            ) from error

    return get


async def _decide_later(
    decider: Decider,
    function: DecidingFunction,
    invocation: Invocation,
    on_decided: Callable[[BaseException | None], None],
) -> None:
    try:
        await function.call_async(invocation)
    except Exception as error:
        on_decided(decider.error_for_client(error))
    else:
        on_decided(None)


class Deciders:
    """The deciders of a server, by the channels that their patterns match."""

    __slots__ = ("_remembered", "_start", "_table")

    def __init__(
        self,
        start: Callable[[Coroutine[Any, Any, None]], object],
        deciders: Iterable[tuple[ChannelHandler, Decider]] = (),
    ) -> None:
        """Make the table; `start` runs a coroutine in a task."""
        self._start = start
        self._table: PatternTable[Decider] = PatternTable()
        for handler, decider in deciders:
            self._table.add(handler.pattern, decider)
        self._remembered = lru_cache(REMEMBERED_CHANNELS)(self._find)

    def __len__(self) -> int:
        return len(self._table)

    def find(self, channel: str) -> tuple[Decider, Mapping[str, str]] | None:
        """Return the decider of a channel, and the values of the pattern's parameters."""
        return self._remembered(channel) if len(self._table) else None

    def decide_again(
        self,
        socket: Any,
        channel: str,
        data: Any,
        on_decided: Callable[[BaseException | None], None],
    ) -> None:
        """Decide whether a socket stays subscribed, whose token was lost or is another user's.

        `on_decided` is called once, now or later, with the reason if it does not stay.
        """
        found = self.find(channel)
        if found is None or found[0].subscribing is None:
            on_decided(None)
            return
        decider, names = found
        function, invocation = found[0].subscribing, Invocation(socket, data, names)
        if function.is_async:
            self._start(_decide_later(decider, function, invocation, on_decided))
            return
        try:
            function.call(invocation)
        except Exception as error:
            on_decided(decider.error_for_client(error))
        else:
            on_decided(None)

    def _find(self, channel: str) -> tuple[Decider, Mapping[str, str]] | None:
        found = self._table.find(channel)
        return None if found is None else (found[0], {**found[1], "channel": channel})
