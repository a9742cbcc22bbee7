"""When a client that lost its connection tries again: randomized exponential back-off.

Source: npm socketcluster-client, `autoReconnectOptions`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from socketcluster.options import Duration, check_entries, invalid_option, milliseconds, snake_case

AT_ONCE = frozenset({4000, 4001, 1005})
"""Close codes of connections that were lost without anybody's intent: tried again soon."""

PERMANENT = 4500
"""Close codes from here on, and 1000, are final."""

AT_ONCE_SPREAD = 1000
"""Milliseconds over which those are spread that a server which stood still has lost all at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectOptions:
    """The delay before attempt n is `(initial_delay + randomness * [0, 1)) * multiplier ** n`, but
    at most `max_delay`. All but `multiplier` in milliseconds or as timedeltas."""

    initial_delay: Duration = 10_000
    randomness: Duration = 10_000
    multiplier: float = 1.5
    max_delay: Duration = 60_000

    def __post_init__(self) -> None:
        for name in ("initial_delay", "randomness", "max_delay"):
            object.__setattr__(self, name, milliseconds(name, getattr(self, name)))
        value = self.multiplier
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 1e6:
            raise invalid_option("multiplier", "a number of at least 1", value)

    @classmethod
    def of(cls, option: str, value: Any) -> ReconnectOptions:
        """From the value of an option: these options, or a mapping of them.

        Raises:
            InvalidOptionsError: it is neither, or has an unknown or wrong entry.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise invalid_option(option, "a mapping or ReconnectOptions", value)
        given = {snake_case(str(name)): entry for name, entry in value.items()}
        check_entries(option, given, [field.name for field in fields(cls)])
        return cls(**given)


def reconnect_delay(
    options: ReconnectOptions, attempt: int, chance: float, at_once: bool = False
) -> int:
    """Milliseconds before an attempt.

    Args:
        attempt: how many attempts have failed since the last connection.
        chance: a random number of [0, 1).
        at_once: the first attempt need not wait longer than it takes to spread clients out.
    """
    randomness = float(options.randomness)  # type: ignore[arg-type]
    longest = float(options.max_delay)  # type: ignore[arg-type]
    if at_once and attempt == 0:
        return round(min(randomness, AT_ONCE_SPREAD, longest) * chance)
    first = float(options.initial_delay) + randomness * chance  # type: ignore[arg-type]
    try:
        delay = first * options.multiplier**attempt
    except OverflowError:
        delay = longest if first else 0
    return round(min(delay, longest))


class Reconnector:
    """Calls `connect` when it is time for the next attempt.

    Attributes:
        attempts: how many attempts were scheduled since the last connection.
        delay: milliseconds that the pending attempt waits in all; None when none is pending.
    """

    __slots__ = ("_connect", "_handle", "_options", "attempts", "delay")

    def __init__(self, options: ReconnectOptions | None, connect: Callable[[], None]) -> None:
        self._options = options
        self._connect = connect
        self._handle: asyncio.TimerHandle | None = None
        self.attempts = 0
        self.delay: int | None = None

    def connection_closed(self, code: int) -> bool:
        """Schedule an attempt if the code allows it and reconnecting is on; whether it did."""
        self.cancel()
        if self._options is None or code == 1000 or code >= PERMANENT:
            return False
        self.delay = reconnect_delay(self._options, self.attempts, random.random(), code in AT_ONCE)
        self.attempts += 1
        self._handle = asyncio.get_running_loop().call_later(self.delay / 1000, self._fire)
        return True

    def _fire(self) -> None:
        self.cancel()
        self._connect()

    def cancel(self) -> None:
        """Give up the pending attempt."""
        self.delay = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
