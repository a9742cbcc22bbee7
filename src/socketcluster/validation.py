"""What the options of servers and clients share: durations, names, and how a wrong one is told."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from socketcluster.errors import InvalidArgumentsError, InvalidOptionsError

Duration = int | float | timedelta
"""Milliseconds, or a timedelta."""


def wrong_option(name: str, expected: str, value: Any) -> InvalidOptionsError:
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
        raise wrong_option(name, "milliseconds of at least 0, or a timedelta", value)
    return value


def has_methods(value: Any, *names: str) -> bool:
    """Whether an object has all these methods."""
    return all(callable(getattr(value, name, None)) for name in names)


def snake_case(name: str) -> str:
    """The Python name of a documented camelCase name."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def check_names(given: Collection[str], known: Collection[str]) -> None:
    """Refuse options that do not exist.

    Raises:
        InvalidOptionsError: for the first unknown one.
    """
    for name in given:
        if name not in known:
            raise InvalidOptionsError(
                f"There is no {name!r} option. Options are: {', '.join(sorted(known))}", name
            )


def nearest(name: str, known: Collection[str]) -> str:
    """ "; did you mean 'x'?" if a known name is near a wrong one, in camelCase too."""
    found = difflib.get_close_matches(snake_case(name), known, 1)
    return f"; did you mean {found[0]!r}?" if found else ""


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


def from_documented(options: Mapping[str, Any], without_effect: Collection[str]) -> dict[str, Any]:
    """Options by their documented names with Python names; those without effect only warn."""
    known: dict[str, Any] = {}
    for name, value in options.items():
        if name in without_effect:
            warnings.warn(f"The {name} option has no effect", UserWarning, stacklevel=4)
        else:
            known[snake_case(name)] = value
    return known
