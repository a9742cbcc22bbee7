"""Handlers: what an application declares about its procedures, receivers, channels and events."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin

from socketcluster.codecs.text import whole_text
from socketcluster.errors import InvalidArgumentsError, InvalidOptionsError, UsageError
from socketcluster.handlers.data_type import DataType
from socketcluster.handlers.signature import EMPTY, Parameter, Signature
from socketcluster.history.options import History
from socketcluster.options import Duration, milliseconds
from socketcluster.patterns import Pattern
from socketcluster.presence.options import Presence
from socketcluster.runtime.reporting import place_of

Locals = Mapping[str, Any]
"""The names that annotations may use beside those of their module."""

Order = Literal["socket", "free", "latest"]
"""How the messages of one socket reach an async handler: one after the other, several at once, or
one after the other while a newer message replaces the one that waits."""

ORDERS: tuple[Order, ...] = ("socket", "free", "latest")

_UNIONS = (Union, UnionType)

AT_ONCE = 100
"""How many messages of one socket a handler with the order "free" carries out at once."""


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """How a handler is run; see `Decorators.procedure`."""

    order: Order = "socket"
    at_once: int | None = None
    timeout: Duration | None = None
    thread: bool = False
    cancel_on_disconnect: bool = False

    def check(self, signature: Signature, orders: tuple[Order, ...]) -> None:
        """Check the options of a function.

        Raises:
            UsageError: one is wrong, or has no meaning for this function.
        """
        if self.order not in orders:
            raise signature.error(f"order is one of {orders}, not {self.order!r}")
        if self.at_once is not None and self.order != "free":
            raise signature.error('at_once goes with order="free"')
        if self.at_once is not None and (type(self.at_once) is not int or self.at_once < 1):
            raise signature.error(f"at_once is a number from 1 on, not {self.at_once!r}")
        if self.thread and signature.is_async:
            raise signature.error("thread=True is for a plain function: remove it, or the async")
        self._check_timeout(signature)
        if not (signature.is_async or self.thread):
            for name in ("timeout", "cancel_on_disconnect"):
                if getattr(self, name):
                    raise signature.error(
                        f"{name} is for an async function: a plain one cannot be interrupted"
                    )
            if self.order != "socket":
                raise signature.error(
                    f"order={self.order!r} is for an async function: a plain one is done before "
                    "the next message is read"
                )

    def _check_timeout(self, signature: Signature) -> None:
        try:
            if self.timeout is not None and milliseconds("timeout", self.timeout) == 0:
                raise signature.error("timeout is more than 0, or None for none")
        except InvalidOptionsError as error:
            raise signature.error(str(error)) from error

    @property
    def limit(self) -> int:
        """How many messages of one socket are carried out at once."""
        return (self.at_once or AT_ONCE) if self.order == "free" else 1


class Handler:
    """A function that handles the messages or events of a name.

    Attributes:
        name: of the procedure or the event, prefixes included.
        data: the type of its parameter `data`; None if it has none.
        default: the default of that parameter; EMPTY without one.
        returns: the type of its result; None if it returns nothing.
        invalid: how many messages were refused, because their data was of another type.
        failed: how many calls it did not carry out, because it raised an error or was cancelled.
    """

    __slots__ = (
        "data",
        "default",
        "failed",
        "invalid",
        "name",
        "options",
        "returns",
        "signature",
    )

    orders: tuple[Order, ...] = ("socket", "free")
    payload: str | None = "data"
    answers = False

    def __init__(self, name: str, signature: Signature, options: HandlerOptions) -> None:
        """Make the handler of a name.

        Raises:
            UsageError: the name is the protocol's own, the function yields, data of a type cannot
                be checked, or an option does not fit; the message names the function's place.
        """
        options.check(signature, self.orders)
        if signature.is_generator:
            raise signature.error("a handler returns its result: only a provider may yield")
        if self.payload is not None and name.startswith("#"):
            raise signature.error(f"{name!r} is not possible: such names are the protocol's own")
        if whole_text(name) != name:
            raise signature.error(f"{name!r} is not possible: no message has half a character")
        self.name: str = name
        self.signature: Signature = signature
        self.options: HandlerOptions = options
        parameter = signature.parameter(self.payload)
        self.default: Any = EMPTY if parameter is None else parameter.default
        self.invalid: int = 0
        self.failed: int = 0
        try:
            self.data: DataType[Any] | None = _data_type(parameter)
            self.returns: DataType[Any] | None = (
                _result_type(signature.returns) if self.answers else None
            )
        except InvalidArgumentsError as error:
            raise signature.error(str(error)) from error

    def prefixed(self, prefix: str) -> Self:
        """Return the handler under a name with a prefix."""
        return type(self)(prefix + self.name, self.signature, self.options)

    @property
    def function(self) -> Callable[..., Any]:
        """The function."""
        return self.signature.function

    @property
    def place(self) -> str:
        """The function's name, file and line."""
        return self.signature.place

    @property
    def doc(self) -> str:
        """The function's docstring."""
        return self.signature.doc

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.place}>"


class ProcedureHandler(Handler):
    """The handler of a procedure: it answers the calls."""

    __slots__ = ()

    answers = True


class ReceiverHandler(Handler):
    """The handler of a peer's events of one name."""

    __slots__ = ()

    orders: tuple[Order, ...] = ORDERS


class EventHandler(Handler):
    """A handler of an event of the server or the client itself."""

    __slots__ = ()

    payload: str | None = None


