"""Guarantee 7: a socket that loses its identity asks SUBSCRIBE middleware again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import jwt
import pytest

from socketcluster import AGAction, AGServer, AGServerSocket, testing
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.errors import AuthError
from socketcluster.server.parts.middleware import SocketMiddleware
from socketcluster.server.parts.reauthorization import (
    ACTIONS_PER_TURN,
    OnDecided,
    Reauthorization,
    ReauthorizationPace,
)
from support import AnswerError, Client, Running, connected, soon, until

KEY = "k" * 32
Decide = Callable[[AGAction], None]


def token(**claims: Any) -> str:
    return jwt.encode(claims, KEY, algorithm="HS256")


def public_only(action: AGAction) -> None:
    """Private channels are for those who have a token, and each for its own user."""
    user = (action.socket.auth_token or {}).get("name")
    if action.type == AGAction.SUBSCRIBE and action.channel not in ("public", f"private/{user}"):
        action.block(AuthError(f"{action.channel} is not yours"))
    else:
        action.allow()


class Middleware:
    """Inbound middleware that notes the questions asked again."""

    def __init__(self, decide: Decide = public_only) -> None:
        self.decide = decide
        self.again: list[tuple[str, Any, Any]] = []

    async def __call__(self, stream: Any) -> None:
        async for action in stream:
            if action.again:
                assert action.type == AGAction.SUBSCRIBE
                self.again.append((action.channel, action.data, action.socket.auth_token))
            self.decide(action)
            del action


async def make(
    make_server: Any, middleware: Middleware | None = None, **options: Any
) -> tuple[AGServer, Middleware]:
    middleware = middleware or Middleware()
    server = AGServer(auth_key=KEY, **{"drain_timeout": 100, **options})
    server.set_middleware("inbound", middleware)
    await make_server(server)
    return server, middleware


async def subscribed(client: Client) -> None:
    await client.call("#subscribe", {"channel": "public", "data": {"why": [1]}})
    await client.call("#subscribe", {"channel": "private/bob"})


async def kicked_out(client: Client) -> list[tuple[str, str | None]]:
    """What the client was kicked out of, up to the answer to a call."""
    with pytest.raises(AnswerError, match="no procedure"):
        await client.call("sync")
    packets = [client.events.get_nowait() for _ in range(client.events.qsize())]
    return [
        (packet["data"]["channel"], packet["data"].get("message"))
        for packet in packets
        if packet["event"] == "#kickOut"
    ]


Loss = Callable[[AGServerSocket, Client], Awaitable[Any]]


async def expires(socket: AGServerSocket, client: Client) -> None:
    socket.auth.expires_at = time.time() - 1
    await until(lambda: socket.auth_token is None)


async def expires_at_a_packet(socket: AGServerSocket, client: Client) -> None:
    socket.auth.expires_at = time.time() - 1
    with pytest.raises(AnswerError, match="no procedure"):
        await client.call("nothing")


async def is_deauthenticated(socket: AGServerSocket, client: Client) -> None:
    await socket.deauthenticate()


async def is_deauthenticated_here(socket: AGServerSocket, client: Client) -> None:
    socket.deauthenticate_self()


async def is_deauthenticated_and_waited_for(socket: AGServerSocket, client: Client) -> None:
    loss = asyncio.create_task(socket.deauthenticate(reject_on_failed_delivery=True))
    packet = await client.event()
    await client.send({"rid": packet["cid"]})
    await soon(loss)


async def gives_it_up(socket: AGServerSocket, client: Client) -> None:
    await client.send({"event": "#removeAuthToken"})


async def gives_it_up_with_a_call(socket: AGServerSocket, client: Client) -> None:
    await client.call("#removeAuthToken")


async def shows_a_bad_token(socket: AGServerSocket, client: Client) -> None:
    with pytest.raises(AnswerError):
        await client.call("#authenticate", "bad")


async def shows_an_early_token(socket: AGServerSocket, client: Client) -> None:
    await client.call("#authenticate", token(nbf=9e9))


LOSSES: list[Loss] = [
    expires,
    expires_at_a_packet,
    is_deauthenticated,
    is_deauthenticated_here,
    is_deauthenticated_and_waited_for,
    gives_it_up,
    gives_it_up_with_a_call,
    shows_a_bad_token,
    shows_an_early_token,
]


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
async def test_whatever_takes_the_token_away_asks_again(
    make_server: Any, running: Running, lose: Loss
) -> None:
    """Guarantee 7: what middleware refuses is kicked out, the rest stays, without 'subscribe'."""
    server, middleware = await make(make_server, ping_interval=40)
    async with connected(server, token=token(name="bob", exp=time.time() + 60)) as client:
        await subscribed(client)
        (socket,) = server.clients.values()
        events = running.collect(socket.listener("subscribe"))
        left = running.collect(server.listener("unsubscription"))
        await lose(socket, client)
        await until(lambda: "private/bob" not in socket.subscriptions())
        assert await kicked_out(client) == [("private/bob", "private/bob is not yours")]
        assert socket.subscriptions() == ["public"]
        assert middleware.again == [("public", {"why": [1]}, None), ("private/bob", None, None)]
        await until(lambda: len(left) == 1)
        assert (left[0].channel, events) == ("private/bob", [])
        # Publishes go on where it stayed.
        server.exchange.transmit_publish("private/bob", 1)
        server.exchange.transmit_publish("public", 2)
        assert (await client.event())["data"] == {"channel": "public", "data": 2}


async def authenticates(socket: AGServerSocket, client: Client) -> None:
    await client.call("#authenticate", token(name="eve"))


async def is_given_a_token(socket: AGServerSocket, client: Client) -> None:
    await socket.set_auth_token({"name": "eve"})


@pytest.mark.parametrize("replace", [authenticates, is_given_a_token])
async def test_the_token_of_another_user_asks_again(make_server: Any, replace: Loss) -> None:
    """Guarantee 7: a token with other claims is another identity."""
    server, middleware = await make(make_server)
    async with connected(server, token=token(name="bob")) as client:
        await subscribed(client)
        (socket,) = server.clients.values()
        await replace(socket, client)
        assert await kicked_out(client) == [("private/bob", "private/bob is not yours")]
        assert [channel for channel, _, _ in middleware.again] == ["public", "private/bob"]
        assert {claims["name"] for _, _, claims in middleware.again} == {"eve"}
        await client.call("#subscribe", {"channel": "private/eve"})


async def test_a_login_and_a_renewal_ask_nothing(make_server: Any) -> None:
    """Guarantee 7: neither the first token nor one that differs in exp, iat, nbf and jti only."""
    server, middleware = await make(make_server)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "public"})
        (socket,) = server.clients.values()
        await client.call("#authenticate", token(name="bob", exp=8e9, iat=1, nbf=1, jti="a"))
        await client.call("#subscribe", {"channel": "private/bob"})
        await client.call("#authenticate", token(name="bob", exp=9e9, iat=2, nbf=2, jti="b"))
        await client.call("#authenticate", token(name="bob"))
        await socket.set_auth_token({"name": "bob"}, expires_in=60, jwt_id="c")
        assert await kicked_out(client) == []
        assert middleware.again == []


async def test_without_middleware_nothing_is_asked(make_server: Any) -> None:
    """Guarantee 7: without middleware every channel is public."""
    server = await make_server(auth_key=KEY)
    async with connected(server, token=token(name="bob")) as client:
        await subscribed(client)
        (socket,) = server.clients.values()
        for lose in (is_deauthenticated, authenticates, shows_a_bad_token):
            await lose(socket, client)
        assert await kicked_out(client) == []
        assert socket.subscriptions() == ["public", "private/bob"]


async def test_middleware_set_later_decides(make_server: Any) -> None:
    server = await make_server(auth_key=KEY)
    async with connected(server, token=token(name="bob")) as client:
        await subscribed(client)
        (socket,) = server.clients.values()
        middleware = Middleware()
        server.set_middleware("inbound", middleware)
        await socket.deauthenticate()
        assert await kicked_out(client) == [("private/bob", "private/bob is not yours")]
        assert middleware.again[0] == ("public", {"why": [1]}, None)


def drops_or_keeps(action: AGAction) -> None:
    if not action.again or action.channel != "private/bob":
        action.allow()


def blocks_in_silence(action: AGAction) -> None:
    if action.again and action.channel == "private/bob":
        action.block()
    else:
        action.allow()


@pytest.mark.parametrize("decide", [drops_or_keeps, blocks_in_silence])
async def test_dropped_and_silent_questions_are_refusals(make_server: Any, decide: Decide) -> None:
    server, _ = await make(make_server, Middleware(decide))
    async with connected(server, token=token(name="bob")) as client:
        await subscribed(client)
        (socket,) = server.clients.values()
        await socket.deauthenticate()
        blocked = "The subscribe AGAction was blocked by inbound middleware"
        assert await kicked_out(client) == [("private/bob", blocked)]


def raises(action: AGAction) -> None:
    if action.again:
        raise RuntimeError("Broken")
    action.allow()


async def test_middleware_that_fails_kicks_out_of_all(make_server: Any) -> None:
    """Guarantees 5 and 7: it fails closed."""
    server, _ = await make(make_server, Middleware(raises))
    async with connected(server, token=token(name="bob")) as client:
        await subscribed(client)
        (socket,) = server.clients.values()
        await socket.deauthenticate()
        await until(lambda: not socket.channel_subscriptions_count)
        events = [(await client.event())["event"] for _ in range(3)]
        assert events == ["#removeAuthToken", "#kickOut", "#kickOut"]
        # It failed before the next loss as well.
        assert not socket.inbound.busy


async def test_what_is_not_decided_in_time_is_kicked_out(make_server: Any) -> None:
    """Guarantee 7: `ack_timeout` after the question, or the last answer."""
    held: list[AGAction] = []

    def holds(action: AGAction) -> None:
        if action.again and action.channel != "public":
            held.append(action)
        else:
            action.allow()

    server, _ = await make(make_server, Middleware(holds), ack_timeout=60)
    async with connected(server, token=token(name="bob")) as client:
        await subscribed(client)
        (socket,) = server.clients.values()
        await socket.deauthenticate()
        undecided = "Middleware did not decide in time whether the socket may stay subscribed"
        assert await kicked_out(client) == [("private/bob", undecided)]
        held[0].allow()  # Too late.
        assert socket.subscriptions() == ["public"]
        await client.call("#subscribe", {"channel": "private/bob"})


def warnings_of(caplog: Any) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelname == "WARNING" and "kicked out" in record.getMessage()
    ]


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
@pytest.mark.parametrize(("hangs_at", "stay"), [(0, 150), (3, 2)])
async def test_time_starts_anew_with_each_answer(
    make_server: Any, caplog: Any, hangs_at: int, stay: int
) -> None:
    """Guarantee 7: many slow decisions are in time, and one that hangs refuses what waits too."""
    server = AGServer(auth_key=KEY, drain_timeout=100, ack_timeout=1000)

    async def slow(stream: Any) -> None:
        asked = 0
        async for action in stream:
            if action.again:
                asked += 1
                await asyncio.sleep(0.02)
                if asked == hangs_at:
                    await asyncio.Event().wait()
            action.allow()

    server.set_middleware("inbound", slow)
    await make_server(server)
    async with connected(server, token=token(name="bob")) as client:
        for number in range(150):
            await client.call("#subscribe", {"channel": f"c{number}"})
        (socket,) = server.clients.values()
        lost = asyncio.get_running_loop().time()
        socket.deauthenticate_self()
        assert socket.subscribed.reauthorization is not None
        await socket.subscribed.reauthorization.finished()
        took = asyncio.get_running_loop().time() - lost
        assert socket.subscriptions() == [f"c{number}" for number in range(stay)]
        # The clock is the test's: three times 20 ms and a second without an answer.
        assert took == pytest.approx(1.04 if hangs_at else 3.0)
        warnings = warnings_of(caplog)
        assert len(warnings) == (1 if hangs_at else 0)
        if hangs_at:
            assert "148 channels" in warnings[0]
            assert "ack_timeout" in warnings[0]


class AskedSocket:
    """Keeps the answers to its questions."""

    def __init__(self) -> None:
        self.answers: dict[str, OnDecided] = {}
        self.undecided: list[str] = []
        self.done = 0

    def submit_subscribe(self, channel: str, on_decided: OnDecided) -> None:
        self.answers[channel] = on_decided

    def kick_out_refused(self, channel: str, reason: str) -> None: ...

    def kick_out_undecided(self, channels: Iterable[str]) -> None:
        self.undecided += channels

    def reauthorized(self) -> None:
        self.done += 1


class StoppedPace(ReauthorizationPace):
    """Leaves the asking to the test."""

    def add(self, reauthorization: Reauthorization) -> None: ...


async def test_no_time_runs_before_middleware_is_asked() -> None:
    """Guarantee 7: the questions of other sockets, asked first, cost nobody a channel."""
    async with testing.clock() as clock:
        socket = AskedSocket()
        reauthorization = Reauthorization(socket, StoppedPace(), 1.0)
        reauthorization.add("abc")
        assert reauthorization.submit(1) == 1
        socket.answers["a"](None)
        await clock.advance(5)
        assert reauthorization.submit(1) == 1
        await clock.advance(0.9)
        socket.answers["b"](None)
        await clock.advance(5)
        assert reauthorization.submit(1) == 1
        await clock.advance(0.9)
        assert (socket.undecided, socket.done) == ([], 0)
        await clock.advance(0.2)
        assert (socket.undecided, socket.done) == (["c"], 1)


async def test_later_messages_wait(make_server: Any) -> None:
    """Guarantee 7: also those of the same batch, and also behind a message under way."""
    held: list[AGAction] = []

    def holds(action: AGAction) -> None:
        held.append(action) if action.again or action.type == AGAction.INVOKE else action.allow()

    server, _ = await make(make_server, Middleware(holds))
    async with connected(server, token=token(name="bob")) as client:
        await client.call("#subscribe", {"channel": "private/bob"})
        (socket,) = server.clients.values()
        # In one batch.
        later = client.packet("#subscribe", {"channel": "next"})
        answer = client.answer(later)
        await client.send([{"event": "#removeAuthToken"}, later])
        await until(lambda: len(held) == 1)
        assert socket.subscriptions() == ["private/bob"]
        assert socket.inbound.busy
        held.pop().allow()
        await soon(answer)
        # While a call is before middleware.
        await client.call("#authenticate", token(name="bob"))
        call = client.packet("call")
        later = client.packet("#unsubscribe", "next")
        called, left = client.answer(call), client.answer(later)
        await client.send(call)
        await until(lambda: len(held) == 1)
        await socket.deauthenticate()
        await client.send(later)
        await until(lambda: len(held) == 3)
        held[0].allow()
        with pytest.raises(AnswerError, match="no procedure"):
            await soon(called)
        assert socket.subscriptions() == ["private/bob", "next"]
        held[1].allow()
        assert socket.subscriptions() == ["private/bob", "next"]
        held[2].allow()
        await soon(left)
        assert socket.subscriptions() == ["private/bob"]
        assert not socket.inbound.busy


async def test_so_many_questions_a_turn(make_server: Any) -> None:
    """Guarantee 7: of all sockets together, so that a mass expiry stops nobody."""
    server, middleware = await make(make_server)
    asked: list[int] = []

    async with (
        connected(server, token=token(name="bob")) as one,
        connected(server, token=token(name="bob")) as two,
    ):
        for client in (one, two):
            for number in range(100):
                await client.call("#subscribe", {"channel": "public", "data": number})
        for socket in server.clients.values():
            for number in range(100):
                assert socket.subscribed.subscribe(f"c{number}", {}) is None
        put = SocketMiddleware.put
        count = 0

        def counted(self: Any, *args: Any, **fields: Any) -> Any:
            nonlocal count
            count += 1
            return put(self, *args, **fields)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SocketMiddleware, "put", counted)
            for socket in server.clients.values():
                socket.deauthenticate_self()
            while sum(asked) < 202:
                await asyncio.sleep(0)
                asked.append(count)
                count = 0
        assert max(asked) == ACTIONS_PER_TURN
        await until(lambda: {len(s.subscriptions()) for s in server.clients.values()} == {1})
        assert len(middleware.again) == 202


async def test_the_socket_leaves_meanwhile(make_server: Any, running: Running) -> None:
    server, _ = await make(make_server, Middleware(lambda action: held_again(action)))
    faults = running.collect(server.listener("error"))
    async with connected(server, token=token(name="bob")) as client:
        await subscribed(client)
        (socket,) = server.clients.values()
        await socket.deauthenticate()
        await until(lambda: len(HELD) == 2)
    await until(lambda: not server.clients)
    HELD.pop().block()
    HELD.pop().allow()
    assert socket.subscriptions() == []
    assert socket.subscribed.reauthorization is None
    assert faults == []


HELD: list[AGAction] = []


def held_again(action: AGAction) -> None:
    HELD.append(action) if action.again else action.allow()


async def test_a_channel_is_left_meanwhile(make_server: Any) -> None:
    server, _ = await make(make_server, Middleware(held_again))
    async with connected(server, token=token(name="bob")) as client:
        await subscribed(client)
        (socket,) = server.clients.values()
        await socket.deauthenticate()
        await until(lambda: len(HELD) == 2)
        await socket.kick_out("private/bob", "gone")
        HELD.pop().block()
        HELD.pop().allow()
        assert await kicked_out(client) == [("private/bob", "gone")]
        assert socket.subscriptions() == ["public"]


async def test_middleware_removed_meanwhile(make_server: Any) -> None:
    server, _ = await make(make_server)
    async with connected(server, token=token(name="bob")) as client:
        await subscribed(client)
        (socket,) = server.clients.values()
        socket.deauthenticate_self()
        server.remove_middleware("inbound")
        assert await kicked_out(client) == []


async def test_a_pending_subscription_is_asked_about(
    make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its middleware decided on the former identity."""
    subscribed = asyncio.Event()
    monkeypatch.setattr(SimpleBroker, "subscribe", lambda self, channel: subscribed.wait())
    server, middleware = await make(make_server)
    async with connected(server, token=token(name="bob")) as client:
        (socket,) = server.clients.values()
        packet = client.packet("#subscribe", {"channel": "private/bob"})
        answer = client.answer(packet)
        await client.send(packet)
        await until(lambda: socket.channel_subscriptions_count == 1)
        socket.deauthenticate_self()
        await until(lambda: socket.channel_subscriptions_count == 0)
        assert (await client.event())["event"] == "#kickOut"
        subscribed.set()
        with pytest.raises(AnswerError, match="given up"):
            await soon(answer)
        assert [channel for channel, _, _ in middleware.again] == ["private/bob"]


