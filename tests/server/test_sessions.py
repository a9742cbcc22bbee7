"""Sessions: a stock client's next connection receives what the former one did not confirm."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from recovering import (
    KEY,
    StoppableBroker,
    history,
    packets,
    publish,
    publishes,
    server_with,
    subscribe,
    synced,
    token,
)
from socketcluster import AGServer, ChannelRule, History, Recovery
from socketcluster.errors import InvalidOptionsError
from socketcluster.server.parts.session import SessionSubscriptions, SocketSession
from socketcluster.server.sessions.registry import CLOSE_TAKEN_OVER
from support import Client, connected, soon, until

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)
CALM = {"ping_interval": 3_600_000, "ping_timeout": 7_200_000}
"""The tests say when a ping is sent."""


def secret() -> str:
    return str(uuid.uuid4())


def sessions_server(kept: History | None = None, **options: Any) -> AGServer:
    recovery = options.pop("recovery", Recovery())
    return server_with(kept, **{"recovery": recovery, **CALM, **options})


@asynccontextmanager
async def with_session(
    server: AGServer, session: str, user: str | None = None
) -> AsyncIterator[Client]:
    """A client with a session. Its connection is cut at the end, if it has not been closed."""
    signed = None if user is None else token(user)
    async with connected(server, token=signed, query=f"?session={session}") as client:
        yield client
        if client.ws.close_code is None:
            await cut(server, client)


async def cut(server: AGServer, client: Client) -> None:
    """Lose a connection, without a close frame; wait until both sides have noticed."""
    before = server.clients_count
    client.ws.transport.abort()
    await soon(client.ws.wait_closed())
    await until(lambda: server.clients_count < before)


def sessions_of(server: AGServer) -> list[SocketSession]:
    found = [socket.subscribed for socket in server.clients.values()]
    return [
        each.noted
        for each in found
        if isinstance(each, SessionSubscriptions) and each.noted is not None
    ]


def ping(server: AGServer) -> None:
    """Ping all clients now."""
    for socket in server.clients.values():
        socket.life.next_ping = 0.0
    server.keepalive.tick(server.ticker.now)


async def confirm(server: AGServer) -> None:
    """Ping all clients, and wait for their pongs."""
    ping(server)
    await until(lambda: not any(session._sent for session in sessions_of(server)))


def counts(server: AGServer) -> Any:
    assert server._context.sessions is not None
    return server._context.sessions.counts


@EVERYWHERE
async def test_a_lost_client_receives_what_it_did_not_confirm(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    await publish(server, "before")
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is False
        await publish(server, "a", "b")
        await confirm(server)
        await publish(server, "c")
        await synced(client)
        assert [value for value, _ in publishes(client)] == ["a", "b", "c"]
    await publish(server, "d")
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is True
        assert publishes(client) == [("c", 4), ("d", 5)]
        await publish(server, "e")
        await synced(client)
        assert publishes(client) == [("e", 6)]


async def test_nothing_from_before_the_subscription_is_shown(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    await publish(server, "before")
    async with with_session(server, session) as client:
        await confirm(server)
        await subscribe(client)  # Lost before the first ping.
    await publish(server, "a")
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is True
        assert publishes(client) == [("a", 2)]
    async with with_session(server, session) as client:
        assert (await subscribe(client, channel="c/2"))["recovered"] is False
        assert publishes(client) == []


async def test_an_unconfirmed_replay_begins_anew(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        await confirm(server)
    await publish(server, "a", "b")
    for _ in range(3):
        async with with_session(server, session) as client:
            await confirm(server)  # Before the subscription: it confirms nothing of it.
            await subscribe(client)
            assert [value for value, _ in publishes(client)] == ["a", "b"]
    async with with_session(server, session) as client:
        await subscribe(client)
        await confirm(server)
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is True
        assert publishes(client) == []


async def test_a_ping_on_its_way_at_the_subscription_confirms_nothing_of_it(
    make_server: Any,
) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
    await publish(server, "a")
    async with with_session(server, session) as client:
        client.answers_pings = False
        ping(server)
        await until(lambda: client.pings == 1)
        await subscribe(client)
        assert publishes(client) == [("a", 1)]
        await client.send("")
        await synced(client)
    async with with_session(server, session) as client:
        await subscribe(client)
        assert publishes(client) == [("a", 1)]


async def test_a_client_that_is_lost_before_it_subscribes_again_loses_nothing(
    make_server: Any,
) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        await subscribe(client, channel="c/2")
        await confirm(server)
    await publish(server, "a")
    await publish(server, "z", channel="c/2")
    async with with_session(server, session) as client:
        await subscribe(client)
        await confirm(server)
    async with with_session(server, session):
        pass
    async with with_session(server, session) as client:
        assert (await subscribe(client, channel="c/2"))["recovered"] is True
        assert publishes(client) == [("z", 1)]
        await subscribe(client)
        assert publishes(client) == []


async def test_a_client_is_lost_while_its_subscription_is_made(make_server: Any) -> None:
    broker = StoppableBroker()
    server = await make_server(sessions_server(broker_engine=broker))
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        await confirm(server)
    await publish(server, "a")
    broker.gate.clear()
    async with with_session(server, session) as client:
        await client.send(client.packet("#subscribe", {"channel": "c/1"}))
        before = broker.reads
        await until(lambda: broker.reads > before or server.clients_count == 0)
    broker.gate.set()
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is True
        assert publishes(client) == [("a", 1)]


async def test_an_unsubscribed_channel_is_not_recovered(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        await confirm(server)
        await client.call("#unsubscribe", "c/1")
    await publish(server, "a")
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is False
        assert publishes(client) == []


async def test_a_clean_close_is_the_end_of_a_session(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        await client.ws.close(1000)
    await until(lambda: server.clients_count == 0)
    assert counts(server) == {"connected": 0, "lost": 0}
    await publish(server, "a")
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is False
        assert publishes(client) == []


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_a_session_ends_with_its_window(make_server: Any) -> None:
    server = await make_server(sessions_server(recovery=Recovery(window=10_000)))
    for pause, recovered in ((9, True), (11, False)):
        session = secret()
        async with with_session(server, session) as client:
            await subscribe(client)
            await confirm(server)
        assert counts(server) == {"connected": 0, "lost": 1}
        await asyncio.sleep(pause)
        async with with_session(server, session) as client:
            assert (await subscribe(client))["recovered"] is recovered
            await client.ws.close(1000)
        await until(lambda: server.clients_count == 0)


async def test_what_is_no_longer_stored_is_not_recovered_in_part(make_server: Any) -> None:
    server = await make_server(sessions_server(history(size=2)))
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        await confirm(server)
    await publish(server, "a", "b", "c")
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is False
        assert publishes(client) == []


# A ping goes out behind all publishes that are counted by then


@pytest.mark.parametrize("held", ["fan-out", "batch", "outbound middleware"])
async def test_a_ping_confirms_only_what_was_sent_before_it(make_server: Any, held: str) -> None:
    server = await make_server(sessions_server())
    session = secret()
    gate = asyncio.Event()

    async def hold(stream: Any) -> None:
        async for action in stream:
            if action.type == action.PUBLISH_OUT:
                await gate.wait()
            action.allow()

    async with with_session(server, session) as client:
        await subscribe(client)
        (socket,) = server.clients.values()
        if held == "outbound middleware":
            server.set_middleware(server.MIDDLEWARE_OUTBOUND, hold)
        if held == "batch":
            socket.outbound.start_batch()
        await publish(server, "a")
        ping(server)
        await until(lambda: client.pings == 1)
        if held == "outbound middleware":
            assert publishes(client) == []
            await until(lambda: not sessions_of(server)[0]._sent)
        else:  # It came before the ping.
            assert publishes(client) == [("a", 1)]
            assert "a" in str(client.messages[-2])
            assert client.messages[-1] == ""
            await until(lambda: not sessions_of(server)[0]._sent)
    gate.set()
    server.remove_middleware(server.MIDDLEWARE_OUTBOUND)
    async with with_session(server, session) as client:
        await subscribe(client)
        missed = [("a", 1)] if held == "outbound middleware" else []
        assert publishes(client) == missed


async def test_what_middleware_let_go_is_confirmed_by_the_next_ping(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    gates: list[asyncio.Event] = [asyncio.Event(), asyncio.Event()]

    async def hold(stream: Any) -> None:
        async for action in stream:
            if action.type == action.PUBLISH_OUT:
                await gates[action.data - 1].wait()
            action.allow()

    async with with_session(server, session) as client:
        await subscribe(client)
        server.set_middleware(server.MIDDLEWARE_OUTBOUND, hold)
        await publish(server, 1)
        await confirm(server)
        gates[0].set()
        await publish(server, 2)
        await until(lambda: client.events.qsize() == 1)
        await confirm(server)
    gates[1].set()
    server.remove_middleware(server.MIDDLEWARE_OUTBOUND)
    async with with_session(server, session) as client:
        await subscribe(client)
        assert publishes(client) == [(2, 2)]


async def test_pings_without_pongs_confirm_nothing(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        client.answers_pings = False
        for number in range(40):
            await publish(server, number)
            ping(server)
        await until(lambda: client.pings == 40)
        (kept,) = sessions_of(server)
        assert len(kept._sent) < 40
        for _ in range(10):
            await client.send("")
        await synced(client)
    async with with_session(server, session) as client:
        await subscribe(client)
        assert [value for value, _ in publishes(client)] == [*range(10, 40)]


async def test_pongs_that_no_ping_asked_for_confirm_nothing(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        for _ in range(5):
            await client.send("")
        await synced(client)
        await publish(server, "a")
        client.answers_pings = False
        ping(server)
        await until(lambda: client.pings == 1)
    async with with_session(server, session) as client:
        await subscribe(client)
        assert publishes(client) == [("a", 1)]


# Takeover


@EVERYWHERE
async def test_a_client_that_is_back_before_its_loss_is_noticed_takes_its_session_over(
    make_server: Any,
) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as old:
        await subscribe(old)
        await publish(server, "a")
        await confirm(server)
        await publish(server, "b")
        async with with_session(server, session) as new:
            assert await old.closed() == (
                CLOSE_TAKEN_OVER,
                "Another connection has the session",
            )
            assert (await subscribe(new))["recovered"] is True
            assert publishes(new) == [("b", 2)]
            await publish(server, "c")
            await synced(new)
            assert publishes(new) == [("c", 3)]
    assert counts(server) == {"connected": 0, "lost": 1}


async def test_the_session_of_a_taken_over_socket_goes_on(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as first:
        await subscribe(first)
        await confirm(server)
        await publish(server, "a")
        async with with_session(server, session), with_session(server, session) as third:
            assert (await subscribe(third))["recovered"] is True
            assert publishes(third) == [("a", 1)]
    assert counts(server) == {"connected": 0, "lost": 1}


# Whom a session belongs to


@pytest.mark.parametrize(
    ("owner", "other", "recovers"),
    [
        ("alice", "alice", True),
        ("alice", "bob", False),
        ("alice", None, False),
        (None, "alice", True),
        (None, None, True),
    ],
)
@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_session_belongs_to_the_identity_that_made_it(
    make_server: Any, owner: str | None, other: str | None, recovers: bool, is_lost: bool
) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session, owner) as first:
        await subscribe(first)
        await confirm(server)
        await publish(server, "a")
        if is_lost:
            await cut(server, first)
        async with with_session(server, session, other) as second:
            assert (await subscribe(second))["recovered"] is recovers
            assert publishes(second) == ([("a", 1)] if recovers else [])
            if not is_lost and not recovers:
                await synced(first)  # The owner is still connected.
        if not recovers:
            await until(lambda: server.clients_count == (not is_lost))
            if not is_lost:
                await cut(server, first)
            async with with_session(server, session, owner) as third:
                assert (await subscribe(third))["recovered"] is True
                assert publishes(third) == [("a", 1)]


async def test_others_do_not_see_what_a_user_missed_who_logged_out(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await client.call("#authenticate", token("alice"))
        await subscribe(client)
        await confirm(server)
        await publish(server, "for alice")
        await client.send({"event": "#removeAuthToken"})
        (socket,) = server.clients.values()
        await until(lambda: socket.auth.token is None)
    await publish(server, "for all")
    async with with_session(server, session, "bob") as client:
        await subscribe(client)
        assert publishes(client) == [("for all", 2)]


async def test_a_log_in_keeps_what_was_missed(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        await client.call("#authenticate", token("alice"))
        await publish(server, "a")
    async with with_session(server, session, "bob") as client:
        assert (await subscribe(client))["recovered"] is False
        assert publishes(client) == []
    async with with_session(server, session, "alice") as client:
        assert (await subscribe(client))["recovered"] is True
        assert publishes(client) == [("a", 1)]


async def test_another_session_recovers_nothing(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    async with with_session(server, session) as client:
        await subscribe(client)
        await confirm(server)
    await publish(server, "a")
    async with with_session(server, secret()) as client:
        assert (await subscribe(client))["recovered"] is False
        assert publishes(client) == []
    async with with_session(server, session) as client:
        assert (await subscribe(client))["recovered"] is True


@pytest.mark.parametrize(
    "session",
    [
        "",
        "1",
        "a" * 36,
        "0" * 40,
        "12345678901234567890123456",
        "c232ab00-9414-11ec-b3c8-9f68deced846",  # A UUID of version 1 has a time and an address.
        "0190163d-8694-739b-aea5-966c26f8ad90",  # One of version 7 has a time.
        "x y",
        "é" * 30,
        "A1b2C3d4" * 125_000,
    ],
    ids=lambda session: session[:20],
)
async def test_a_session_that_is_no_secret_is_refused(
    make_server: Any, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    recovery = Recovery(session=lambda socket: session)
    server = await make_server(sessions_server(recovery=recovery))
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):
            async with connected(server) as client:
                await subscribe(client)
                assert sessions_of(server) == []
                await cut(server, client)
    warnings = [record for record in caplog.records if "session" in record.getMessage()]
    assert len(warnings) == 1
    assert "crypto.randomUUID()" in warnings[0].getMessage()
    assert len(session) < 5 or session[:30] not in caplog.text
    assert counts(server) == {"connected": 0, "lost": 0}


async def test_a_session_is_never_logged(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = await make_server(sessions_server())
    session = secret()
    with caplog.at_level(logging.DEBUG):
        caplog.set_level(logging.INFO, "websockets")  # The test's own client.
        for _ in range(2):
            async with with_session(server, session) as client:
                await subscribe(client)
                async with with_session(server, session):
                    pass
    assert session not in caplog.text


@pytest.mark.parametrize(
    "session",
    [
        "c232ab00-9414-41ec-b3c8-9f68deced846",
        "C232AB00-9414-41EC-B3C8-9F68DECED846",
        "Zm9vYmFyIGlzIG5vdCBzbw",
        "c232ab00941441ecb3c89f68deced846",
        "4f90d13a42ab3c8e1f00c232ab00941441ecb3c8",
        "1234567890" * 4,
    ],
)
async def test_secrets_of_several_forms_are_sessions(make_server: Any, session: str) -> None:
    server = await make_server(sessions_server())
    async with with_session(server, session):
        assert len(sessions_of(server)) == 1


async def test_a_session_may_be_a_claim(make_server: Any) -> None:
    server = await make_server(sessions_server(recovery=Recovery(session="claim:sid")))
    signed = token("alice", sid=secret())
    async with connected(server, token=signed) as client:
        await subscribe(client)
        await confirm(server)
        await cut(server, client)
    await publish(server, "a")
    async with connected(server) as client:
        assert (await subscribe(client))["recovered"] is False
    async with connected(server, token=signed) as client:
        assert (await subscribe(client))["recovered"] is True
        assert publishes(client) == [("a", 1)]


async def test_the_query_may_have_other_fields(make_server: Any) -> None:
    recovery = Recovery(session="query:my session")
    server = await make_server(sessions_server(recovery=recovery))
    query = f"?a=1&session=x&my%20session={secret()}&my+session=2"
    async with connected(server, query=query):
        assert len(sessions_of(server)) == 1
    async with connected(server, query="?session=x&=&&"):
        assert sessions_of(server) == []


async def test_a_function_that_fails_is_reported(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(socket: Any) -> str | None:
        raise ZeroDivisionError

    server = await make_server(sessions_server(recovery=Recovery(session=fail)))
    async with connected(server) as client:
        assert (await subscribe(client))["recovered"] is False
        assert sessions_of(server) == []
    assert "ZeroDivisionError" in caplog.text


# Options


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"window": 0}, "recovery.window"),
        ({"window": -1}, "recovery.window"),
        ({"window": 10**9}, "recovery.window"),
        ({"window": "1"}, "recovery.window"),
        ({"session": "session"}, "recovery.session"),
        ({"session": "query:"}, "recovery.session"),
        ({"session": 5}, "recovery.session"),
        ({"store": "disk"}, "recovery.store"),
    ],
)
def test_wrong_values(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidOptionsError, match=problem):
        Recovery(**fields)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"recovery": True}, "The recovery option must be Recovery"),
        ({"recovery": Recovery(), "ping_timeout_disabled": True}, "ping_timeout_disabled"),
    ],
)
def test_wrong_options(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidOptionsError, match=problem) as raised:
        AGServer(**options)
    assert raised.value.option == "recovery"


async def test_without_a_rule_with_history_sessions_have_no_effect(make_server: Any) -> None:
    server = await make_server(AGServer(recovery=Recovery(), auth_key=KEY))
    async with connected(server, query=f"?session={secret()}") as client:
        await client.call("#subscribe", {"channel": "c/1"})
        assert sessions_of(server) == []


async def test_channels_without_history_are_as_ever(make_server: Any) -> None:
    server = await make_server(sessions_server())
    session = secret()
    for _ in range(2):
        async with with_session(server, session) as client:
            await client.call("#subscribe", {"channel": "plain"})
            await publish(server, "a", channel="plain")
            await synced(client)
            assert [each["data"]["data"] for each in packets(client)] == ["a"]


async def test_the_newest_publish_is_not_repeated_to_a_client_that_has_it(
    make_server: Any,
) -> None:
    rules = [ChannelRule("c/*", history=History(size=1, ttl=60, recover="latest"))]
    server = await make_server(sessions_server(channels=rules))
    session = secret()
    await publish(server, "a")
    for number, expected in enumerate(([("a", 1)], [("a", 1)], [])):
        async with with_session(server, session) as client:
            await subscribe(client)
            assert publishes(client) == expected
            if number:
                await confirm(server)
