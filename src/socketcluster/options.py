"""Shared checks of options and arguments: durations, names and their error messages."""

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
    """Create the error for an option of a wrong type or value."""
    return InvalidOptionsError(f"The {name} option must be {expected}, not {value!r}", name)


def milliseconds(name: str, value: Any) -> int | float:
    """Convert a duration option to milliseconds.

    Raises:
        InvalidOptionsError: the value is no duration, or negative.
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
    """Convert a duration to seconds; None stays None."""
    if duration is None:
        return None
    return duration.total_seconds() if isinstance(duration, timedelta) else duration / 1000


def has_methods(value: Any, *names: str) -> bool:
    """Return whether an object has all these methods."""
    return all(callable(getattr(value, name, None)) for name in names)


def snake_case(name: str) -> str:
    """Convert a documented camelCase name to its Python name."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def camel_case(name: str) -> str:
    """Convert a Python name to the documented camelCase name."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def check_names(names: Collection[str], valid: Collection[str]) -> None:
    """Check that options exist.

    Raises:
        InvalidOptionsError: one is unknown; it names the first.
    """
    for name in names:
        if name not in valid:
            hint = nearest(name, valid) or f". Options are: {', '.join(sorted(valid))}"
            raise InvalidOptionsError(f"There is no {name!r} option{hint}", name)


def check_entries(option: str, names: Collection[str], valid: Collection[str]) -> None:
    """Check the keys of an option that is a mapping.

    Raises:
        InvalidOptionsError: one is unknown; it names the first.
    """
    for name in names:
        if name not in valid:
            hint = nearest(str(name), valid) or f"; it has {', '.join(sorted(valid))}"
            raise InvalidOptionsError(f"The {option} option has no {name!r}{hint}", option)


def nearest(name: str, valid: Collection[str]) -> str:
    """Return "; did you mean 'x'?" if a valid name is similar, in camelCase too, else ""."""
    found = difflib.get_close_matches(snake_case(name), valid, 1)
    return f"; did you mean {found[0]!r}?" if found else ""


@functools.lru_cache(256)
def near_miss(event: str, events: frozenset[str]) -> str | None:
    """Return the documented event that a misspelled name looks like, else None."""
    if event in events:
        return None
    folded = {name.lower(): name for name in events}
    plain = event.replace("_", "").replace("-", "").lower()
    found = difflib.get_close_matches(plain, folded, 1, 0.8)
    return folded[found[0]] if found else None


def refuse_unknown(names: Collection[str], valid: Collection[str], function: str) -> None:
    """Check the keyword arguments of a function that takes any.

    Raises:
        InvalidArgumentsError: one is unknown; it names the first.
    """
    for name in names:
        if name not in valid:
            hint = nearest(name, valid) or "."
            raise InvalidArgumentsError(
                f"{function} has no option {name!r}{hint} "
                f"Its options are: {', '.join(sorted(valid))}"
            )


def checked_name(what: str, name: Any) -> None:
    """Check that a channel's name is a text and not empty.

    Raises:
        InvalidArgumentsError: it is no text, or empty.
    """
    if not isinstance(name, str) or not name:
        raise InvalidArgumentsError(f"{what} must be a text that is not empty, not {name!r}")


def check_text(what: str, name: Any) -> None:
    """Check that a name is a text.

    Raises:
        InvalidArgumentsError: it is no text.
    """
    if not isinstance(name, str):
        raise InvalidArgumentsError(f"{what} must be a text, not {name!r}")


def check_async_function(what: str, function: Any, *arguments: str) -> None:
    """Check that a function is async and takes these arguments, as far as that can be seen.

    Raises:
        InvalidArgumentsError: it is not; the message shows the form to write.
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
        return  # Python cannot find its signature.


def check_coroutine(what: str, coroutine: Any) -> None:
    """Check that an object can be awaited, and was not awaited yet.

    Raises:
        InvalidArgumentsError: it cannot, or it was.
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
    options: Mapping[str, Any], without_effect: Collection[str], valid: Collection[str]
) -> dict[str, Any]:
    """Convert options under documented names to Python names; warn of those without effect.

    Raises:
        InvalidOptionsError: one is unknown; it names the first, as it is spelled.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in without_effect:
            warnings.warn(f"The {name} option has no effect", UserWarning, stacklevel=4)
        elif snake_case(str(name)) in valid:
            found[snake_case(str(name))] = value
        else:
            documented = sorted(map(camel_case, valid))
            near = difflib.get_close_matches(camel_case(str(name)), documented, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f". It has: {', '.join(documented)}"
            raise InvalidOptionsError(f"There is no {name!r} option{hint}", snake_case(str(name)))
    return found