async def test_a_subscription_before_middleware_is_asked_about(make_server: Any) -> None:
    """Middleware that looked at the token and then waited has decided on the former identity."""
    waiting = asyncio.Event()
    server = AGServer(auth_key=KEY, drain_timeout=100)

    async def slow(stream: Any) -> None:
        async for action in stream:
            login = action.type == AGAction.AUTHENTICATE
            allowed = login or action.socket.auth_token is not None
            if action.type == AGAction.SUBSCRIBE and not action.again:
                waiting.set()
                await asyncio.sleep(0.05)
            action.allow() if allowed else action.block(AuthError("Log in"))

    server.set_middleware("inbound", slow)
    await make_server(server)
    async with connected(server, token=token(name="bob")) as client:
        (socket,) = server.clients.values()
        packet = client.packet("#subscribe", {"channel": "private/bob"})
        answer = client.answer(packet)
        await client.send(packet)
        await soon(waiting.wait())
        await socket.deauthenticate()
        await soon(answer)
        await until(lambda: socket.subscriptions() == [])


async def test_the_data_of_subscriptions_is_bounded(make_server: Any) -> None:
    """Guarantee 4: what is kept for a question is counted, and refused past the limit."""
    server, middleware = await make(make_server, max_subscription_data=20)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await client.call("#subscribe", {"channel": "public", "data": "x" * 18})
        with pytest.raises(AnswerError, match="max_subscription_data"):
            await client.call("#subscribe", {"channel": "public", "data": "x" * 19})
        await client.call("#authenticate", token(name="bob"))
        with pytest.raises(AnswerError, match="max_subscription_data"):
            await client.call("#subscribe", {"channel": "private/bob", "data": 1})
        assert socket.subscriptions() == ["public"]
        await client.call("#unsubscribe", "public")
        await client.call("#subscribe", {"channel": "private/bob", "data": "y" * 18})
        await client.call("#subscribe", {"channel": "private/bob"})
        await client.call("#subscribe", {"channel": "public", "data": "z" * 18})
        await socket.deauthenticate()
        await kicked_out(client)
        assert [data for _, data, _ in middleware.again] == [None, "z" * 18]
