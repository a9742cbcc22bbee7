"""The token of a client: how it is received, stored, presented and lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client.fakes import Peer, fake_server
from client.parts import calls_of
from socketcluster import AGAction, AGServer, MemoryTokenStore, testing
from socketcluster.client.authentication import token_data
from socketcluster.errors import (
    AuthError,
    AuthTokenInvalidError,
    BadConnectionError,
    InvalidMessageError,
    ResourceLimitError,
    TimeoutError,
)
from support import Running, names, record, soon, until, until_full


class SlowStore(MemoryTokenStore):
    """An asynchronous store that saves only once `go` is set, and records its operations."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.go = asyncio.Event()

    async def save_token(self, *arguments: Any) -> None:  # type: ignore[override]
        await self.go.wait()
        super().save_token(*arguments)
        self.done.append("save")

    async def load_token(self, name: str) -> str | None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.done.append("load")
        return super().load_token(name)

    async def remove_token(self, name: str) -> str | None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.done.append("remove")
        return super().remove_token(name)


async def with_login(make_server: Any, running: Running) -> AGServer:
    server: AGServer = await make_server()
    answer_logins(server, running)
    return server


def answer_logins(server: AGServer, running: Running) -> None:
    async def login(socket: Any) -> None:
        async for request in socket.procedure("login"):
            await socket.set_auth_token({"name": request.data})
            request.end()

    running.on_connection(server, login)


