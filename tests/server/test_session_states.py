"""The states of lost clients: their bounds, whom they are for, and what ends them."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from typing import Any

import pytest

from recovering import StoppableBroker, publish, publishes, subscribe
from server.test_broker_failures import FailingBroker
from server.test_metrics import read
from server.test_sessions import confirm, counts, secret, sessions_of, sessions_server, with_session
from socketcluster import AGServer, Metrics, Recovery
from socketcluster.errors import BrokerError, InvalidOptionsError
from socketcluster.nodes.messages import Message
from socketcluster.nodes.table import Node
from socketcluster.server.recovery import is_secret
from socketcluster.server.sessions import messages
from socketcluster.server.sessions.kept import KEPT_SESSIONS, KeptSessions, Name
from socketcluster.server.sessions.messages import MAX_STATE, SessionMessages
from support import until


def name(id: object, owner: str | None = None) -> Name:
    return Name(str(id), owner)


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# In memory


def test_the_states_that_were_lost_first_go_first() -> None:
    kept = KeptSessions(Time(), max_count=3)
    for number in range(5):
        kept.put(name(number), b"{}", 10)
    assert len(kept) == 3
    assert [each.id for each, _, _ in kept.items()] == ["2", "3", "4"]
    kept.put(name(2), b"new", 10)
    kept.put(name(5), b"{}", 10)
    assert [each.id for each, _, _ in kept.items()] == ["4", "2", "5"]
    assert kept.take(name(2)) == b"new"
    assert kept.take(name(2)) is None


def test_their_bytes_are_bounded() -> None:
    kept = KeptSessions(Time(), max_bytes=10_000)
    for number in range(100):
        kept.put(name(number), bytes(1000), 10)
        assert kept.size <= 10_000
    assert 5 <= len(kept) <= 10
    kept.put(name("large"), bytes(20_000), 10)
    assert len(kept) == kept.size == 0


def test_a_state_is_forgotten_in_time() -> None:
    time = Time()
    kept = KeptSessions(time)
    kept.put(name(1), b"{}", 10)
    time.now = 5
    kept.put(name(2), b"{}", 10)
    assert [seconds for _, _, seconds in kept.items()] == [5, 10]
    time.now = 10
    assert kept.take(name(1)) is None
    assert len(kept) == 1
    time.now = 15
    assert len(kept) == kept.size == 0


def test_many_lost_clients_take_bounded_memory() -> None:
    kept = KeptSessions(Time())
    for number in range(KEPT_SESSIONS + 1000):
        kept.put(name(number), b'{"c/1":["k3fG",1,0,null]}', 10)
    assert len(kept) == KEPT_SESSIONS


def test_random_texts_are_secrets() -> None:
    for _ in range(2000):
        assert is_secret(str(uuid.uuid4()))
        assert is_secret(uuid.uuid4().hex)
        assert is_secret(secrets.token_urlsafe(32))
        assert is_secret(secrets.token_hex(16))
    assert not is_secret(None)
    assert not is_secret(secrets.token_urlsafe(15))
    assert not is_secret(secrets.token_hex(15))
    assert not is_secret("a" * 1_000_000)


# Of a server


async def test_a_client_with_very_many_channels_keeps_the_first_ones(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    channels = [f"c/{number:03}{'x' * 200}" for number in range(300)]
    async with with_session(server, session) as client:
        for channel in channels:
            await subscribe(client, channel=channel)
        (state,) = sessions_of(server)
        assert len(state.state()) == 300
    ((_, encoded, _),) = server._context.sessions.kept.items()
    assert MAX_STATE - 500 < len(encoded) <= MAX_STATE
    await publish(server, "a", channel=channels[0])
    async with with_session(server, session) as client:
        assert (await subscribe(client, channel=channels[0]))["recovered"] is True
        assert publishes(client) == [("a", 1)]
        assert (await subscribe(client, channel=channels[-1]))["recovered"] is False


async def test_a_history_that_was_lost_is_not_recovered(make_server: Any) -> None:
    broker = StoppableBroker()
    server = await make_server(sessions_server(broker_engine=broker))
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        await publish(server, "a", "b")
        await confirm(server)
    broker.lose()
    await publish(server, "c", "d", "e")
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is False
        assert publishes(client) == []
        await publish(server, "f")
        await until(lambda: client.events.qsize() == 1)
        await confirm(server)
        await publish(server, "g")
        await until(lambda: client.events.qsize() == 2)
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is True
        assert publishes(client) == [("g", 5)]


@pytest.mark.parametrize("is_narrowed", [True, False])
async def test_middleware_narrows_the_recovery_of_a_session(
    make_server: Any, is_narrowed: bool
) -> None:
    server = await make_server(sessions_server())
    session = secret()
    asked: list[Any] = []

    async def narrow(stream: Any) -> None:
        async for action in stream:
            if action.type == action.SUBSCRIBE:
                asked.append(action.recover)
                if is_narrowed:
                    action.recover = None
            action.allow()

    async with with_session(server, session) as client:
        await subscribe(client)
        await confirm(server)
    await publish(server, "a")
    server.set_middleware(server.MIDDLEWARE_INBOUND, narrow)
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is not is_narrowed
        assert publishes(client) == ([] if is_narrowed else [("a", 1)])
        assert [position.offset for position in asked] == [0]
    await publish(server, "b")
    server.remove_middleware(server.MIDDLEWARE_INBOUND)
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is True
        assert publishes(client) == ([("b", 2)] if is_narrowed else [("a", 1), ("b", 2)])


async def test_the_own_state_of_a_user_is_taken_first(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session, "alice") as client:
        await subscribe(client)
        await confirm(server)
    await publish(server, "a")
    async with with_session(server, session) as client:  # Somebody else, without a user.
        await subscribe(client)
        async with with_session(server, session, "alice") as owner:
            assert (await subscribe(owner))["recovered"] is True
            assert publishes(owner) == [("a", 1)]


async def test_metrics_count_sessions(make_server: Any) -> None:
    server = await make_server(sessions_server(metrics=Metrics(token=None)))
    assert server.metrics is not None
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        found = read(server)
        assert (found["sessions/connected"], found["sessions/lost"]) == (1, 0)
    found = read(server)
    assert (found["sessions/connected"], found["sessions/lost"]) == (0, 1)


def test_a_broker_that_keeps_nothing_is_refused() -> None:
    broker = FailingBroker(BrokerError(""), False)
    with pytest.raises(InvalidOptionsError, match="keeps nothing") as raised:
        AGServer(broker_engine=broker, recovery=Recovery(store="engine"))
    assert raised.value.option == "recovery"


async def test_the_backend_gets_all_states_in_one_batch(make_server: Any) -> None:
    broker = StoppableBroker()
    batches: list[dict[str, bytes]] = []
    keep = broker.keep

    async def count(values: Any, seconds: float) -> None:
        batches.append(dict(values))
        await keep(values, seconds)

    broker.keep = count  # type: ignore[method-assign]
    server = await make_server(
        sessions_server(broker_engine=broker, recovery=Recovery(store="engine"))
    )
    lost = secret()
    async with with_session(server, lost) as client:
        await subscribe(client)
    async with with_session(server, secret()) as one, with_session(server, secret()) as other:
        await subscribe(one)
        await subscribe(other)
        async with with_session(server, secret()):  # Nothing to keep.
            await server._context.sessions.write()
        assert [len(batch) for batch in batches] == [3]
        await server._context.sessions.write()
        assert [len(batch) for batch in batches] == [3, 2]
    assert not any(lost in key for batch in batches for key in batch)


async def test_states_that_the_backend_missed_are_remembered_as_long_as_they_are_kept(
    make_server: Any,
) -> None:
    broker = StoppableBroker()
    batches: list[dict[str, bytes]] = []
    is_away = True

    async def keep(values: Any, seconds: float) -> None:
        if is_away:
            raise BrokerError("The backend is away")
        batches.append(dict(values))

    broker.keep = keep  # type: ignore[method-assign]
    server = await make_server(
        sessions_server(broker_engine=broker, recovery=Recovery(store="engine"))
    )
    sessions = server._context.sessions
    for _ in range(3):
        async with with_session(server, secret()) as client:
            await subscribe(client)
        await until(lambda: not server.clients)
        await sessions.write()
    assert len(sessions._unwritten) == len(sessions.kept) == 3
    gone = next(iter(sessions.kept.items()))[0]
    sessions.kept.take(gone)
    await sessions.write()
    assert gone not in sessions._unwritten
    is_away = False
    await sessions.write()
    assert [len(batch) for batch in batches] == [2]
    assert not sessions._unwritten


async def test_a_client_that_leaves_is_forgotten_by_the_backend(make_server: Any) -> None:
    broker = StoppableBroker()
    server = await make_server(
        sessions_server(broker_engine=broker, recovery=Recovery(store="engine"))
    )
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        await server._context.sessions.write()
        await client.ws.close(code=1000)
        await until(lambda: not server.clients)
    await publish(server, "a")
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is False
        assert publishes(client) == []


async def test_channels_that_a_client_has_come_before_those_that_it_had(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client, channel="c/had")
    async with with_session(server, session) as client:
        await subscribe(client, channel="c/has")
        (state,) = sessions_of(server)
        assert list(state.state()) == ["c/has", "c/had"]


# Between servers


class FakeNodes:
    """Messages to other servers, which a test gives and takes."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.peers: list[Node] = []
        self.handlers: dict[str, Any] = {}
        self.sent: list[tuple[str, Any, str | None]] = []
        self.error: BrokerError | None = None

    def on(self, kind: str, handler: Any) -> None:
        self.handlers[kind] = handler

    def send(self, kind: str, data: Any, target: str | None = None) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append((kind, data, target))

    def receive(self, kind: str, node: str, data: Any) -> None:
        self.handlers[kind](Message(kind, node, data))


