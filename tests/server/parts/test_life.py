"""The life of a server's socket: the transitions that its table has, and all others."""

from __future__ import annotations

from itertools import product

import pytest

from socketcluster.protocol.state import InvalidTransitionError
from socketcluster.server.parts.life import PHASE_TRANSITIONS, Life

STATES = {
    "connecting": "connecting",
    "leaving": "connecting",
    "open": "open",
    "last words": "closed",
    "closed": "closed",
}
"""Phase → public state."""

ALLOWED = {
    ("connecting", "open"),
    ("connecting", "leaving"),
    ("connecting", "closed"),
    ("leaving", "open"),
    ("leaving", "closed"),
    ("open", "last words"),
    ("open", "closed"),
    ("last words", "closed"),
}
PATHS = {
    "connecting": [],
    "leaving": ["leaving"],
    "open": ["open"],
    "last words": ["open", "last words"],
    "closed": ["closed"],
}
"""Phase → the phases that lead to it."""


def in_phase(phase: str) -> Life:
    life = Life(opened_at=0.0, next_ping=8.0)
    for step in PATHS[phase]:
        life.enter(step)
    assert (life.phase, life.state) == (phase, STATES[phase])
    return life


def test_the_table_has_every_phase() -> None:
    assert set(PHASE_TRANSITIONS) == set(STATES)


@pytest.mark.parametrize(("old", "new"), sorted(ALLOWED))
def test_an_allowed_transition_sets_the_public_state(old: str, new: str) -> None:
    life = in_phase(old)
    life.enter(new)
    assert (life.phase, life.state) == (new, STATES[new])
    assert life.ended == (new == "closed")
    assert life.was_opened == ("open" in (*PATHS[old], new))


@pytest.mark.parametrize(("old", "new"), sorted({*product(STATES, STATES)} - ALLOWED))
def test_any_other_transition_raises_and_changes_nothing(old: str, new: str) -> None:
    life = in_phase(old)
    opened = life.was_opened
    with pytest.raises(InvalidTransitionError, match=f"'{new}' may not follow '{old}'"):
        life.enter(new)
    assert (life.phase, life.state, life.was_opened) == (old, STATES[old], opened)


def test_a_phase_that_does_not_exist_raises() -> None:
    with pytest.raises(InvalidTransitionError):
        in_phase("connecting").enter("opening")
