"""Presence, as clients and the application see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import generate_latest

from socketcluster import (
    AGAction,
    AGServer,
    AGServerSocket,
    ChannelRule,
    History,
    Metrics,
    OccupiedEvent,
    Presence,
    VacatedEvent,
    testing,
)
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import BrokerError, InvalidArgumentsError
from support import AnswerError, Client, Running, connected, until

KEY = "k" * 32
ROOM, SHOWN = "room/1", "$presence/room/1"
EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)


def rules(**options: Any) -> list[ChannelRule]:
    return [ChannelRule("room/*", presence=Presence(**{"leave_delay": 0, **options}))]


def name_of(socket: AGServerSocket) -> Any:
    assert socket.auth_token is not None
    return {"name": socket.auth_token.get("name", "?")}


def token(server: AGServer, user: str, **claims: Any) -> str:
    signed: Any = server.auth.sign_token({"sub": user, **claims}, server.signature_key, {})
    assert isinstance(signed, str)
    return signed


async def subscribe(client: Client, *channels: str) -> None:
    for channel in channels:
        await client.call("#subscribe", {"channel": channel})


async def shown(client: Client, channel: str = SHOWN) -> Any:
    """The next publish of what is shown."""
    event = await client.event()
    assert event["event"] == "#publish"
    assert event["data"]["channel"] == channel
    return event["data"]["data"]


@EVERYWHERE
async def test_members_come_and_go(make_server: Any) -> None:
    server = await make_server(auth_key=KEY, channels=rules(info=name_of))
    alice, bob = token(server, "alice", name="Alice"), token(server, "bob", name="Bob")
    async with connected(server, token=alice) as first, connected(server) as guest:
        await subscribe(first, ROOM, SHOWN)
        assert await shown(first) == {"state": {"alice": [{"name": "Alice"}]}, "count": 1}
        await subscribe(guest, ROOM)
        assert await shown(first) == {"join": {}, "leave": [], "count": 2}
        async with connected(server, token=bob) as second:
            await subscribe(second, ROOM)
            await subscribe(second, ROOM)
            assert await shown(first) == {
                "join": {"bob": [{"name": "Bob"}]},
                "leave": [],
                "count": 3,
            }
            state = await server.exchange.presence(ROOM)
            assert state.members == {"alice": [{"name": "Alice"}], "bob": [{"name": "Bob"}]}
            assert (state.count, state.complete) == (3, True)
            occupancy = await server.exchange.occupancy(ROOM)
            assert (occupancy.sockets, occupancy.users) == (3, 2)
        assert await shown(first) == {"join": {}, "leave": ["bob"], "count": 2}
        await guest.call("#unsubscribe", ROOM)
        assert await shown(first) == {"join": {}, "leave": [], "count": 1}
        await first.call("#unsubscribe", SHOWN)
        await subscribe(guest, ROOM)
        await guest.call("#subscribe", {"channel": "other"})
        await first.call("#publish", {"channel": "other", "data": 1})
        event = await guest.event()
        assert event["data"] == {"channel": "other", "data": 1}
        assert first.events.empty()


async def test_a_short_loss_of_the_connection_is_no_leave(make_server: Any) -> None:
    server = await make_server(auth_key=KEY, channels=rules(leave_delay=1))
    bob = token(server, "bob")
    async with connected(server) as viewer:
        await subscribe(viewer, SHOWN)
        assert await shown(viewer) == {"state": {}, "count": 0}
        async with connected(server, token=bob) as client:
            await subscribe(client, ROOM)
            assert await shown(viewer) == {"join": {"bob": []}, "leave": [], "count": 1}
        async with connected(server, token=bob) as client:
            await subscribe(client, ROOM)
        assert await shown(viewer) == {"join": {}, "leave": ["bob"], "count": 0}


async def test_nobody_publishes_to_it(make_server: Any, running: Running) -> None:
    server = await make_server(channels=rules())
    async with connected(server) as client:
        await subscribe(client, ROOM, SHOWN)
        await shown(client)
        for channel in (SHOWN, "$presence/news", "$presence/"):
            with pytest.raises(AnswerError, match="only the server does"):
                await client.call("#publish", {"channel": channel, "data": {"state": {}}})
        # Whatever comes from the broker under that name reaches no client.
        await server.exchange.invoke_publish(SHOWN, "forged")
        await client.call("#publish", {"channel": ROOM, "data": 1})
        event = await client.event()
        assert event["data"] == {"channel": ROOM, "data": 1}
        assert SHOWN not in server.exchange._index.channels


async def test_channels_without_presence_show_nothing(make_server: Any) -> None:
    server = await make_server(channels=[*rules(), ChannelRule("news")])
    async with connected(server) as client:
        for channel in ("$presence/news", "$presence/other", "$presence/", f"$presence/{SHOWN}"):
            with pytest.raises(AnswerError, match="has no rule with presence"):
                await client.call("#subscribe", {"channel": channel})
    for channel in ("news", SHOWN):
        for ask in (server.exchange.presence, server.exchange.occupancy):
            with pytest.raises(InvalidArgumentsError, match="No rule of the server has presence"):
                await ask(channel)
    with pytest.raises(InvalidArgumentsError, match="must be a text"):
        await server.exchange.presence(1)


async def test_without_rules_the_names_are_ordinary(make_server: Any) -> None:
    server = await make_server(channels=[ChannelRule("room/*")])
    async with connected(server) as client:
        await subscribe(client, SHOWN)
        await client.call("#publish", {"channel": SHOWN, "data": 1})
        assert await shown(client) == 1
    assert server.presence.channels is None
    with pytest.raises(InvalidArgumentsError, match="No rule of the server has presence"):
        await server.exchange.presence(ROOM)


async def test_a_server_that_refuses_what_no_rule_names(make_server: Any) -> None:
    server = await make_server(channels=rules(), channels_default="refuse")
    async with connected(server) as client:
        await subscribe(client, SHOWN)
        assert await shown(client) == {"state": {}, "count": 0}
        for channel in ("$presence/news", "news"):
            with pytest.raises(AnswerError, match=f"the {channel.replace('$', '.')} channel: no"):
                await client.call("#subscribe", {"channel": channel})


async def test_middleware_is_asked_about_the_channel(make_server: Any) -> None:
    server = await make_server(channels=rules())
    asked: list[tuple[str, str, bool]] = []

    async def ask(stream: Any) -> None:
        async for action in stream:
            asked.append((action.type, action.channel, action.presence))
            if action.channel == "room/2" or (action.channel == "room/3" and action.presence):
                action.block("No")
            else:
                action.allow()

    server.set_middleware("inbound", ask)
    async with connected(server) as client:
        await subscribe(client, ROOM, SHOWN)
        await shown(client)
        await subscribe(client, "room/3")
        for channel in ("$presence/room/2", "$presence/room/3"):
            with pytest.raises(AnswerError):
                await client.call("#subscribe", {"channel": channel})
    kind = AGAction.SUBSCRIBE
    assert asked == [
        (kind, ROOM, False),
        (kind, ROOM, True),
        (kind, "room/3", False),
        (kind, "room/2", True),
        (kind, "room/3", True),
    ]


@pytest.mark.parametrize("is_async", [False, True])
async def test_handlers_are_asked_about_the_channel(make_server: Any, is_async: bool) -> None:
    server = await make_server(channels=rules())
    asked: list[str] = []
    if is_async:

        @server.channel("room/{room}")  # type: ignore[untyped-decorator]
        async def later(room: str) -> bool:
            asked.append(room)
            return room == "1"

    else:

        @server.channel("room/{room}")  # type: ignore[untyped-decorator]
        def decide(room: str) -> bool:
            asked.append(room)
            return room == "1"

    async with connected(server) as client:
        await subscribe(client, SHOWN)
        await shown(client)
        with pytest.raises(AnswerError, match=r"not allowed to subscribe to the room/2 channel"):
            await client.call("#subscribe", {"channel": "$presence/room/2"})
    assert asked == ["1", "2"]


@pytest.mark.parametrize(("kicked", "twin"), [(ROOM, SHOWN), (SHOWN, ROOM)])
async def test_who_is_kicked_out_of_one_is_out_of_both(
    make_server: Any, kicked: str, twin: str
) -> None:
    server = await make_server(channels=rules())
    async with connected(server) as client:
        await subscribe(client, ROOM, SHOWN, "room/2")
        await shown(client)
        (socket,) = server.clients.values()
        await socket.kick_out(kicked, "Out")
        events = [await client.event() for _ in range(2)]
        assert [event["data"] for event in events] == [
            {"channel": kicked, "message": "Out"},
            {"channel": twin, "message": "Out"},
        ]
        assert socket.subscriptions() == ["room/2"]
        await subscribe(client, ROOM, SHOWN)
        await shown(client)
        await socket.kick_out([ROOM, SHOWN, "room/2"])
        assert socket.subscriptions() == []
        await subscribe(client, SHOWN)
        await socket.kick_out()
        assert socket.subscriptions() == []


async def test_a_loss_of_identity_is_decided_on_again(make_server: Any) -> None:
    server = await make_server(auth_key=KEY, channels=rules())
    again: list[tuple[str, bool]] = []

    async def ask(stream: Any) -> None:
        async for action in stream:
            if action.again:
                again.append((action.channel, action.presence))
            if action.type == AGAction.SUBSCRIBE and action.socket.auth_token is None:
                action.block("Log in")
            else:
                action.allow()

    server.set_middleware("inbound", ask)
    async with connected(server, token=token(server, "alice")) as client:
        await subscribe(client, SHOWN, ROOM)
        assert await shown(client) == {"state": {}, "count": 0}
        assert await shown(client) == {"join": {"alice": []}, "leave": [], "count": 1}
        (socket,) = server.clients.values()
        socket.deauthenticate_self()
        await until(lambda: socket.subscriptions() == [])
        assert (ROOM, True) in again or (ROOM, False) in again
    state = await server.exchange.presence(ROOM)
    assert (state.members, state.count) == ({}, 0)


async def test_a_handler_decides_again(make_server: Any) -> None:
    server = await make_server(auth_key=KEY, channels=rules())
    asked: list[str] = []

    @server.channel("room/{room}")  # type: ignore[untyped-decorator]
    def decide(room: str, socket: AGServerSocket) -> bool:
        asked.append(room)
        return socket.auth_token is not None

    async with connected(server, token=token(server, "alice")) as client:
        await subscribe(client, SHOWN)
        await shown(client)
        (socket,) = server.clients.values()
        socket.deauthenticate_self()
        await until(lambda: socket.subscriptions() == [])
    assert asked == ["1", "1"]


@EVERYWHERE
async def test_a_socket_whose_user_changes_moves(make_server: Any) -> None:
    server = await make_server(auth_key=KEY, channels=rules(leave_delay=60, info=name_of))
    async with connected(server) as viewer, connected(server) as client:
        await subscribe(viewer, SHOWN)
        await shown(viewer)
        await subscribe(client, ROOM)
        assert (await shown(viewer))["count"] == 1
        await client.call("#authenticate", token(server, "alice", name="A"))
        assert await shown(viewer) == {"join": {"alice": [{"name": "A"}]}, "leave": [], "count": 1}
        await client.call("#authenticate", token(server, "anna", name="B"))
        assert await shown(viewer) == {
            "join": {"anna": [{"name": "B"}]},
            "leave": ["alice"],
            "count": 1,
        }
        await client.call("#authenticate", token(server, "anna", name="C"))  # The same user.
        await client.call("#removeAuthToken")
        assert await shown(viewer) == {"join": {}, "leave": ["anna"], "count": 1}


async def test_several_sockets_of_a_user_are_one_member(make_server: Any) -> None:
    server = await make_server(auth_key=KEY, channels=rules(info=lambda socket: 1))
    alice = token(server, "alice")
    async with connected(server) as viewer, connected(server, token=alice) as one:
        await subscribe(viewer, SHOWN)
        await shown(viewer)
        await subscribe(one, ROOM)
        assert await shown(viewer) == {"join": {"alice": [1]}, "leave": [], "count": 1}
        async with connected(server, token=alice) as two:
            await subscribe(two, ROOM)
            occupancy = await server.exchange.occupancy(ROOM)
            assert (occupancy.sockets, occupancy.users) == (2, 1)
        await one.call("#unsubscribe", ROOM)
        assert await shown(viewer) == {"join": {}, "leave": ["alice"], "count": 0}


def fail(socket: AGServerSocket) -> Any:
    raise KeyError("No such thing")


async def later(socket: AGServerSocket) -> Any:
    return 1


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        (lambda socket: "x" * 1100, "returned 1,102 bytes of JSON: it may return 1,024"),
        (lambda socket: object(), "must return JSON"),
        (later, "must be a plain function"),
        (fail, "No such thing"),
    ],
)
async def test_a_wrong_info_is_loud_and_the_member_shown_without(
    make_server: Any, info: Any, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = await make_server(auth_key=KEY, channels=rules(info=info))
    async with connected(server, token=token(server, "alice")) as client:
        await subscribe(client, ROOM, SHOWN)
        assert await shown(client) == {"state": {"alice": []}, "count": 1}
    assert problem in caplog.text
    assert "ERROR" in {record.levelname for record in caplog.records}


async def test_what_info_returned_is_copied(make_server: Any) -> None:
    info: dict[str, Any] = {"n": 1}
    server = await make_server(auth_key=KEY, channels=rules(info=lambda socket: info))
    async with connected(server, token=token(server, "alice")) as client:
        await subscribe(client, ROOM)
        info["n"] = 2
        assert (await server.exchange.presence(ROOM)).members == {"alice": [{"n": 1}]}


async def test_a_user_that_is_too_long_is_counted(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = await make_server(identify=lambda socket: "x" * 300, channels=rules())
    async with connected(server) as client:
        await subscribe(client, ROOM, SHOWN)
        assert await shown(client) == {"state": {}, "count": 1}
    assert "has 300 characters, and is not listed" in caplog.text


async def test_the_channel_limit_counts_them(make_server: Any) -> None:
    server = await make_server(channels=rules(), socket_channel_limit=2)
    async with connected(server) as client:
        await subscribe(client, "$presence/room/1", "$presence/room/2")
        with pytest.raises(AnswerError, match="channel subscription limit of 2"):
            await client.call("#subscribe", {"channel": "$presence/room/3"})


async def test_a_client_that_drops_publishes_still_sees_all_changes(make_server: Any) -> None:
    server = await make_server(channels=rules(), droppable_channels=lambda channel: True)
    frame = server.exchange.members._output._frame(SHOWN, b"1")
    assert type(frame) is bytes


async def test_another_codec(make_server: Any) -> None:
    server = await make_server(
        auth_key=KEY,
        channels=rules(info=lambda socket: [1, {"a": None}]),
        codec_engine=MinBinCodec(),
    )
    alice = token(server, "alice")
    async with testing.connect(server, codec_engine=MinBinCodec()) as client:
        await client.authenticate(alice)
        client.subscribe(ROOM)
        seen = client.subscribe(SHOWN).create_consumer()
        found = (await asyncio.wait_for(seen.next(), 10)).value
        assert found == {"state": {"alice": [[1, {"a": None}]]}, "count": 1}


async def test_events_of_the_server_and_the_exchange(make_server: Any, running: Running) -> None:
    server = await make_server(channels=rules())
    handled: list[Any] = []

    @server.on("occupied")  # type: ignore[untyped-decorator]
    def occupied(event: OccupiedEvent) -> None:
        handled.append(event)

    @server.on("vacated")  # type: ignore[untyped-decorator]
    async def vacated(event: VacatedEvent) -> None:
        handled.append(event)

    streams = [server.exchange.listener("occupied"), server.exchange.listener("vacated")]
    streams += [server.listener("occupied"), server.listener("vacated")]
    found = [running.collect(stream) for stream in streams]
    async with connected(server) as one, connected(server) as two:
        await subscribe(one, ROOM)
        await subscribe(two, ROOM, "room/2", "news")
        await two.call("#unsubscribe", "room/2")
        await one.call("#unsubscribe", ROOM)
    come = [OccupiedEvent(ROOM), OccupiedEvent("room/2")]
    gone = [VacatedEvent("room/2"), VacatedEvent(ROOM)]
    await until(lambda: found == [come, gone, come, gone])
    assert sorted(map(str, handled)) == sorted(map(str, [*come, *gone]))


async def test_what_is_over_is_forgotten(make_server: Any) -> None:
    server = await make_server(auth_key=KEY, channels=rules())
    for number in range(20):
        async with connected(server, token=token(server, f"user-{number}")) as client:
            await subscribe(client, f"room/{number}", f"$presence/room/{number}")
    await until(lambda: not server.clients)
    assert server.presence.channels is not None
    await until(lambda: server.presence.channels._following.channels == {})


async def test_outbound_middleware_sees_what_is_shown(make_server: Any) -> None:
    server = await make_server(channels=rules())
    seen: list[tuple[str, bool, Any]] = []

    async def outbound(stream: Any) -> None:
        async for action in stream:
            seen.append((action.channel, action.presence, action.data))
            if action.presence:
                action.data["count"] += 100
            action.allow()

    server.set_middleware("outbound", outbound)
    async with connected(server) as client:
        await subscribe(client, ROOM, SHOWN)
        assert await shown(client) == {"state": {}, "count": 101}
        await client.call("#publish", {"channel": ROOM, "data": 1})
        assert await shown(client, ROOM) == 1
        (socket,) = server.clients.values()
        await socket.kick_out()
    assert [each[:2] for each in seen] == [(ROOM, True), (ROOM, False)]


def test_a_function_of_a_rule_is_checked() -> None:
    for wrong in ({"info": 1}, {"leave_delay": -1}, {"members_limit": 1.5}):
        with pytest.raises(Exception, match="presence"):
            Presence(**wrong)


# Several servers


@pytest.fixture
async def cluster() -> AsyncIterator[Any]:
    async with testing.clock(auto=True):
        backend = testing.MemoryBackend()
        servers: list[AGServer] = []

        async def start(**options: Any) -> AGServer:
            options = {"channels": rules(leave_delay=5), "drain_timeout": 100, **options}
            server = AGServer(auth_key=KEY, broker_engine=backend.broker(), **options)
            servers.append(server)
            await server.start()
            return server

        start.backend = backend  # type: ignore[attr-defined]
        yield start
        for server in servers:
            await server.close()


async def test_servers_know_each_other_s_members(cluster: Any) -> None:
    one, two = await cluster(), await cluster()
    async with connected(one, token=token(one, "alice")) as alice, connected(two) as guest:
        await subscribe(alice, ROOM)
        await subscribe(guest, SHOWN)
        assert await shown(guest) == {"state": {"alice": []}, "count": 1}
        await subscribe(guest, ROOM)
        assert await shown(guest) == {"join": {}, "leave": [], "count": 2}
        for server in (one, two):
            occupancy = await server.exchange.occupancy(ROOM)
            assert (occupancy.sockets, occupancy.users, occupancy.complete) == (2, 1, True)
    assert two.presence.channels is not None


async def test_half_a_character_in_a_user_stops_no_message(cluster: Any) -> None:
    one, two = await cluster(identify=lambda socket: "cut \ud83d"), await cluster()
    async with connected(one) as first, connected(two) as second:
        await subscribe(second, SHOWN)
        assert await shown(second) == {"state": {}, "count": 0}
        await subscribe(first, ROOM)
        assert await shown(second) == {"join": {"cut \ufffd": []}, "leave": [], "count": 1}
        await first.call("#unsubscribe", ROOM)
        assert await shown(second) == {"join": {}, "leave": ["cut \ufffd"], "count": 0}


async def test_a_rolling_restart_makes_nobody_leave_or_join(cluster: Any) -> None:
    """The servers are replaced one by one; a viewer on one that stays sees no change."""
    stays = await cluster()
    old = await cluster()
    async with connected(stays) as viewer:
        await subscribe(viewer, SHOWN)
        await shown(viewer)
        clients = [await stack_connect(old, token(old, f"user-{number}")) for number in range(20)]
        for client in clients:
            await subscribe(client, ROOM)
        members: set[str] = set()
        while len(members) < 20:
            members |= set((await shown(viewer))["join"])
        for _ in range(3):
            new = await cluster()
            closing = asyncio.create_task(old.close())
            for number, client in enumerate(clients):
                await client.closed()
                await client.close()
                await asyncio.sleep(0.1)
                clients[number] = await stack_connect(new, token(new, f"user-{number}"))
                await subscribe(clients[number], ROOM)
            await closing
            old = new
            await asyncio.sleep(30)
            state = await new.exchange.presence(ROOM)
            assert set(state.members or ()) == members
        assert viewer.events.empty()
        for client in clients:
            await client.close()


async def stack_connect(server: AGServer, signed: str) -> Client:
    from transports import dial

    client = Client(await dial(server))
    await client.handshake(signed)
    return client


async def test_an_outage_of_the_backend(cluster: Any) -> None:
    one, two = await cluster(), await cluster()
    backend: testing.MemoryBackend = cluster.backend
    async with connected(one, token=token(one, "alice")) as alice, connected(two) as viewer:
        await subscribe(alice, ROOM)
        await subscribe(viewer, SHOWN)
        assert await shown(viewer) == {"state": {"alice": []}, "count": 1}
        backend.lose()
        assert not one.exchange.broker.ready
        async with connected(one, token=token(one, "bob")) as bob:
            await subscribe(bob, "room/1")
            await asyncio.sleep(10)
            backend.recover()
            assert await shown(viewer) == {"join": {"bob": []}, "leave": [], "count": 2}
            backend.lose()
            await asyncio.sleep(15 + 5)
            left = await shown(viewer)
            assert (set(left["leave"]), left["count"]) == ({"alice", "bob"}, 0)
            backend.recover()
            assert set((await shown(viewer))["join"]) == {"alice", "bob"}


def test_the_memory_backend_needs_a_running_server() -> None:
    broker = testing.MemoryBackend().broker()
    with pytest.raises(BrokerError, match="not started"):
        broker.publish("a", b"1")


async def test_the_metric_counts_members_here(make_server: Any) -> None:
    server = await make_server(auth_key=KEY, channels=rules(), metrics=Metrics(path=None))
    name = "socketcluster_presence_members{"
    assert name not in await text_of(server)
    async with connected(server, token=token(server, "alice")) as one, connected(server) as guest:
        await subscribe(one, ROOM, "room/2", "news")
        await subscribe(guest, ROOM)
        assert name + 'pattern="room/*"} 2.0' in await text_of(server)
    await until(lambda: not server.clients)
    assert name not in await text_of(server)


async def text_of(server: AGServer) -> str:
    assert server.metrics is not None
    return generate_latest(await server.metrics.collect()).decode()


@pytest.mark.parametrize("pattern", ["room/*", "**"])
async def test_a_rule_with_history_and_presence(make_server: Any, pattern: str) -> None:
    rule = ChannelRule(pattern, history=History(size=10, ttl=60), presence=Presence(leave_delay=0))
    server = await make_server(auth_key=KEY, channels=[rule])
    async with connected(server, token=token(server, "alice")) as client:
        await subscribe(client, ROOM, SHOWN)
        assert await shown(client) == {"state": {"alice": []}, "count": 1}
        await client.call("#publish", {"channel": ROOM, "data": 1})
        assert await shown(client, ROOM) == 1
        with pytest.raises(AnswerError, match="only the server does"):
            await client.call("#publish", {"channel": SHOWN, "data": 1, "id": "x"})
        (socket,) = server.clients.values()
        await socket.kick_out(ROOM)
        assert socket.subscriptions() == []
        assert (await server.exchange.presence(ROOM)).count == 0
        await subscribe(client, ROOM)
        assert (await server.exchange.presence(ROOM)).count == 1


async def test_a_server_that_starts_again(make_server: Any) -> None:
    server = await make_server(auth_key=KEY, channels=rules(leave_delay=60))
    for _ in range(2):
        async with connected(server, token=token(server, "alice")) as client:
            await subscribe(client, ROOM, SHOWN)
            assert await shown(client) == {"state": {"alice": []}, "count": 1}
        await server.close()
        assert server.presence.channels._following.channels == {}
        await make_server(server)
