"""Which servers send each other messages, by their options."""

from __future__ import annotations

from typing import Any

import pytest

from server.test_broker_failures import FailingBroker
from socketcluster import AGServer
from socketcluster.errors import BrokerError, InvalidOptionsError
from socketcluster.nodes.messages import NodeMessages
from socketcluster.nodes.wire import NodeMessage

URL = "redis://127.0.0.1:1"
AUTH_KEY = "SOCKETCLUSTER_AUTH_KEY"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(AUTH_KEY, raising=False)
    monkeypatch.delenv("SOCKETCLUSTER_BROKER", raising=False)


@pytest.mark.parametrize(
    ("options", "on"),
    [
        ({}, False),
        ({"broker_engine": URL}, False),
        ({"auth_key": "secret"}, False),
        ({"broker_engine": "simple:", "auth_key": "secret"}, False),
        ({"broker_engine": URL, "auth_key": "secret"}, True),
        ({"broker_engine": URL, "cluster_key": b"secret"}, True),
        ({"broker_engine": URL, "auth_private_key": "PEM", "auth_public_key": "PEM"}, True),
        ({"broker_engine": URL, "auth_key": "secret", "nodes": False}, False),
        ({"broker_engine": URL, "auth_key": "secret", "nodes": True}, True),
        ({"broker_engine": f"{URL}?prefix=", "auth_key": "secret"}, False),
        ({"broker_engine": "nats://127.0.0.1:1", "auth_key": "secret"}, True),
        ({"broker_engine": "redis+cluster://127.0.0.1:1", "auth_key": "secret"}, True),
        ({"broker_engine": "ipc:///tmp/x", "auth_key": "secret"}, True),
    ],
    ids=str,
)
def test_which_servers_have_them(options: dict[str, Any], on: bool) -> None:
    server = AGServer(**options)
    assert (server.node_messages is not None) is on
    assert server.nodes == []


def test_the_key_of_the_environment_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AUTH_KEY, "secret")
    assert AGServer(broker_engine=URL).node_messages is not None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "the broker sends no messages between servers"),
        ({"broker_engine": f"{URL}?prefix=", "auth_key": "x"}, "with a prefix"),
        ({"broker_engine": URL}, "set cluster_key, or auth_key"),
        ({"broker_engine": FailingBroker(BrokerError(""), False), "auth_key": "x"}, "no messages"),
    ],
)
def test_servers_that_must_have_them_and_cannot(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidOptionsError, match=problem) as raised:
        AGServer(nodes=True, **options)
    assert raised.value.option == "nodes"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nodes", 2),
        ("nodes", "yes"),
        ("cluster_key", ""),
        ("cluster_key", 5),
        ("cluster_previous_keys", "secret"),
        ("cluster_previous_keys", ["secret", ""]),
        ("cluster_previous_keys", [None]),
        ("cluster_previous_keys", 5),
    ],
)
def test_wrong_options(name: str, value: Any) -> None:
    with pytest.raises(InvalidOptionsError, match=f"The {name} option must") as raised:
        AGServer(**{name: value})
    assert raised.value.option == name
    assert "secret" not in str(raised.value)


def messages(**options: Any) -> NodeMessages:
    found = AGServer(broker_engine=URL, **options).node_messages
    assert found is not None
    return found


def test_the_key_comes_from_the_first_of_the_options() -> None:
    body = NodeMessage(type="t", node="n", number=1, time=0)
    pairs = [
        ({"auth_key": "a"}, {"auth_key": b"a"}),
        ({"auth_key": "a", "cluster_key": "c"}, {"auth_key": "b", "cluster_key": "c"}),
        ({"auth_key": "a"}, {"auth_key": "b", "cluster_previous_keys": ["a"]}),
        ({"auth_key": "a"}, {"cluster_key": "a"}),
    ]
    for sender, receiver in pairs:
        sealed = messages(**sender)._wire.seal(body)
        assert messages(**receiver)._wire.open(sealed) == body  # type: ignore[arg-type]


async def test_a_custom_broker_works_without_them(make_server: Any) -> None:
    broker = FailingBroker(BrokerError(""), False)
    server: AGServer = await make_server(broker_engine=broker, auth_key="secret")
    assert server.node_messages is None
    assert not server.lifecycle.knows_peers
