"""What the options of servers and clients share: durations, names, and how a wrong one is told."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import warnings
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, overload

from socketcluster.errors import InvalidArgumentsError, InvalidOptionsError

Duration = int | float | timedelta
"""Milliseconds, or a timedelta."""


def invalid_option(name: str, expected: str, value: Any) -> InvalidOptionsError:
    """The error for an option of a wrong type or value."""
    return InvalidOptionsError(f"The {name} option must be {expected}, not {value!r}", name)


def milliseconds(name: str, value: Any) -> int | float:
    """A duration option in milliseconds.

    Raises:
        InvalidOptionsError: it is no duration, or negative.
    """
    if isinstance(value, timedelta):
        value = value / timedelta(milliseconds=1)
        value = int(value) if value == int(value) else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise invalid_option(name, "milliseconds of at least 0, or a timedelta", value)
    return value


@overload
def seconds(duration: None) -> None: ...
@overload
def seconds(duration: Duration) -> float: ...
def seconds(duration: Duration | None) -> float | None:
    """A duration in seconds; None stays None."""
    if duration is None:
        return None
    return duration.total_seconds() if isinstance(duration, timedelta) else duration / 1000


def has_methods(value: Any, *names: str) -> bool:
    """Whether an object has all these methods."""
    return all(callable(getattr(value, name, None)) for name in names)


def snake_case(name: str) -> str:
    """The Python name of a documented camelCase name."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def camel_case(name: str) -> str:
    """The documented camelCase name of a Python name."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def check_names(given: Collection[str], known: Collection[str]) -> None:
    """Refuse options that do not exist.

    Raises:
        InvalidOptionsError: for the first unknown one.
    """
    for name in given:
        if name not in known:
            hint = nearest(name, known) or f". Options are: {', '.join(sorted(known))}"
            raise InvalidOptionsError(f"There is no {name!r} option{hint}", name)


def check_entries(option: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse the entries of an option, a mapping, that it does not have.

    Raises:
        InvalidOptionsError: for the first unknown one.
    """
    for name in given:
        if name not in known:
            hint = nearest(str(name), known) or f"; it has {', '.join(sorted(known))}"
            raise InvalidOptionsError(f"The {option} option has no {name!r}{hint}", option)


def nearest(name: str, known: Collection[str]) -> str:
    """ "; did you mean 'x'?" if a known name is near a wrong one, in camelCase too."""
    found = difflib.get_close_matches(snake_case(name), known, 1)
    return f"; did you mean {found[0]!r}?" if found else ""


@functools.lru_cache(256)
def near_miss(event: str, events: frozenset[str]) -> str | None:
    """The documented event that an unknown name looks like; None for a known or another name."""
    if event in events:
        return None
    folded = {known.lower(): known for known in events}
    plain = event.replace("_", "").replace("-", "").lower()
    found = difflib.get_close_matches(plain, folded, 1, 0.8)
    return folded[found[0]] if found else None


def refuse_unknown(given: Collection[str], known: Collection[str], function: str) -> None:
    """Refuse keyword arguments that a function does not have.

    Raises:
        InvalidArgumentsError: for the first unknown one.
    """
    for name in given:
        if name not in known:
            hint = nearest(name, known) or "."
            raise InvalidArgumentsError(
                f"{function} has no option {name!r}{hint} "
                f"Its options are: {', '.join(sorted(known))}"
            )


def checked_name(what: str, name: Any) -> None:
    """Refuse the name of a channel that is no text or empty.

    Raises:
        InvalidArgumentsError: it is.
    """
    if not isinstance(name, str) or not name:
        raise InvalidArgumentsError(f"{what} must be a text that is not empty, not {name!r}")


def check_text(what: str, name: Any) -> None:
    """Refuse a name that is no text.

    Raises:
        InvalidArgumentsError: it is none.
    """
    if not isinstance(name, str):
        raise InvalidArgumentsError(f"{what} must be a text, not {name!r}")


def check_async_function(what: str, function: Any, *arguments: str) -> None:
    """Refuse a function that is not async or does not take these arguments, where that shows.

    Raises:
        InvalidArgumentsError: it says what was given, and how it has to be written.
    """
    shape = f"{what} must be an async function (async def name({', '.join(arguments)}))"
    if inspect.iscoroutine(function):
        function.close()
        raise InvalidArgumentsError(
            f"{shape}, not a coroutine: give the function itself, without calling it"
        )
    if not callable(function):
        raise InvalidArgumentsError(f"{shape}, not {function!r}")
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inspect.isasyncgenfunction(inner):
        raise InvalidArgumentsError(f"{shape}: {inner.__qualname__} has a yield")
    if inspect.isroutine(inner) and not (
        inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(inspect.unwrap(inner))
    ):
        raise InvalidArgumentsError(f"{shape}: {inner.__qualname__} is not async")
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        name = getattr(inner, "__qualname__", repr(inner))
        raise InvalidArgumentsError(f"{shape}: {name} cannot be called so: {error}") from None
    except ValueError:
        return  # It has no signature that Python knows.


def check_coroutine(what: str, coroutine: Any) -> None:
    """Refuse what cannot be awaited, or was already.

    Raises:
        InvalidArgumentsError: it says what was given.
    """
    if not inspect.isawaitable(coroutine):
        name = getattr(coroutine, "__name__", None)
        hint = f": call it, {what}({name}(...))" if callable(coroutine) and name else ""
        raise InvalidArgumentsError(f"{what}() takes a coroutine, not {coroutine!r}{hint}")
    if inspect.iscoroutine(coroutine) and (
        inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
    ):
        raise InvalidArgumentsError(
            f"{what}() takes a coroutine that was not awaited yet, not {coroutine!r}"
        )


def from_documented(
    options: Mapping[str, Any], without_effect: Collection[str], known: Collection[str]
) -> dict[str, Any]:
    """Options by their documented names with Python names; those without effect only warn.

    Raises:
        InvalidOptionsError: for the first unknown one, under the name that was given.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in without_effect:
            warnings.warn(f"The {name} option has no effect", UserWarning, stacklevel=4)
        elif snake_case(str(name)) in known:
            found[snake_case(str(name))] = value
        else:
            documented = sorted(map(camel_case, known))
            near = difflib.get_close_matches(camel_case(str(name)), documented, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f". It has: {', '.join(documented)}"
            raise InvalidOptionsError(f"There is no {name!r} option{hint}", snake_case(str(name)))
    return found