class ChannelHandler:
    """The handler of the channels that a pattern matches: decides who may subscribe and publish.

    Attributes:
        subscribe, publish: the functions that decide; None without one.
        replaces: whether `publish` may return other data to publish.
        data: the type of the publishes; None if any data is possible.
        message: the type of the messages that subscribers receive; None if it is not known.
        publishable: whether clients may publish at all.
        history, presence: the rule of these channels; None if they have neither.
        place, doc: of the class or the function.
    """

    __slots__ = (
        "data",
        "doc",
        "history",
        "message",
        "pattern",
        "place",
        "presence",
        "publish",
        "publishable",
        "replaces",
        "subscribe",
    )

    def __init__(
        self, pattern: Pattern, target: Any, publish: Any, message: Any, scope: Locals, line: str
    ) -> None:
        """Make the handler of a class, or of a function that decides on both actions.

        `publish` is the type of the publishes, False if there are none, EMPTY for that of the
        method `publish`. `message` is that of the messages, EMPTY for that of the publishes or
        their replacements. `line` is the place of the declaration.

        Raises:
            UsageError: the class has neither method, or cannot be made without arguments; or a
                signature is wrong.
        """
        self.pattern: Pattern = pattern
        # A class does not know its line.
        self.place: str = (
            place_of(target) if inspect.isroutine(target) else f"{place_of(target)} ({line})"
        )
        self.doc: str = inspect.getdoc(target) or ""
        self.publish: Signature | None = None
        self.replaces: bool = not inspect.isroutine(target)
        if inspect.isroutine(target):
            self.subscribe: Signature | None = Signature(target, scope)
            if self.subscribe.parameter("data") is not None:
                raise self.subscribe.error(
                    "it decides on subscriptions and publishes, whose data differs: to look at "
                    "'data', make it a class with the methods subscribe and publish"
                )
            if publish is not False:
                self.publish = self.subscribe
        else:
            owner = _made(target, self.place)
            self.subscribe = _method(owner, "subscribe", scope)
            self.publish = _method(owner, "publish", scope)
            if self.subscribe is None and self.publish is None and publish is EMPTY:
                raise UsageError(
                    f"{self.place}: the handler of {pattern.text!r} needs a method subscribe or "
                    "publish, or the type of the publishes as publish=…"
                )
        self.publishable: bool = publish is not False
        self.history: History | None = None
        self.presence: Presence | None = None
        if publish is False and self.publish is not None:
            raise UsageError(f"{self.place}: publish=False leaves its method publish nothing to do")
        if publish is EMPTY and self.publish is not None:
            parameter = self.publish.parameter("data")
            publish = EMPTY if parameter is None else parameter.annotation
        self.data: DataType[Any] | None = None
        try:
            if publish is not False and publish is not EMPTY:
                self.data = DataType.of(publish)
            self.message: DataType[Any] | None = (
                _message_type(self.publish if self.replaces else None, self.data)
                if message is EMPTY
                else DataType.of(message)
            )
        except InvalidArgumentsError as error:
            raise UsageError(f"{self.place}: {error}") from error

    def use_rule(self, history: History | None, presence: Presence | None) -> None:
        """Set the rule of the channels.

        Raises:
            UsageError: a value is of another type.
        """
        for name, value, kind in (("history", history, History), ("presence", presence, Presence)):
            if value is not None and not isinstance(value, kind):
                raise UsageError(
                    f"{self.place}: {name} must be {kind.__name__}(…) or None, not {value!r}"
                )
        self.history, self.presence = history, presence

    def prefixed(self, prefix: str) -> ChannelHandler:
        """Return the handler of the pattern with a prefix."""
        found = copy.copy(self)
        found.pattern = Pattern(prefix + self.pattern.text)
        return found

    @property
    def name(self) -> str:
        """The text of its pattern."""
        return self.pattern.text

    def __repr__(self) -> str:
        return f"<ChannelHandler {self.pattern.text!r} {self.place}>"


def _made(target: Any, place: str) -> Any:
    if not inspect.isclass(target):
        return target
    try:
        return target()
    except TypeError as error:
        raise UsageError(
            f"{place}: a class of a channel is made without arguments: {error}. Give an object "
            "of it instead"
        ) from error


def _method(owner: Any, name: str, scope: Locals) -> Signature | None:
    method = getattr(owner, name, None)
    return None if method is None else Signature(method, scope)


def _data_type(parameter: Parameter | None) -> DataType[Any] | None:
    if parameter is None:
        return None
    return DataType.of(Any if parameter.annotation is EMPTY else parameter.annotation)


def _message_type(publish: Signature | None, data: DataType[Any] | None) -> DataType[Any] | None:
    """Return the type of the messages, given the function that may replace the publishes."""
    returns = EMPTY if publish is None else publish.returns
    if returns is EMPTY or returns is Any:
        return data
    kinds = get_args(returns) if get_origin(returns) in _UNIONS else (returns,)
    replaced = [kind for kind in kinds if kind not in (None, NoneType, bool)]
    if not replaced:
        return data
    if len(replaced) == len(kinds):
        return DataType.of(returns)
    # It may also leave the data as it is.
    return data if data is not None and replaced == [data.annotation] else None


def _result_type(returns: Any) -> DataType[Any] | None:
    if returns is None or returns is type(None):
        return None
    return DataType.of(Any if returns is EMPTY else returns)
