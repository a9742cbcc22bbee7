"""Sessions of clients that come back to another server, on real backends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from broker_servers import BackendServers, running_backend
from recovering import publish, publishes, subscribe
from server.test_sessions import confirm, counts, cut, secret, sessions_server, with_session
from socketcluster import AGServer, Recovery
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.errors import BrokerError
from socketcluster.server.sessions import messages
from socketcluster.server.sessions.registry import CLOSE_TAKEN_OVER
from support import Client, connected, soon, until

KINDS = ["redis", "zeromq", "nats"]
OPTIONS = {"nats": ["-js"]}


Connect = Callable[[AGServer, str], Awaitable[Client]]


@pytest.fixture(scope="module", params=KINDS)
def backend(request: Any) -> Iterator[BackendServers]:
    with running_backend(request.param, OPTIONS.get(request.param, ())) as servers:
        yield servers


@pytest.fixture
async def servers(backend: BackendServers) -> AsyncIterator[list[AGServer]]:
    """Two servers that know each other, on a prefix of their own."""
    made = [server_on(backend, secret())]
    made.append(server_on(backend, "", url=str(made[0].options.broker_engine)))
    for server in made:
        await server.listen(0)
    await until(lambda: all(len(server.nodes) == 1 for server in made))
    yield made
    for server in made:
        await server.close()


def values(client: Client) -> list[Any]:
    return [value for value, _ in publishes(client)]


def sessions_part(server: AGServer) -> Any:
    return server._context.sessions


def server_on(backend: BackendServers, prefix: str, *, url: str = "", **options: Any) -> AGServer:
    sign = "&" if "?" in backend.url else "?"
    return sessions_server(broker_engine=url or f"{backend.url}{sign}prefix={prefix}:", **options)


async def test_a_lost_client_comes_back_to_another_server(servers: list[AGServer]) -> None:
    first, second = servers
    session = secret()
    async with with_session(first, session) as client:
        await subscribe(client)
        await confirm(first)
        await publish(first, "a")
    await publish(second, "b")
    async with with_session(second, session) as client:
        assert (await subscribe(client))["recovered"] is True
        assert values(client) == ["a", "b"]
        assert counts(first) == {"connected": 0, "lost": 0}
        await confirm(second)
    await publish(second, "c")
    async with with_session(first, session) as client:
        assert (await subscribe(client))["recovered"] is True
        assert values(client) == ["c"]


async def test_a_half_open_connection_is_taken_over_from_another_server(
    servers: list[AGServer],
) -> None:
    first, second = servers
    session = secret()
    async with with_session(first, session) as old:
        await subscribe(old)
        await confirm(first)
        await publish(second, "a")
        async with with_session(second, session) as new:
            assert (await subscribe(new))["recovered"] is True
            assert values(new) == ["a"]
            assert (await old.closed())[0] == CLOSE_TAKEN_OVER
            assert counts(first) == {"connected": 0, "lost": 0}


async def test_another_user_of_another_server_gets_nothing(servers: list[AGServer]) -> None:
    first, second = servers
    session = secret()
    async with with_session(first, session, "alice") as client:
        await subscribe(client)
        await confirm(first)
        await publish(first, "a")
        for is_lost in (False, True):
            if is_lost:
                await cut(first, client)
            for user in ("bob", None):
                async with with_session(second, session, user) as other:
                    await subscribe(other)
                    assert values(other) == []
                    await other.ws.close(1000)
    async with with_session(second, session, "alice") as client:
        assert (await subscribe(client))["recovered"] is True
        assert values(client) == ["a"]


async def test_many_clients_ask_together(servers: list[AGServer], connect: Connect) -> None:
    first, second = servers
    names = [secret() for _ in range(40)]
    for client in await asyncio.gather(*(connect(first, name) for name in names)):
        await subscribe(client)
    await confirm(first)
    for socket in list(first.clients.values()):
        socket.terminate()
    await publish(second, "a")
    assert second.node_messages is not None
    sent = second.node_messages.sent
    again = await asyncio.gather(*(connect(second, name) for name in names))
    answers = await asyncio.gather(*map(subscribe, again))
    assert all(answer["recovered"] for answer in answers)
    assert all(values(client) == ["a"] for client in again)
    assert second.node_messages.sent - sent <= 20


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make clients with sessions."""
    async with AsyncExitStack() as stack:

        async def make(server: AGServer, session: str) -> Client:
            made = connected(server, query=f"?session={session}")
            return await stack.enter_async_context(made)

        yield make