def node(id: str, since: float = 0.0) -> Node:
    return Node(id=id, host="h", pid=1, parent=1, since=since, last_seen=0.0)


def made(nodes: FakeNodes, states: dict[Name, bytes]) -> SessionMessages:
    return SessionMessages(
        nodes,  # type: ignore[arg-type]
        lambda name: states.pop(name, None),
        lambda name, state, seconds: states.__setitem__(name, state),
    )


async def test_questions_are_collected_and_bounded() -> None:
    nodes = FakeNodes()
    nodes.nodes = [node("a"), node("b")]
    asking = made(nodes, {})
    asks = [asyncio.ensure_future(asking.ask(name(number))) for number in range(450)]
    await until(lambda: len(nodes.sent) == 3)
    assert [len(data["sessions"]) for _, data, _ in nodes.sent] == [200, 200, 50]
    nodes.receive("session-answer", "a", {"n": 1, "found": [[7, {"c": ["e", 1]}], [900, {}]]})
    assert await asks[7] == b'{"c":["e",1]}'
    assert not asks[0].done()
    for number in (1, 2, 3):
        nodes.receive("session-answer", "a", {"n": number, "found": []})
        nodes.receive("session-answer", "b", {"n": number, "found": []})
    assert [await ask for ask in asks].count(None) == 449
    nodes.receive("session-answer", "b", {"n": 1, "found": [[0, {}]]})  # Too late.


