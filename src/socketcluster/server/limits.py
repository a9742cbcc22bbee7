"""Limits: the rates that a server allows its clients, and the arithmetic that holds them.

Source: the generic cell rate algorithm, ITU-T I.371.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast, get_args

from socketcluster.errors import InvalidOptionsError
from socketcluster.literals import Exceeded
from socketcluster.options import invalid_option

EXCEEDED: tuple[str, ...] = get_args(Exceeded)
_PAUSABLE = ("message", "invoke", "publish", "subscribe", "bytes")
_ROUNDING = 1 / 1024
"""Units by which sums of floats may be off."""
_RATES = (*_PAUSABLE, "connect_per_ip")
_COUNTS = ("connections_per_ip", "sockets_per_user")
KINDS = (*_PAUSABLE, "procedure", "max_connections", "connect_per_ip", *_COUNTS)
"""The limits that are counted apart."""


@dataclass(frozen=True, slots=True, init=False)
class Rate:
    """A rate: `Rate(100, per=1)` is 100 in each second.

    Attributes:
        count: how many are allowed in `per` seconds.
        per: seconds; a timedelta is converted.
        burst: how many are allowed at once, after a time without any. By default `count`.
        exceeded: what happens past the rate, "error", "pause" or "close"; None takes the
            `exceeded` of the Limits.

    Raises:
        InvalidOptionsError: a value is invalid; the error names it.
    """

    count: int
    per: float
    burst: int
    exceeded: Exceeded | None

    def __init__(
        self,
        count: int,
        per: float | timedelta = 1.0,
        burst: int | None = None,
        exceeded: Exceeded | None = None,
    ) -> None:
        if type(count) is not int or count <= 0:
            raise invalid_option("Rate.count", "an integer above 0", count)
        seconds: Any = per.total_seconds() if isinstance(per, timedelta) else per
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, int | float)
            or not 0 < seconds < math.inf
        ):
            raise invalid_option("Rate.per", "seconds above 0, or a timedelta", per)
        if burst is None:
            burst = count
        if type(burst) is not int or burst <= 0:
            raise invalid_option("Rate.burst", "an integer above 0, or None", burst)
        if exceeded is not None and exceeded not in EXCEEDED:
            raise invalid_option("Rate.exceeded", "'error', 'pause', 'close' or None", exceeded)
        for name, value in (
            ("count", count),
            ("per", float(seconds)),
            ("burst", burst),
            ("exceeded", exceeded),
        ):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The rates and numbers that a server allows each client; each process counts for itself.

    None means no limit. Rates are per socket, unless their name says otherwise.

    Attributes:
        message: WebSocket messages; pongs do not count. A batch is one message.
        invoke: calls of procedures, in batches too.
        publish: publishes to channels.
        subscribe: subscriptions to channels.
        procedures: calls of a procedure, by its name, beside `invoke`. Past the rate a call is
            answered with an error, whatever `exceeded` says.
        bytes: payload bytes of messages. A message passes if there is room for its first byte,
            and what it takes beyond that is waited for afterwards.
        connections_per_ip: connections of one address at a time, of one /64 network for IPv6.
        connect_per_ip: new connections of one address, or one /64 network for IPv6.
        sockets_per_user: sockets of one user at a time; see `AGServer.identify`.
        exceeded: what happens to a message past its rate. "error" answers a call with
            RateLimitError and drops an event. "pause" carries the message out, and stops reading
            until there is room, so that TCP slows the client down. "close" closes the socket with
            1008.

    Raises:
        InvalidOptionsError: a value is invalid; the error names it.
    """

    message: Rate | None = None
    invoke: Rate | None = None
    publish: Rate | None = None
    subscribe: Rate | None = None
    procedures: Mapping[str, Rate] = field(default_factory=dict)
    bytes: Rate | None = None
    connections_per_ip: int | None = None
    connect_per_ip: Rate | None = None
    sockets_per_user: int | None = None
    exceeded: Exceeded = "error"

    def __post_init__(self) -> None:
        if self.exceeded not in EXCEEDED:
            raise invalid_option("limits.exceeded", "'error', 'pause' or 'close'", self.exceeded)
        for name in _RATES:
            rate = getattr(self, name)
            if rate is not None and not isinstance(rate, Rate):
                raise invalid_option(f"limits.{name}", "a rate, such as Rate(100, per=1)", rate)
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value <= 0):
                raise invalid_option(f"limits.{name}", "an integer above 0, or None", value)
        procedures = cast("object", self.procedures)
        if not isinstance(procedures, Mapping) or not all(
            isinstance(name, str) and isinstance(rate, Rate) for name, rate in procedures.items()
        ):
            expected = "a mapping, such as {'add': Rate(10)}"
            raise invalid_option("limits.procedures", expected, procedures)
        for name in self.procedures:
            if name.startswith("#"):
                raise InvalidOptionsError(
                    f"The limits.procedures option cannot limit {name!r}, which is a packet of the "
                    "protocol; use limits.publish or limits.subscribe",
                    "limits.procedures",
                )
        _check_exceeded(self)

    def exceeded_of(self, rate: Rate) -> Exceeded:
        """The `exceeded` that counts for a rate for messages."""
        return rate.exceeded or self.exceeded


def _check_exceeded(limits: Limits) -> None:
    fixed = {f"procedures[{name!r}]": rate for name, rate in limits.procedures.items()}
    if limits.connect_per_ip is not None:
        fixed["connect_per_ip"] = limits.connect_per_ip
    for name, rate in fixed.items():
        if rate.exceeded not in (None, "error"):
            raise InvalidOptionsError(
                f"The limits.{name} option cannot have exceeded={rate.exceeded!r}: past this rate "
                "the client always receives an error",
                f"limits.{name}",
            )
    usable = any(getattr(limits, name) is not None for name in _PAUSABLE)
    if limits.exceeded != "error" and not usable:
        raise InvalidOptionsError(
            f"The limits.exceeded option is {limits.exceeded!r}, but no limit uses it: set one of "
            f"{', '.join(_PAUSABLE)}",
            "limits.exceeded",
        )


class Bucket:
    """The arithmetic of one rate. Its owner keeps a *level* for each client, which begins at 0.

    The level is the time at which the bucket is empty again, counted in units of the rate: each
    event adds 1. `now` is in seconds, of a clock that never goes back.
    """

    __slots__ = ("_most", "_room", "_speed")

    def __init__(self, rate: Rate) -> None:
        self._speed: float = rate.count / rate.per
        self._room: int = rate.burst - 1
        self._most: float = self._room + _ROUNDING

    def has_room(self, level: float, now: float) -> bool:
        """Return whether one more unit is within the rate."""
        return level - now * self._speed <= self._most

    def add(self, level: float, now: float, units: int = 1) -> float:
        """Return the level after an event of some units, within the rate or not."""
        empty = now * self._speed
        return (level if level > empty else empty) + units

    def wait(self, level: float, now: float) -> float:
        """Return the seconds until one more unit is within the rate; 0 if it is now."""
        return max(0.0, (level - self._room) / self._speed - now)
