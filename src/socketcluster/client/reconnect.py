"""Reconnection of a client: randomized exponential backoff.

Source: npm socketcluster-client, `autoReconnectOptions`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from socketcluster.options import Duration, check_entries, invalid_option, milliseconds, snake_case

UNINTENDED = frozenset({4000, 4001, 1005})
"""Close codes of unintended disconnects: reconnect without the initial delay."""

PERMANENT = 4500
"""Close codes from here on are final, and so is 1000: no reconnection follows."""

IMMEDIATE_SPREAD = 1000
"""Milliseconds over which reconnections without the initial delay are spread, so that a server that
dropped everyone is not hit by all at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectOptions:
    """The delays between attempts to connect.

    The delay before attempt n is `(initial_delay + randomness * [0, 1)) * multiplier ** n`, at most
    `max_delay`. All but `multiplier` are in milliseconds or timedeltas.
    """

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
        """Read the value of an option: these options, or a mapping of them.

        Raises:
            InvalidOptionsError: the value is neither, or has an unknown or wrong entry.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise invalid_option(option, "a mapping or ReconnectOptions", value)
        entries = {snake_case(str(name)): entry for name, entry in value.items()}
        check_entries(option, entries, [field.name for field in fields(cls)])
        return cls(**entries)


def reconnect_delay(
    options: ReconnectOptions, attempt: int, chance: float, at_once: bool = False
) -> int:
    """Return the milliseconds before an attempt.

    Args:
        options: the delays.
        attempt: how many attempts have failed since the last connection.
        chance: a random number of [0, 1).
        at_once: whether the first attempt comes without the initial delay, only spread out.
    """
    randomness = float(options.randomness)  # type: ignore[arg-type]
    longest = float(options.max_delay)  # type: ignore[arg-type]
    if at_once and attempt == 0:
        return round(min(randomness, IMMEDIATE_SPREAD, longest) * chance)
    first = float(options.initial_delay) + randomness * chance  # type: ignore[arg-type]
    try:
        delay = first * options.multiplier**attempt
    except OverflowError:
        delay = longest if first else 0
    return round(min(delay, longest))


class Reconnector:
    """Schedules the next attempt: calls `connect` when its delay is over.

    Attributes:
        attempts: how many attempts were scheduled since the last connection.
        delay: the whole delay of the scheduled attempt in milliseconds; None without one.
    """

    __slots__ = ("_connect", "_handle", "_options", "attempts", "delay")

    def __init__(self, options: ReconnectOptions | None, connect: Callable[[], None]) -> None:
        self._options = options
        self._connect = connect
        self._handle: asyncio.TimerHandle | None = None
        self.attempts: int = 0
        self.delay: int | None = None

    def connection_closed(self, code: int) -> bool:
        """Schedule an attempt if the options and the code allow it, and return whether they do."""
        self.cancel()
        if self._options is None or code == 1000 or code >= PERMANENT:
            return False
        self.delay = reconnect_delay(
            self._options, self.attempts, random.random(), code in UNINTENDED
        )
        self.attempts += 1
        self._handle = asyncio.get_running_loop().call_later(self.delay / 1000, self._fire)
        return True

    def _fire(self) -> None:
        self.cancel()
        self._connect()

    def cancel(self) -> None:
        """Cancel the scheduled attempt."""
        self.delay = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
