"""The signed `since`: what it is bound to, and hostile ones."""

from __future__ import annotations

import base64

import pytest

from socketcluster.brokers.storing import Position
from socketcluster.history.since import MAX_SINCE, SinceSigner

SIGNER = SinceSigner("secret")
START = Position("epoch", 7)


@pytest.mark.parametrize("user", ["alice", "", None, "ünï\ud800"])
def test_a_since_says_where_the_subscription_began(user: str | None) -> None:
    since = SIGNER.sign(user, "chat/1", START)
    assert len(since) == MAX_SINCE
    assert since.isascii()
    assert SIGNER.verify(since, user, "chat/1", "epoch") == (START, user)


def test_one_made_without_a_user_counts_for_every_user() -> None:
    since = SIGNER.sign(None, "c", START)
    assert SIGNER.verify(since, "alice", "c", "epoch") == (START, None)
    assert SIGNER.verify(since, None, "c", "epoch") == (START, None)


@pytest.mark.parametrize(
    ("user", "channel", "epoch"),
    [
        ("bob", "c", "epoch"),
        (None, "c", "epoch"),
        ("alice", "d", "epoch"),
        ("alice", "c", "other"),
        ("alicec", "", "epoch"),
        ("alice", "cepoch", ""),
    ],
)
def test_it_counts_for_its_user_channel_and_epoch_alone(
    user: str | None, channel: str, epoch: str
) -> None:
    since = SIGNER.sign("alice", "c", START)
    assert SIGNER.verify(since, user, channel, epoch) is None


def test_each_bit_is_signed() -> None:
    since = SIGNER.sign("alice", "c", START)
    opened = bytearray(base64.urlsafe_b64decode(since + "=="))
    for index in range(len(opened)):
        for bit in range(8):
            forged = bytearray(opened)
            forged[index] ^= 1 << bit
            text = base64.urlsafe_b64encode(forged).rstrip(b"=").decode()
            assert SIGNER.verify(text, "alice", "c", "epoch") is None, (index, bit)


@pytest.mark.parametrize(
    "text", ["", "a", "!" * MAX_SINCE, "é" * MAX_SINCE, "\ud800" * MAX_SINCE, "A" * MAX_SINCE,
             "=" * MAX_SINCE, "A" * 1_000_000],
)  # fmt: skip
def test_a_text_that_is_none_is_refused(text: str) -> None:
    assert SIGNER.verify(text, "alice", "c", "epoch") is None


def test_previous_keys_are_accepted_and_sign_no_more() -> None:
    old = SIGNER.sign("alice", "c", START)
    renewed = SinceSigner(b"new", ["other", "secret"])
    assert renewed.verify(old, "alice", "c", "epoch") == (START, "alice")
    new = renewed.sign("alice", "c", START)
    assert SIGNER.verify(new, "alice", "c", "epoch") is None
    assert renewed.verify(new, "alice", "c", "epoch") == (START, "alice")


def test_without_a_shared_secret_each_process_has_its_own() -> None:
    first, second = SinceSigner(), SinceSigner()
    since = first.sign(None, "c", START)
    assert first.verify(since, None, "c", "epoch") == (START, None)
    assert second.verify(since, None, "c", "epoch") is None