async def test_a_server_that_ends_hands_its_sessions_on(
    servers: list[AGServer], connect: Connect
) -> None:
    first, second = servers
    names = [secret() for _ in range(5)]
    for name in names:
        await subscribe(await connect(first, name))
    await confirm(first)
    await publish(first, "a")
    await first.close()
    await until(lambda: counts(second) == {"connected": 0, "lost": 5})
    for name in names:
        async with with_session(second, name) as again:
            assert (await subscribe(again))["recovered"] is True
            assert values(again) == ["a"]


async def test_a_state_on_its_way_to_a_third_server_is_found(
    servers: list[AGServer], backend: BackendServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server ends, and its client is back elsewhere before its state has arrived anywhere."""
    first, second = servers
    third = server_on(backend, "", url=str(first.options.broker_engine))
    assert third.node_messages is not None
    await third.listen(0)
    try:
        await until(lambda: all(len(server.nodes) == 2 for server in (*servers, third)))
        third_id = third.node_messages.id
        session = secret()
        async with with_session(first, session) as client:
            await subscribe(client)
            await confirm(first)
            await publish(first, "a")
            states = list(sessions_part(first).kept.items())
        for name, _, _ in states:
            sessions_part(first).kept.take(name)
        monkeypatch.setattr(messages, "ASK_SECONDS", 5.0)
        for server in (second, third):  # The first one may still answer, but does not.
            sessions_part(server).messages._knows_all_at = 1e12
        async with with_session(second, session) as client:
            answer = asyncio.ensure_future(subscribe(client))
            asked = sessions_part(third).messages._askers
            await until(lambda: len(asked) == 1)
            handing = sessions_part(first).messages
            monkeypatch.setattr(
                handing,
                "_peer",
                lambda: next(node for node in first.nodes if node.id == third_id),
            )
            await handing.hand_on(states)
            assert (await soon(answer))["recovered"] is True
            assert values(client) == ["a"]
            assert counts(third) == {"connected": 0, "lost": 0}
    finally:
        await third.close()


async def test_a_server_that_knows_no_other_does_not_wait(backend: BackendServers) -> None:
    server = server_on(backend, secret())
    await server.listen(0)
    try:
        asks = sessions_part(server).messages
        asks._knows_all_at = 0.0
        async with with_session(server, secret()) as client:
            assert (await subscribe(client))["recovered"] is False
        assert asks._number == 0
    finally:
        await server.close()


async def test_states_in_the_backend_outlive_their_process(backend: BackendServers) -> None:
    recovery = Recovery(store="engine")
    first = server_on(backend, secret(), recovery=recovery)
    url = str(first.options.broker_engine)
    second = server_on(backend, "", url=url, recovery=recovery)
    await first.listen(0)
    await second.listen(0)
    try:
        session, other = secret(), secret()
        async with with_session(first, session, "alice") as client:
            await subscribe(client)
            await confirm(first)
            await sessions_part(first).write()
            await publish(first, "a")
            forget(first)  # As if it had been killed.
            await cut(first, client)
        async with with_session(second, session, "bob") as client:
            assert (await subscribe(client))["recovered"] is False
        async with with_session(second, other, "alice") as client:
            assert (await subscribe(client))["recovered"] is False
        async with with_session(second, session, "alice") as client:
            assert (await subscribe(client))["recovered"] is True
            assert values(client) == ["a"]
    finally:
        await first.close()
        await second.close()


def forget(server: AGServer) -> None:
    """Have a server answer no question about sessions, and keep nothing."""
    sessions = sessions_part(server)
    sessions.messages._take = lambda name: None
    sessions.keep = lambda name, state, seconds: None


async def test_a_closing_server_writes_to_the_backend(
    backend: BackendServers, connect: Connect
) -> None:
    recovery = Recovery(store="engine")
    first = server_on(backend, secret(), recovery=recovery)
    await first.listen(0)
    session = secret()
    await subscribe(await connect(first, session))
    await confirm(first)
    await publish(first, "a")
    await first.close()
    second = server_on(backend, "", url=str(first.options.broker_engine), recovery=recovery)
    await second.listen(0)
    try:
        async with with_session(second, session) as client:
            assert (await subscribe(client))["recovered"] is True
            assert values(client) == ["a"]
    finally:
        await second.close()


class ForgettingBroker(SimpleBroker):
    """A backend that refuses to keep."""

    async def keep(self, *args: Any) -> None:
        raise BrokerError("redis is full")

    async def take(self, key: str) -> bytes | None:
        raise BrokerError("redis is full")


async def test_a_backend_that_refuses_is_reported_and_clients_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = sessions_server(broker_engine=ForgettingBroker(), recovery=Recovery(store="engine"))
    await server.listen(0)
    try:
        session = secret()
        for recovered in (False, True):
            async with with_session(server, session) as client:
                assert (await subscribe(client))["recovered"] is recovered
                await sessions_part(server).write()
    finally:
        await server.close()
    assert "The position of a client may be lost: BrokerError: redis is full" in caplog.text
