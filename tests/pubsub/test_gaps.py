"""Gap reports of an exchange and its sockets, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from socketcluster.errors import BrokerError
from socketcluster.events import BrokerAwayEvent, BrokerGapEvent
from socketcluster.pubsub import gaps
from socketcluster.pubsub.gaps import GapReports
from socketcluster.streams import AsyncStreamEmitter
from support import until

ERROR = BrokerError("away")


class Uncopied(Collection[str]):
    """Names of channels that nobody may read."""

    def __iter__(self) -> Any:
        raise AssertionError("copied")

    def __contains__(self, name: object) -> bool:
        raise AssertionError("read")

    def __len__(self) -> int:
        return 1


class Asking:
    """Records the gaps that it receives; fails for the channel "bad"."""

    def __init__(self) -> None:
        self.received: list[tuple[str, int]] = []

    def send_gap(self, channel: str, duration: int) -> None:
        if channel == "bad":
            raise ValueError("bad")
        self.received.append((channel, duration))


class Made:
    """Gap reports over three channels."""

    def __init__(self, channels: Any = ("a", "b", "bad")) -> None:
        self.emitter = AsyncStreamEmitter()
        self.failures: list[tuple[str, str | None]] = []
        self.reports = GapReports(channels, self.emitter, self.failed)

    def failed(
        self, error: BaseException, action: str = "background", channel: str | None = None
    ) -> None:
        self.failures.append((action, channel))


async def test_events_name_the_channels_and_the_server() -> None:
    made = Made()
    away = made.emitter.listener("brokerAway").create_consumer()
    gap = made.emitter.listener("brokerGap").create_consumer()
    made.reports.lost(ERROR, None, None)
    made.reports.recovered(5.5, ERROR, {"a"}, "redis://10.0.0.1:6379")
    assert (await away.next()).value == BrokerAwayEvent(ERROR, frozenset(("a", "b", "bad")), None)
    expected = BrokerGapEvent(5.5, ERROR, frozenset("a"), "redis://10.0.0.1:6379")
    assert (await gap.next()).value == expected


async def test_later_changes_do_not_change_an_event() -> None:
    made, channels = Made(), {"a"}
    gap = made.emitter.listener("brokerGap").create_consumer()
    made.reports.recovered(1, ERROR, channels, None)
    channels.add("b")
    assert (await gap.next()).value == BrokerGapEvent(1, ERROR, frozenset("a"), None)


async def test_nothing_is_copied_without_a_listener() -> None:
    made = Made(Uncopied())
    made.reports.lost(ERROR, None, None)
    made.reports.recovered(1, ERROR, None, None)
    asking = Asking()
    made.reports.add("a", asking)
    made.reports.discard("a", asking)
    made.reports.discard("a", asking)
    made.reports.recovered(1, ERROR, Uncopied(), None)
    _consumer = made.emitter.listener("brokerGap").create_consumer()
    with pytest.raises(AssertionError, match="copied"):
        made.reports.recovered(1, ERROR, None, None)


async def test_those_who_asked_learn_of_their_channels() -> None:
    made, one, two = Made(), Asking(), Asking()
    for channel in ("a", "b", "bad"):
        made.reports.add(channel, one)
    made.reports.add("b", two)
    made.reports.recovered(1500.2, ERROR, None, None)
    assert one.received == [("a", 1501), ("b", 1501)]
    assert two.received == [("b", 1501)]
    assert made.failures == [("gap", "bad")]
    made.reports.discard("b", one)
    made.reports.recovered(1, ERROR, {"b"}, None)
    assert one.received[2:] == []
    assert two.received[1:] == [("b", 1)]


async def test_many_are_sent_over_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "SENT_PER_TURN", 3)
    names = [str(number) for number in range(10)]
    made, asking = Made(names), Asking()
    for name in names:
        made.reports.add(name, asking)
    made.reports.recovered(1, ERROR, None, None)
    assert len(asking.received) == 3
    await asyncio.sleep(0)
    assert len(asking.received) == 6
    await until(lambda: len(asking.received) == 10)
    assert [channel for channel, _ in asking.received] == names
