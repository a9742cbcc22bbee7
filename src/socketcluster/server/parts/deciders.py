"""Deciders: the handlers of channels, which decide who may subscribe and publish.

A decider runs after INBOUND middleware. It refuses by an error; its functions refuse with False or
with an exception. A function that returns anything unexpected has failed, which refuses too.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from socketcluster.errors import (
    EncodeError,
    InvalidArgumentsError,
    InvalidDataError,
    InvalidRequestError,
    SocketClusterError,
    UsageError,
)
from socketcluster.handlers.data_type import DataType
from socketcluster.handlers.dependencies import Invocation
from socketcluster.handlers.handler import ChannelHandler
from socketcluster.handlers.plan import Getter, Plan, Source, Surroundings, get_data
from socketcluster.handlers.signature import EMPTY, Parameter, Signature
from socketcluster.middleware.action import UNCHANGED
from socketcluster.patterns import PatternTable
from socketcluster.runtime.cancelling import close, is_cancelled
from socketcluster.runtime.reporting import Reporter
from socketcluster.sockets.request import error_for_caller

REMEMBERED_CHANNELS = 10_000
"""How many channels' deciders are kept. Clients choose the names, so there must be a bound."""


SUBSCRIBE = "subscribe to"
PUBLISH = "publish to"


class Declared(Protocol):
    """The handlers of a server, as its deciders see them; `latest` is the one that ran last."""

    latest: Any

    @property
    def sources(self) -> Mapping[str, Source]: ...
    @property
    def surroundings(self) -> Surroundings: ...
    @property
    def reporter(self) -> Reporter: ...


class Decider:
    """Decides on subscriptions and publishes to the channels of one pattern.

    Attributes:
        subscribing, publishing: the functions that decide; None without one.
        data: the type of the publishes; None if any data is possible.
    """

    __slots__ = ("_handler", "_reporter", "data", "publishing", "subscribing")

    def __init__(self, handler: ChannelHandler, declared: Declared) -> None:
        """Prepare.

        Raises:
            UsageError: a parameter has no source and no provider, or two sources.
        """
        ambiguous = {*declared.sources, "data", "channel"}.intersection(handler.pattern.parameters)
        if ambiguous:
            raise UsageError(
                f"{handler.place}: its pattern {handler.name!r} has a parameter "
                f"{ambiguous.pop()!r}, which means something else in a handler: rename it"
            )

        def function(signature: Signature | None, action: str) -> DecidingFunction | None:
            if signature is None:
                return None
            return DecidingFunction(handler, signature, action, declared, self.error_for_client)

        self._handler = handler
        self._reporter = declared.reporter
        self.data: DataType[Any] | None = handler.data
        self.subscribing: DecidingFunction | None = function(handler.subscribe, SUBSCRIBE)
        self.publishing: DecidingFunction | None = function(handler.publish, PUBLISH)

    @property
    def decides_on_publishes(self) -> bool:
        """Whether a publish has to be looked at."""
        handler = self._handler
        return not handler.publishable or handler.publish is not None or handler.data is not None

    def check_publishable(self, channel: str) -> None:
        """Raise InvalidRequestError if clients cannot publish at all."""
        if not self._handler.publishable:
            raise refused(PUBLISH, channel)

    def error_for_client(self, error: BaseException, socket: Any) -> SocketClusterError:
        """Return the error for the client; report one that the client receives less of."""
        handler = self._handler

        def report() -> None:
            self._reporter.fault(
                f"The handler of the channel {handler.name!r} failed, {handler.place}",
                error,
                kind=handler.name,
                socket=socket,
                channel=handler.name,
            )

        return error_for_caller(error, report)


