"""Signatures: the parameters and annotations of a handler or a provider, read once."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from socketcluster.errors import UsageError
from socketcluster.runtime.reporting import place_of

EMPTY: Any = inspect.Parameter.empty

_TEXTUAL = (EMPTY, str, int, float, bool)
"""Annotations of parameters that no provider has: they belong to a channel's name, or to data."""


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of a function.

    Attributes:
        annotation: resolved, `Annotated` kept; EMPTY without one.
        default: EMPTY without one.
    """

    name: str
    annotation: Any
    default: Any
    keyword_only: bool

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is EMPTY


class Signature:
    """A function as its handler sees it.

    Attributes:
        function: as given.
        call: what to call: the function, or one that returns an awaitable each time.
        place: the function's name, file and line, for errors.
        parameters: those that a call has to fill.
        returns: the resolved annotation; EMPTY without one.
        is_async: whether a call of it has to be awaited.
        is_generator: whether it yields its value and cleans up afterwards.
    """

    __slots__ = (
        "call",
        "doc",
        "function",
        "is_async",
        "is_generator",
        "parameters",
        "place",
        "returns",
    )

    def __init__(self, function: Callable[..., Any], scope: Mapping[str, Any]) -> None:
        """Read a function; `scope` has the local names that its annotations may use.

        Raises:
            UsageError: it is no function, takes *args or **kwargs, or an annotation cannot be
                resolved; the message names its place.
        """
        if not callable(function):
            raise UsageError(f"A handler must be a function, not {function!r}")
        self.function: Callable[..., Any] = function
        self.place: str = place_of(function)
        layers = list(_layers(function))
        inner = layers[-1]
        self.doc: str = inspect.getdoc(function) or ""
        is_async_generator = inspect.isasyncgenfunction(inner)
        self.is_async: bool = is_async_generator or any(map(inspect.iscoroutinefunction, layers))
        self.is_generator: bool = is_async_generator or inspect.isgeneratorfunction(inner)
        is_hidden = self.is_async and not (
            self.is_generator or inspect.iscoroutinefunction(layers[0])
        )
        self.call: Callable[..., Any] = _awaiting(function) if is_hidden else function
        hints = self._hints(inner, scope)
        self.returns: Any = hints.pop("return", EMPTY)
        self.parameters: tuple[Parameter, ...] = self._parameters(function, hints)

    def _hints(self, inner: Callable[..., Any], scope: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return typing.get_type_hints(inner, localns=dict(scope), include_extras=True)
        except NameError as error:
            raise self.error(
                f"its annotation {error.name!r} cannot be resolved: import the name where the "
                "program runs too, not under TYPE_CHECKING alone, and define it before the function"
            ) from error
        except Exception as error:
            raise self.error(f"its annotations cannot be resolved: {error}") from error

    def _parameters(
        self, function: Callable[..., Any], hints: Mapping[str, Any]
    ) -> tuple[Parameter, ...]:
        found: list[Parameter] = []
        for each in inspect.signature(function).parameters.values():
            if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                raise self.error(f"its parameter {each} is not possible: name each parameter")
            hint = hints.get(each.name, EMPTY)
            found.append(Parameter(each.name, hint, each.default, each.kind is each.KEYWORD_ONLY))
        return tuple(found)

    def parameter(self, name: str | None) -> Parameter | None:
        """Return the parameter of a name; None without one."""
        return next((each for each in self.parameters if each.name == name), None)

    def check_names(self, names: frozenset[str], pattern: str | None = None) -> None:
        """Check the names of the parameters, before all providers are known.

        Raises:
            UsageError: a parameter can be neither one of `names` nor a provided type.
        """
        for each in self.parameters:
            if each.name in names or not each.required:
                continue
            if pattern is not None and each.annotation in _TEXTUAL:
                raise self.error(
                    f"its parameter '{each.name}' is not in the pattern: {pattern!r} has no "
                    f"{{{each.name}}}"
                )
            if each.annotation is EMPTY or each.annotation in _TEXTUAL:
                raise self.error(
                    f"its parameter '{each.name}' is unknown. It may be one of "
                    f"{', '.join(sorted(names))}, or be annotated with the type of a provider"
                )

    def error(self, problem: str) -> UsageError:
        """Make the error for a wrong function, which names its place."""
        return UsageError(f"{self.place}: {problem}")


def _layers(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Yield a function and those that it wraps, from outside to inside, without partials.

    In place of an object with `__call__` it yields that method.
    """
    layer: Any = function
    while layer is not None:
        while isinstance(layer, functools.partial):
            layer = layer.func
        wrapped = getattr(layer, "__wrapped__", None)
        yield layer if inspect.isroutine(layer) or wrapped is not None else type(layer).__call__
        layer = wrapped


def _awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a coroutine function of a plain wrapper around one: not each result is awaitable."""

    async def call(*arguments: Any, **keywords: Any) -> Any:
        result = function(*arguments, **keywords)
        return await result if inspect.isawaitable(result) else result

    return call


def local_names(depth: int) -> Mapping[str, Any]:
    """Return the local names of a caller, `depth` frames above the caller of this function.

    Annotations of a function that is defined in another one may use them.
    """
    frame = inspect.currentframe()
    for _ in range(depth + 1):
        frame = None if frame is None else frame.f_back
    if frame is None:
        return {}
    return {} if frame.f_locals is frame.f_globals else frame.f_locals