async def test_events_of_a_login_and_a_logout(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = await with_login(make_server, running)
    client = make_client(server)
    await client.listener("connect").once(4000)
    found = record(client)
    await client.invoke("login", "bob")
    await until(lambda: client.auth_state == "authenticated")
    token, data = client.signed_auth_token, client.auth_token
    assert data["name"] == "bob"
    assert (client.get_signed_auth_token(), client.get_auth_token()) == (token, data)
    assert names(found) == ["authStateChange", "authenticate"]
    change, event = (event for _, event in found)
    assert (change.old_auth_state, change.new_auth_state) == ("unauthenticated", "authenticated")
    assert (change.auth_token, change.signed_auth_token) == (data, token)
    assert (event.auth_token, event.signed_auth_token) == (data, token)

    del found[:]
    await client.deauthenticate()
    await until(lambda: len(found) == 3)
    assert sorted(names(found)) == ["authStateChange", "deauthenticate", "removeAuthToken"]
    events = dict(found)
    change = events["authStateChange"]
    assert (change.old_auth_state, change.new_auth_state) == ("authenticated", "unauthenticated")
    assert (change.auth_token, change.signed_auth_token) == (None, None)
    gone = events["deauthenticate"]
    assert (gone.old_auth_token, gone.old_signed_auth_token) == (data, token)
    assert events["removeAuthToken"].old_auth_token == token
    assert (client.auth_token, client.signed_auth_token) == (None, None)
    await until(lambda: server.clients[client.id].auth_token is None)


async def test_the_server_takes_the_token_away(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = await with_login(make_server, running)
    client = make_client(server)
    await client.invoke("login", "bob")
    await until(lambda: client.auth_state == "authenticated")
    gone = client.listener("deauthenticate").create_consumer()
    await server.clients[client.id].deauthenticate()
    await gone.next(4000)
    assert client.auth_state == "unauthenticated"
    client.reconnect()
    event = await client.listener("connect").once(4000)
    assert not event.is_authenticated
    assert event.auth_token is None


async def test_saving_and_removing_do_not_overtake_each_other(running: Running) -> None:
    server, store = AGServer(drain_timeout=0), SlowStore()
    answer_logins(server, running)
    async with testing.clock() as clock, testing.connect(server, auth_engine=store) as client:
        await client.invoke("login", "bob")
        await until(lambda: client.auth_state == "authenticated")
        await client.deauthenticate()
        client.reconnect()  # The handshake waits for both.
        connected: Any = client.listener("connect").create_consumer()
        await clock.settle()
        assert store.done == ["load"]
        store.go.set()
        event = (await connected.next(4000)).value
        assert store.done == ["load", "save", "remove", "load"]
        assert event.auth_token is None
    await server.close()


async def test_a_token_is_saved_before_a_block_ends(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = await with_login(make_server, running)
    store = SlowStore()
    async with make_client(server, auth_engine=store) as client:
        await client.invoke("login", "bob")
        await until(lambda: client.auth_state == "authenticated")
        asyncio.get_running_loop().call_later(0.05, store.go.set)
    assert store.done == ["load", "save"]


async def test_a_logout_counts_without_room_for_its_message(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = await with_login(make_server, running)
    client = make_client(server, max_outbound_buffer=200)
    await client.listener("connect").once(4000)
    await client.invoke("login", "bob")
    await until(lambda: client.auth_state == "authenticated")
    until_full(lambda: client.transmit("note"))
    with pytest.raises(ResourceLimitError):
        await client.deauthenticate()
    assert client.auth_state == "unauthenticated"
    await until(lambda: client.auth.store.load_token(client.auth_token_name) is None)


async def test_a_store_that_hangs_does_not_outlive_the_attempt(
    make_server: Any, make_client: Any
) -> None:
    class Hanging(MemoryTokenStore):
        async def load_token(self, name: str) -> str | None:  # type: ignore[override]
            began.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.set()
            return None

    began, ended = asyncio.Event(), asyncio.Event()
    client = make_client(await make_server(), auth_engine=Hanging())
    await soon(began.wait())
    client.disconnect()
    await soon(ended.wait())
    await soon(client.wait_closed())
    assert len(calls_of(client)) == 0


async def test_a_logout_during_the_handshake_counts(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = await with_login(make_server, running)
    client = make_client(server)
    await client.invoke("login", "bob")
    await until(lambda: client.auth_state == "authenticated")

    class Noting(MemoryTokenStore):
        def load_token(self, name: str) -> str | None:
            loaded.set()
            return super().load_token(name)

    loaded = asyncio.Event()
    store = Noting()
    store.save_token(client.auth_token_name, client.signed_auth_token, {})
    client.connect(auth_engine=store)
    connected = client.listener("connect").create_consumer()
    await soon(loaded.wait())
    await client.deauthenticate()
    event = (await connected.next(4000)).value
    assert not event.is_authenticated
    assert client.auth_state == "unauthenticated"
    await until(lambda: server.clients[client.id].auth_token is None)


async def test_a_token_that_is_refused(make_server: Any, make_client: Any) -> None:
    client = make_client(await make_server())
    found = record(client)
    with pytest.raises(AuthTokenInvalidError):
        await client.authenticate("not.a.token")
    assert "authStateChange" not in names(found)
    await until(lambda: client.auth.store.load_token(client.auth_token_name) is None)


async def test_no_answer_to_authenticate_leaves_the_state(
    make_server: Any, make_client: Any
) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake(isAuthenticated=True)
        await peer.call("#authenticate")
        await peer.call("#authenticate")
        peer.ws.transport.abort()

    async with fake_server(handle) as port:
        client = make_client(port, ack_timeout=50, auto_reconnect=False)
        with pytest.raises(TimeoutError):
            await client.authenticate("a.b.c")
        assert client.auth_state == "authenticated"
        with pytest.raises(BadConnectionError):
            await client.authenticate("a.b.c")
        assert client.auth_state == "authenticated"


@pytest.mark.parametrize("answer", [None, {}, [], {"isAuthenticated": "yes"}, "x"], ids=repr)
async def test_a_strange_answer_to_authenticate_is_no(make_client: Any, answer: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        packet = await peer.call("#authenticate")
        await peer.send({"rid": packet["cid"], "data": answer})

    async with fake_server(handle) as port:
        client = make_client(port)
        status = await client.authenticate("a.b.c")
        assert (status.is_authenticated, status.auth_error) == (False, None)
        assert client.auth_state == "unauthenticated"


async def test_the_server_gives_no_token(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.send({"event": "#setAuthToken", "data": {}})
        await peer.send({"event": "#setAuthToken", "data": {"token": 5}, "cid": 3})
        answered.set_result(await peer.receive())

    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    async with fake_server(handle) as port:
        client = make_client(port)
        error = (await client.listener("error").once(4000)).error
        assert isinstance(error, InvalidMessageError)
        answer = await soon(answered)
        assert answer["rid"] == 3
        assert answer["error"]["name"] == "InvalidMessageError"
        assert client.auth_state == "unauthenticated"


def test_token_data() -> None:
    assert token_data(None) is None
    assert token_data("x") is None
    assert token_data("x.eyJhIjoxfQ.y") == {"a": 1}
    assert token_data("x.e30") == {}
    for odd in ("?", "é", "bm90IGpzb24", "W1tbW1" * 20_000):
        assert token_data(f"x.{odd}.y") == odd


async def test_private_channels_after_a_loss(make_server: Any, make_client: Any) -> None:
    """A client that loses its token is kicked out of what is private, and comes back by itself
    only if the application subscribes again after the next log-in."""
    server = AGServer(auth_key="k" * 32, drain_timeout=100)

    async def inbound(stream: Any) -> None:
        async for action in stream:
            private = action.type == AGAction.SUBSCRIBE and action.channel == "private"
            if private and action.socket.auth_token is None:
                action.block(AuthError("Log in"))
            else:
                action.allow()

    server.set_middleware("inbound", inbound)
    await make_server(server)
    client = make_client(server)
    await soon(client.listener("connect").once())
    (socket,) = server.clients.values()
    authenticated = client.listener("authenticate").create_consumer()
    await socket.set_auth_token({"name": "bob"})
    await soon(authenticated.next())
    for name in ("public", "private"):
        await soon(client.subscribe(name).listener("subscribe").once())
    kicked = client.listener("kickOut").create_consumer()
    await client.deauthenticate()
    event = (await soon(kicked.next())).value
    assert (event.channel, event.message) == ("private", "Log in")
    assert client.subscriptions(include_pending=True) == ["public"]
    await socket.set_auth_token({"name": "bob"})
    await soon(client.subscribe("private").listener("subscribe").once())