async def test_a_server_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(messages, "ASK_SECONDS", 0.05)
    nodes = FakeNodes()
    nodes.nodes = [node("a")]
    assert await made(nodes, {}).ask(name(1)) is None
    nodes.error = BrokerError("away")
    monkeypatch.setattr(messages, "ASK_SECONDS", 60.0)
    assert await made(nodes, {}).ask(name(1)) is None


async def test_answers_are_split_and_states_are_given_once() -> None:
    nodes = FakeNodes()
    states = {name(number): b'{"c":["' + b"e" * 15_000 + b'",1]}' for number in range(5)}
    answering = made(nodes, states)
    question = {"n": 4, "sessions": [[str(number), None] for number in range(6)]}
    nodes.receive("session-ask", "a", question)
    assert states == {}
    assert [len(data["found"]) for _, data, _ in nodes.sent] == [2, 2, 1]
    assert [data["more"] for _, data, _ in nodes.sent] == [True, True, False]
    assert {target for _, _, target in nodes.sent} == {"a"}
    nodes.sent.clear()
    nodes.receive("session-ask", "b", {"n": 1, "sessions": [["0", None]]})
    assert nodes.sent == [("session-answer", {"n": 1, "found": [], "more": False}, "b")]
    nodes.error = BrokerError("away")
    nodes.receive("session-ask", "b", {"n": 2, "sessions": [["0", None]]})
    assert answering is not None


async def test_states_are_handed_to_the_server_that_started_last() -> None:
    nodes = FakeNodes()
    handing = made(nodes, {})
    await handing.hand_on([(name(1), b"{}", 5.0)])
    assert nodes.sent == []
    nodes.peers = [node("a", 1), node("b", 3), node("c", 2)]
    states = [(name(number), b'"' + b"x" * 15_000 + b'"', 5.0) for number in range(5)]
    await handing.hand_on(states)
    assert [len(data["states"]) for _, data, _ in nodes.sent] == [2, 2, 1]
    assert {target for _, _, target in nodes.sent} == {"b"}


@pytest.mark.parametrize(
    ("asker", "owner", "is_forwarded"),
    [("x", None, True), ("x", "alice", True), ("x", "bob", False), ("pusher", None, False)],
)
async def test_a_state_goes_to_the_server_that_asked_for_it(
    asker: str, owner: str | None, is_forwarded: bool
) -> None:
    nodes = FakeNodes()
    states: dict[Name, bytes] = {}
    receiving = made(nodes, states)
    nodes.receive("session-ask", asker, {"n": 9, "sessions": [["7", None], ["1", "alice"]]})
    nodes.sent.clear()
    nodes.receive("session-push", "pusher", {"states": [["1", owner, 5.0, {}]]})
    if is_forwarded:
        ((kind, data, target),) = nodes.sent
        assert (kind, data["n"], data["more"], target) == ("session-answer", 9, True, "x")
        assert [place for place, _ in data["found"]] == [1]
        assert states == {}
    else:
        assert nodes.sent == []
        assert states == {name(1, owner): b"{}"}
    assert receiving is not None


async def test_a_state_of_another_version_is_reported(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
    kept = server._context.sessions.kept
    ((found, _, _),) = kept.items()
    kept.put(found, b'{"c/1":{"position":5}}', 60)
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is False
    assert "ValidationError" in caplog.text
    assert counts(server) == {"connected": 0, "lost": 1}
