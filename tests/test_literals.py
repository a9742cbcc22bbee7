"""The Literal types have the texts that the package uses, and every typed listener has them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_overloads, get_type_hints

import pytest

from socketcluster import literals
from socketcluster.client.listeners import ClientListeners
from socketcluster.middleware import MIDDLEWARE_TYPES, AGAction
from socketcluster.protocol import state
from socketcluster.pubsub.channel import AGChannel
from socketcluster.pubsub.listeners import ExchangeListeners
from socketcluster.server.listeners import ServerListeners
from socketcluster.server.parts.streams import StreamsMixin


@pytest.mark.parametrize(
    ("listener", "names"),
    [
        (ServerListeners.listener, literals.ServerEventName),
        (StreamsMixin.listener, literals.SocketEventName),
        (ClientListeners.listener, literals.ClientEventName),
        (ExchangeListeners.listener, literals.ExchangeEventName),
        (AGChannel.listener, literals.ChannelEventName),
    ],
    ids=["server", "socket", "client", "exchange", "channel"],
)
def test_a_listener_has_an_overload_for_each_event(
    listener: Callable[..., Any], names: Any
) -> None:
    *typed, last = (get_type_hints(overload)["event"] for overload in get_overloads(listener))
    assert last is str, "any other name is allowed"
    assert all(get_origin(event) is Literal for event in typed)
    assert sorted(name for event in typed for name in get_args(event)) == sorted(get_args(names))


@pytest.mark.parametrize(
    ("literal", "used"),
    [
        (literals.SocketState, state.CLIENT_TRANSITIONS),
        (literals.AuthenticationState, state.AUTH_TRANSITIONS),
        (literals.SubscriptionState, state.SUBSCRIPTION_TRANSITIONS),
        (literals.MiddlewareType, MIDDLEWARE_TYPES),
        (literals.ActionType, [v for name, v in vars(AGAction).items() if name.isupper()]),
    ],
)
def test_a_literal_has_the_texts_in_use(literal: Any, used: Any) -> None:
    assert set(get_args(literal)) == set(used)