class DecidingFunction:
    """A function of a channel's handler.

    It returns the data to publish, or UNCHANGED.
    """

    __slots__ = (
        "_action",
        "_can_be_none",
        "_declared",
        "_error_for_client",
        "_handler",
        "_is_truth_value",
        "_plan",
        "_to_plain",
        "is_async",
    )

    def __init__(
        self,
        handler: ChannelHandler,
        signature: Signature,
        action: str,
        declared: Declared,
        error_for_client: Callable[[BaseException, Any], SocketClusterError],
    ) -> None:
        if signature.is_generator:
            raise signature.error("it decides, and therefore cannot yield: return instead")
        all_sources = {**declared.sources, "data": Source(None, get_data)}
        all_sources["channel"] = Source(None, _get_channel)
        for name in handler.pattern.parameters:
            all_sources[name] = Source(None, _parameter_getter(signature, name))
        self._handler = handler
        self._declared = declared
        self._error_for_client = error_for_client
        self._plan = Plan(signature, all_sources, declared.surroundings)
        self.is_async: bool = self._plan.is_async
        self._action = action
        publishes = action == PUBLISH and handler.replaces
        # A channel of truth values publishes False.
        self._is_truth_value = (
            publishes and handler.data is not None and handler.data.annotation is bool
        )
        returns = signature.returns
        self._can_be_none = returns is not bool
        self._to_plain: Callable[[Any], Any] | None = None
        if publishes:
            typed = handler.data
            if returns not in (EMPTY, None, bool, type(None)):
                typed = DataType.of(returns)
            self._to_plain = _unchanged if typed is None else typed.to_plain

    def call(self, invocation: Invocation) -> Any:
        """Call a plain function.

        Raises:
            SocketClusterError: the error for the client: it refused, or failed.
        """
        self._declared.latest = self._handler
        try:
            return self._judged(self._plan.call(invocation), invocation)
        except (Exception, asyncio.CancelledError) as error:
            raise self._error_for_client(error, invocation.socket) from error

    async def call_async(self, invocation: Invocation) -> Any:
        """Call an async function as `call` does a plain one."""
        try:
            return self._judged(await self._plan.call_async(invocation), invocation)
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled(error):
                raise
            raise self._error_for_client(error, invocation.socket) from error

    def _judged(self, result: Any, invocation: Invocation) -> Any:
        if result is None and self._can_be_none:
            return UNCHANGED
        if isinstance(result, bool) and not self._is_truth_value:
            if result:
                return UNCHANGED
            raise refused(self._action, invocation.names["channel"])
        if result is None or self._to_plain is None or inspect.isawaitable(result):
            close(result)
            raise UsageError(_wrong_result(result))
        try:
            return self._to_plain(result)
        except EncodeError as error:
            raise UsageError(f"Its result cannot be published: {error}") from error


def _unchanged(value: Any) -> Any:
    return value


def _wrong_result(result: Any) -> str:
    if inspect.isawaitable(result):
        return f"It returned a {type(result).__name__}: make the function async, and await it there"
    if result is None:
        return "It is annotated with bool, and returned None"
    return f"It decides only, and may return True, False or None, but not {type(result).__name__}"


def refused(action: str, channel: str) -> InvalidRequestError:
    """Make the error of a refusal without a reason; `action` is SUBSCRIBE or PUBLISH."""
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
    try:
        kind = DataType.of(annotation)
    except InvalidArgumentsError as error:
        raise signature.error(f"its parameter '{name}' has a wrong type. {error}") from error
    if kind.kind == "pydantic":
        raise signature.error(
            f"its parameter '{name}' has a type of pydantic, which would not be checked: use a "
            "type of the standard library or of msgspec"
        )

    def get(invocation: Invocation) -> Any:
        try:
            return msgspec.convert(invocation.names[name], annotation, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidDataError(
                f"The channel's {name} is invalid: {error}", f"$.{name}"
            ) from error

    return get


async def _decide_later(
    function: DecidingFunction,
    invocation: Invocation,
    on_decided: Callable[[BaseException | None], None],
) -> None:
    try:
        await function.call_async(invocation)
    except SocketClusterError as error:
        on_decided(error)
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
        function, invocation = found[0].subscribing, Invocation(socket, data, found[1])
        if function.is_async:
            self._start(_decide_later(function, invocation, on_decided))
            return
        try:
            function.call(invocation)
        except SocketClusterError as error:
            on_decided(error)
        else:
            on_decided(None)

    def _find(self, channel: str) -> tuple[Decider, Mapping[str, str]] | None:
        found = self._table.find(channel)
        return None if found is None else (found[0], {**found[1], "channel": channel})
