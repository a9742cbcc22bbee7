"""The state machine and the tables that it runs."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from socketcluster.protocol import state as states
from socketcluster.protocol.state import (
    AUTH_TRANSITIONS,
    AUTHENTICATED,
    CLIENT_TRANSITIONS,
    CLOSED,
    CONNECTING,
    CONNECTION_TRANSITIONS,
    OPEN,
    PENDING,
    SUBSCRIBED,
    SUBSCRIPTION_TRANSITIONS,
    UNAUTHENTICATED,
    UNSUBSCRIBED,
    InvalidTransitionError,
    StateMachine,
    Transitions,
    checked_transition,
)

ALLOWED: list[tuple[Transitions[Any], set[tuple[str, str]]]] = [
    (CONNECTION_TRANSITIONS, {(CONNECTING, OPEN), (CONNECTING, CLOSED), (OPEN, CLOSED)}),
    (
        CLIENT_TRANSITIONS,
        {(CLOSED, CONNECTING), (CONNECTING, OPEN), (CONNECTING, CLOSED), (OPEN, CLOSED)},
    ),
    (AUTH_TRANSITIONS, {(UNAUTHENTICATED, AUTHENTICATED), (AUTHENTICATED, UNAUTHENTICATED)}),
    (
        SUBSCRIPTION_TRANSITIONS,
        {
            (PENDING, SUBSCRIBED),
            (PENDING, UNSUBSCRIBED),
            (SUBSCRIBED, PENDING),
            (SUBSCRIBED, UNSUBSCRIBED),
        },
    ),
]
TABLES = ["connection", "client", "authentication", "subscription"]


@pytest.mark.parametrize(("table", "allowed"), ALLOWED, ids=TABLES)
def test_only_what_a_table_has_may_happen(
    table: Transitions[Any], allowed: set[tuple[str, str]]
) -> None:
    for old, new in product(table, table):
        machine = StateMachine(table, old)
        if (old, new) in allowed:
            machine.to(new)
            assert machine.state == new
            assert checked_transition(table, old, new) == new
        else:
            with pytest.raises(InvalidTransitionError, match=f"{new!r} may not follow {old!r}"):
                machine.to(new)
            assert machine.state == old, "a refused change leaves the state as it was"
            with pytest.raises(InvalidTransitionError):
                checked_transition(table, old, new)


@pytest.mark.parametrize("table", [table for table, _ in ALLOWED], ids=TABLES)
def test_every_state_that_may_follow_is_a_state_of_the_table(table: Transitions[Any]) -> None:
    assert {new for following in table.values() for new in following} <= set(table)


def test_a_state_that_is_in_no_table_is_refused() -> None:
    machine = StateMachine(CONNECTION_TRANSITIONS, CONNECTING)
    with pytest.raises(InvalidTransitionError):
        machine.to("half open")  # type: ignore[arg-type]
    assert machine.state == states.CONNECTING
    assert repr(machine) == "<StateMachine connecting>"
