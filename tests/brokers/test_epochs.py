"""Epochs of links: messages of a lost link are recognized."""

from __future__ import annotations

import pytest

from socketcluster.brokers import epochs
from socketcluster.brokers.epochs import LinkEpochs


def test_a_message_of_an_earlier_epoch_is_stale() -> None:
    receiver = LinkEpochs()
    assert [receiver.is_stale("a", epoch) for epoch in (1, 1, 2, 1, 2, 5, 4)] == [
        *(False, False, False, True, False, False, True)
    ]


def test_processes_do_not_affect_each_other() -> None:
    receiver = LinkEpochs()
    assert not receiver.is_stale("a", 7)
    assert not receiver.is_stale("b", 1)
    assert receiver.is_stale("a", 6)


def test_a_process_drops_its_own_stale_messages() -> None:
    own = LinkEpochs()
    first = own.next(own.process)
    assert not own.is_stale(own.process, first)
    second = own.next(own.process)
    assert own.is_stale(own.process, first)
    assert not own.is_stale(own.process, second)


def test_processes_have_ids_of_their_own() -> None:
    assert LinkEpochs().process != LinkEpochs().process
    assert len(bytes.fromhex(LinkEpochs().process)) == 8


def test_the_process_first_heard_from_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "MAX_PROCESSES", 2)
    receiver = LinkEpochs()
    for process in ("a", "b", "a", "c"):
        assert not receiver.is_stale(process, 5)
    assert receiver.is_stale("b", 4)
    assert receiver.is_stale("c", 4)
    assert not receiver.is_stale("a", 4)
