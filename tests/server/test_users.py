"""The users of a server's sockets, and the limit of sockets per user."""

from __future__ import annotations

from typing import Any

import pytest

from socketcluster import AGServer, AGServerSocket, Limits
from socketcluster.errors import UsageError
from support import Running, connected, until

KEY = "k" * 32
EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)


def token_of(server: AGServer, **claims: Any) -> str:
    signed: Any = server.auth.sign_token(claims, server.signature_key, {})
    assert isinstance(signed, str)
    return signed


@pytest.mark.parametrize(
    ("claims", "user"),
    [
        ({"sub": "ann"}, "ann"),
        ({"sub": "ann", "username": "bob"}, "ann"),
        ({"username": "bob"}, "bob"),
        ({"username": 7}, "7"),
        ({"username": ""}, None),
        ({"username": True}, None),
        ({"username": ["x"]}, None),
        ({}, None),
    ],
)
async def test_the_user_is_a_claim(make_server: Any, claims: Any, user: str | None) -> None:
    server = await make_server(auth_key=KEY)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        assert server.identify(socket) is None
        await socket.set_auth_token(claims)
        assert server.identify(socket) == user
        assert server.user_sockets(user or "") == ([socket] if user else [])
        await client.close()
        await until(lambda: not server.clients)
    assert server.user_sockets(user or "") == []
    assert not server.users._users
    assert not server.users._sockets


@EVERYWHERE
async def test_the_index_follows_tokens(make_server: Any) -> None:
    server = await make_server(auth_key=KEY)
    ann, bob = token_of(server, sub="ann"), token_of(server, sub="bob")
    async with connected(server, token=ann) as first, connected(server, token=ann):
        one, two = server.clients.values()
        assert server.user_sockets("ann") == [one, two]
        await first.call("#authenticate", bob)
        assert server.user_sockets("ann") == [two]
        assert server.user_sockets("bob") == [one]
        await first.call("#removeAuthToken")
        assert server.user_sockets("bob") == []
        await first.call("#authenticate", ann)
        assert server.user_sockets("ann") == [two, one]
        two.deauthenticate_self()
        assert server.user_sockets("ann") == [one]


@EVERYWHERE
async def test_the_newest_socket_past_the_limit_is_closed(make_server: Any) -> None:
    server = await make_server(auth_key=KEY, limits=Limits(sockets_per_user=2))
    opened: list[Any] = []
    server.on("connection")(lambda event: opened.append(event.socket))
    ann = token_of(server, sub="ann")
    async with connected(server, token=ann) as first, connected(server, token=ann):
        older = list(server.clients.values())
        async with connected(server, handshake=False) as third:
            packet = third.packet("#handshake", {"authToken": ann})
            await third.send(packet)
            assert await third.closed() == (1008, "The user has too many connections")
        assert opened == older, "it has never been open"
        assert server.user_sockets("ann") == older
        async with connected(server) as fourth:
            packet = fourth.packet("#authenticate", ann)
            await fourth.send(packet)
            assert (await fourth.closed())[0] == 1008
        assert server.rate_limits.limited["sockets_per_user"] == 2
        await first.close()
        await until(lambda: len(server.user_sockets("ann")) == 1)
        async with connected(server, token=ann):
            assert len(server.user_sockets("ann")) == 2


async def test_a_log_in_by_the_server_past_the_limit_closes_the_socket(
    make_server: Any, running: Running
) -> None:
    server = await make_server(auth_key=KEY, limits=Limits(sockets_per_user=1))
    async with connected(server), connected(server) as second:
        one, two = server.clients.values()
        events = running.collect(two.listener("authenticate"))
        await one.set_auth_token({"sub": "ann"})
        await two.set_auth_token({"sub": "ann"})
        assert (await second.closed())[0] == 1008
        assert server.user_sockets("ann") == [one]
        assert events == []
        await one.set_auth_token({"sub": "ann", "admin": True})
        assert server.user_sockets("ann") == [one]


@EVERYWHERE
async def test_the_option_finds_the_user_without_a_token(make_server: Any) -> None:
    def identify(socket: AGServerSocket) -> str | None:
        return socket.request.header("x-user")

    server = await make_server(identify=identify, limits=Limits(sockets_per_user=1))
    headers = {"X-User": "ann"}
    async with connected(server, additional_headers=headers):
        (socket,) = server.clients.values()
        await until(lambda: server.user_sockets("ann") == [socket])
        assert server.identify(socket) == "ann"
        async with connected(server, additional_headers=headers) as second:
            assert (await second.closed())[0] == 1008


@pytest.mark.parametrize("fault", ["raises", "wrong"])
async def test_a_fault_of_the_option_is_reported(make_server: Any, fault: str) -> None:
    def identify(socket: AGServerSocket) -> Any:
        return 5 if fault == "wrong" else socket.request.headers["user"]

    server = await make_server(identify=identify)
    errors: list[Any] = []
    server.on("error")(lambda event: errors.append(event.error))
    async with connected(server):
        await until(lambda: len(errors) == 1)
        assert isinstance(errors[0], UsageError if fault == "wrong" else KeyError)
        (socket,) = server.clients.values()
        assert server.identify(socket) is None


@EVERYWHERE
@pytest.mark.parametrize("fault", ["raises", "wrong"])
async def test_a_limit_closes_a_socket_whose_user_cannot_be_found_out(
    make_server: Any, fault: str
) -> None:
    def identify(socket: AGServerSocket) -> Any:
        return 5 if fault == "wrong" else socket.request.headers["user"]

    server = await make_server(identify=identify, limits=Limits(sockets_per_user=1))
    errors: list[Any] = []
    server.on("error")(lambda event: errors.append(event.error))
    async with connected(server) as client:
        assert await client.closed() == (1011, "The user of the connection cannot be found out")
    assert len(errors) == 1
    assert not server.clients
