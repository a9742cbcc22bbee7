"""History: what the rule of a channel says about its stored publishes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from socketcluster.brokers.storing import Retention
from socketcluster.options import invalid_option

MAX_SIZE = 10_000
MAX_TTL = 30 * 86_400.0
RECOVER_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Keep the publishes of a channel: `ChannelRule("chat/*", history=History(size=100, ttl=300))`.

    A client that was away receives what it missed, if all of it is still kept; else it receives
    nothing of it, and the answer says so.

    Attributes:
        size: how many publishes of a channel are kept; at most 10,000.
        ttl: seconds that a publish is kept; at most 30 days.
        recover: True for what a client missed; "latest" for the newest publish, at each
            subscription; False for neither.
        recover_limit: the most publishes that one subscription may receive again.
        before_subscribing: whether clients may read publishes from before their subscription.

    Raises:
        InvalidOptionsError: a value is wrong.
    """

    size: int
    ttl: float
    recover: bool | Literal["latest"] = True
    recover_limit: int = RECOVER_LIMIT
    before_subscribing: bool = False

    def __post_init__(self) -> None:
        _check_number("size", self.size, MAX_SIZE, whole=True)
        _check_number("ttl", self.ttl, MAX_TTL, whole=False)
        _check_number("recover_limit", self.recover_limit, MAX_SIZE, whole=True)
        if not isinstance(self.recover, bool) and self.recover != "latest":
            raise invalid_option("history.recover", "True, False or 'latest'", self.recover)
        if not isinstance(self.before_subscribing, bool):
            raise invalid_option("history.before_subscribing", "a bool", self.before_subscribing)

    @property
    def retention(self) -> Retention:
        """The amount that the broker keeps."""
        return Retention(self.size, float(self.ttl))


def _check_number(name: str, value: object, most: float, *, whole: bool) -> None:
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value <= most:
        noun = "a whole number" if whole else "seconds"
        raise invalid_option(f"history.{name}", f"{noun} above 0, at most {most:,.0f}", value)
