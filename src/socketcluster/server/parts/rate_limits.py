"""Rate limits: the server's rules, and the levels of one socket's buckets.

Message and bytes rules that refuse are asked before a message is decoded. All other rules are asked
when a packet is carried out. A rule that pauses lets its packet pass. The packets behind it wait in
the socket's sequencer until the bucket has room, and reading pauses meanwhile. A
refused packet counts for the message and bytes rules that pause, too: otherwise a client could send
such packets without end.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from socketcluster.errors import RateLimitError
from socketcluster.literals import Exceeded
from socketcluster.protocol.state import CLOSED, PINGS
from socketcluster.server.limits import KINDS, Bucket, Limits, Rate
from socketcluster.server.parts.inbound import Inbound
from socketcluster.server.parts.life import Life
from socketcluster.server.parts.sequencer import Continuation

LONGEST_PAUSE = 1.0
"""Seconds after which a paused socket is read from again, until its next message: a reader that is
paused sees neither a close nor the answers to this side's calls."""

_NOUNS = {
    "message": "messages",
    "bytes": "bytes",
    "invoke": "calls",
    "publish": "publishes",
    "subscribe": "subscriptions",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rate for messages or packets.

    Attributes:
        index: the place of its level among those of a socket.
        kind: the key in `RateLimits.limited`.
        text: the limit in words.
        exceeded: what happens past it.
        bucket: its arithmetic.
    """

    index: int
    kind: str
    text: str
    exceeded: Exceeded
    bucket: Bucket

    @property
    def pauses(self) -> bool:
        """Whether it lets packets pass, and pauses reading."""
        return self.exceeded == "pause"


Rules = tuple[Rule, ...]


class RateLimits:
    """The rate limits of a server, and how often they were exceeded.

    Attributes:
        limited: how often each limit was exceeded, by the limit's name; `Admission` and `UserIndex`
            count theirs here, too. For "pause" these are the pauses.
        paused: sockets that wait at present because of a limit.
        before: the message and bytes rules that refuse, asked before a message is decoded.
        message: the message and bytes rules that pause.
        packets: the rules of a packet, by its event.
        calls: the rules of calls to procedures that are not in `packets`.
        size: how many rules there are.
    """

    __slots__ = ("before", "calls", "limited", "message", "packets", "paused", "refuse", "size")

    def __init__(self, limits: Limits | None, refuse: Callable[[Any, bytes, Rule], None]) -> None:
        """`refuse(socket, message, rule)` refuses a message that is not decoded."""
        self.refuse: Callable[[Any, bytes, Rule], None] = refuse
        self.limited: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.paused: int = 0
        self.size: int = 0
        limits = Limits() if limits is None else limits

        def rules(kind: str) -> Rules:
            rate: Rate | None = getattr(limits, kind)
            return () if rate is None else (self._rule(kind, rate, limits.exceeded_of(rate)),)

        whole = rules("message") + rules("bytes")
        self.before: Rules = tuple(rule for rule in whole if not rule.pauses)
        self.message: Rules = tuple(rule for rule in whole if rule.pauses)
        self.calls: Rules = rules("invoke")
        self.packets: dict[str, Rules] = {
            name: (*self.calls, self._rule("procedure", rate, "error", f"calls of {name!r}"))
            for name, rate in limits.procedures.items()
        }
        for name in ("publish", "subscribe"):
            if found := rules(name):
                self.packets[f"#{name}"] = found

    def _rule(self, kind: str, rate: Rate, exceeded: Exceeded, noun: str | None = None) -> Rule:
        text = f"The limit of {rate.count} {noun or _NOUNS[kind]} in {rate.per:g} s is exceeded"
        rule = Rule(self.size, kind, text, exceeded, Bucket(rate))
        self.size += 1
        return rule

    @property
    def limits_packets(self) -> bool:
        """Whether any rule is asked when a packet is carried out."""
        return bool(self.message or self.calls or self.packets)

    def rules_of(self, event: str | None, is_call: bool) -> Rules:
        """Return the rules of a packet."""
        if event is None:
            return ()
        if event.startswith("#"):
            return self.packets.get(event, ())
        return self.packets.get(event, self.calls) if is_call else ()

    def count(self, kind: str) -> None:
        """Count that a limit was exceeded."""
        self.limited[kind] += 1


class Words(Protocol):
    """A socket's closing, as its rates see it."""

    @property
    def last_words(self) -> object | None: ...


class RatesOwner(Protocol):
    """The rates' view of their socket."""

    @property
    def life(self) -> Life: ...
    @property
    def inbound(self) -> Inbound: ...
    @property
    def closing(self) -> Words: ...


class SocketRates:
    """The levels of one socket's buckets, and its pause."""

    __slots__ = ("_levels", "_limits", "_pong", "_reopening", "_socket", "_time", "_waiter")

    def __init__(self, socket: RatesOwner, limits: RateLimits, protocol_version: int) -> None:
        self._socket = socket
        self._limits = limits
        self._pong = PINGS[protocol_version][1]
        self._time = asyncio.get_running_loop().time
        self._levels = [0.0] * limits.size
        self._waiter: asyncio.Future[None] | None = None
        self._reopening: asyncio.TimerHandle | None = None

    # Messages

    def received(self, message: bytes) -> None:
        """Pass a message on to `Inbound.message`, or refuse it. The engine calls this."""
        socket, limits = self._socket, self._limits
        if limits.before and message != self._pong and socket.life.state != CLOSED:
            now = self._time()
            refusing = self.find_refusing(limits.before, now)
            if refusing is None:
                self.add(limits.before, now, len(message))
                socket.inbound.message(message)
            else:
                limits.refuse(socket, message, refusing)
                self._add_refused(message, now)
        else:
            socket.inbound.message(message)
        if self._waiter is not None and self._reopening is None:
            self._pause()

    def _add_refused(self, message: bytes, now: float) -> None:
        exceeded = self.add(self._limits.message, now, len(message))
        inbound = self._socket.inbound
        if exceeded and not inbound.ending and not inbound.waiting:
            inbound.wait_for(self.pause_after(None, exceeded))

    # Rules

    def now(self) -> float:
        """The time of the rules, in seconds."""
        return self._time()

    def has_room(self, rules: Rules, now: float) -> bool:
        """Return whether a packet is within all rules."""
        levels = self._levels
        return all(rule.bucket.has_room(levels[rule.index], now) for rule in rules)

    def find_refusing(self, rules: Rules, now: float) -> Rule | None:
        """Return the first rule that refuses a packet, and count it."""
        levels = self._levels
        for rule in rules:
            if not rule.pauses and not rule.bucket.has_room(levels[rule.index], now):
                self._limits.count(rule.kind)
                return rule
        return None

    def add(self, rules: Rules, now: float, size: int) -> Rules:
        """Add a packet of a message of `size` bytes; return the rules that it exceeds."""
        exceeded: Rules = ()
        levels = self._levels
        for rule in rules:
            index, bucket = rule.index, rule.bucket
            if not bucket.has_room(levels[index], now):
                self._limits.count(rule.kind)
                exceeded = (*exceeded, rule)
            units = size if rule.kind == "bytes" else 1
            levels[index] = bucket.add(levels[index], now, units)
        return exceeded

    def error(self, rule: Rule) -> RateLimitError:
        """Make the error of a rule that refuses a packet."""
        wait = rule.bucket.wait(self._levels[rule.index], self._time())
        return RateLimitError(rule.text, max(1, math.ceil(wait * 1000)))

    # Pausing

    def pause_after(self, continuation: Continuation, rules: Rules) -> Continuation:
        """Return the continuation of a packet that exceeds rules: the end of its pause."""
        return self._finish(continuation, rules)

    async def _finish(self, continuation: Continuation, rules: Sequence[Rule]) -> None:
        if continuation is not None:
            await continuation
        socket, levels = self._socket, self._levels
        if socket.inbound.ending or socket.closing.last_words is not None:
            return
        now = self._time()
        seconds = max(rule.bucket.wait(levels[rule.index], now) for rule in rules)
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self.end_pause)
        self._limits.paused += 1
        self._pause()
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
            self._limits.paused -= 1
            self._reopen()

    def end_pause(self) -> None:
        """Carry out the packets that wait."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        self._reopening = loop.call_later(LONGEST_PAUSE, self._reopen)
        self._socket.inbound.flow_control.limit(True)

    def _reopen(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
            self._socket.inbound.flow_control.limit(False)
