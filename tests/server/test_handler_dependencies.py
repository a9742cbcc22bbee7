"""What handlers are provided with, and what is cleaned up when."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from socketcluster import AGServer, AGServerSocket
from socketcluster.errors import SocketClusterError
from support import AnswerError, Client, connected, soon, until
from transports import send_at_once

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)


class User:
    """Who uses a socket."""

    def __init__(self, name: str | None) -> None:
        self.name = name


class Db:
    """A connection to a database."""


class Steps(list[str]):
    """What happened."""


async def failure(client: Client, name: str) -> dict[str, Any]:
    """The error that answers a call."""
    with pytest.raises(AnswerError) as failed:
        await client.call(name)
    wire: dict[str, Any] = failed.value.wire
    return wire


def with_user(server: AGServer, steps: Steps, kind: str) -> None:
    """Provide the user of a socket, and let it log in and out."""

    def plain(socket: AGServerSocket) -> Iterator[User]:
        name = (socket.auth_token or {}).get("name")
        steps.append(f"made {name}")
        yield User(name)
        steps.append(f"cleaned {name}")

    async def waiting(socket: AGServerSocket) -> AsyncIterator[User]:
        name = (socket.auth_token or {}).get("name")
        await asyncio.sleep(0)
        steps.append(f"made {name}")
        yield User(name)
        await asyncio.sleep(0)
        steps.append(f"cleaned {name}")

    server.provide(scope="socket")(plain if kind == "plain" else waiting)

    @server.procedure("who")
    def who(me: User) -> str | None:
        return me.name

    @server.procedure("login")
    async def login(data: str, socket: AGServerSocket) -> None:
        await socket.set_auth_token({"name": data})

    @server.procedure("logout")
    async def logout(socket: AGServerSocket) -> None:
        await socket.deauthenticate()


@pytest.mark.parametrize("kind", ["plain", "waiting"])
@EVERYWHERE
async def test_a_value_of_a_socket_lives_until_its_token_changes_or_it_leaves(
    make_server: Any, kind: str
) -> None:
    server, steps = AGServer(), Steps()
    with_user(server, steps, kind)
    await make_server(server)
    async with connected(server) as client, connected(server) as other:
        assert [await client.call("who") for _ in range(2)] == [None, None]
        assert await other.call("who") is None
        await client.call("login", "ann")
        assert [await client.call("who") for _ in range(2)] == ["ann", "ann"]
        await client.call("logout")
        assert await client.call("who") is None
        await until(lambda: len(steps) == 6)
        assert sorted(steps) == sorted(
            ["made None", "made None", "cleaned None", "made ann", "cleaned ann", "made None"]
        )
    await until(lambda: steps.count("cleaned None") == 3)


@pytest.mark.parametrize("kind", ["plain", "waiting"])
async def test_a_call_behind_a_logout_in_one_segment_is_nobodys(
    make_server: Any, kind: str
) -> None:
    server, steps = AGServer(), Steps()
    with_user(server, steps, kind)
    await make_server(server)
    async with connected(server) as client:
        await client.call("login", "ann")
        assert await client.call("who") == "ann"
        packets = [client.packet("#removeAuthToken"), client.packet("who")]
        answers = [client.answer(packet) for packet in packets]
        send_at_once(client.ws, [json.dumps(packet) for packet in packets])
        assert await soon(answers[1]) is None


async def test_an_expired_user_is_nobody(make_server: Any, monkeypatch: Any) -> None:
    server, steps = AGServer(), Steps()
    with_user(server, steps, "plain")
    await make_server(server)
    async with connected(server) as client:
        await client.call("login", "ann")
        assert await client.call("who") == "ann"
        now = time.time() + 10**9
        monkeypatch.setattr("time.time", lambda: now)
        assert await client.call("who") is None


@EVERYWHERE
async def test_values_are_cleaned_up_before_the_answer(make_server: Any, caplog: Any) -> None:
    server, steps = AGServer(), Steps()

    @server.provide
    async def transaction() -> AsyncIterator[Db]:
        yield Db()
        steps.append("committed")

    @server.provide
    def failing() -> Iterator[Steps]:
        yield steps
        raise SocketClusterError("Not committed")

    @server.procedure("fine")
    def fine(db: Db) -> int:
        return len(steps)

    @server.procedure("plain")
    def plain(steps: Steps) -> str:
        return "done"

    @server.procedure("waiting")
    async def waiting(steps: Steps) -> str:
        return "done"

    await make_server(server)
    async with connected(server) as client:
        assert await client.call("fine") == 0
        assert steps == ["committed"]
        for name in ("plain", "waiting"):
            assert (await failure(client, name))["message"] == "Not committed"


async def test_a_provider_may_replace_the_error_of_its_handler(make_server: Any) -> None:
    server = AGServer()

    @server.provide
    def db() -> Iterator[Db]:
        try:
            yield Db()
        except KeyError as error:
            raise SocketClusterError(f"There is no {error}") from error

    @server.procedure("find")
    def find(db: Db) -> None:
        raise KeyError(5)

    await make_server(server)
    async with connected(server) as client:
        assert (await failure(client, "find"))["message"] == "There is no 5"


@pytest.mark.parametrize("kind", ["plain", "waiting"])
@EVERYWHERE
async def test_closing_cleans_up_after_sockets_and_the_server(make_server: Any, kind: str) -> None:
    server, steps = AGServer(drain_timeout=100), Steps()
    with_user(server, steps, kind)

    @server.provide(scope="server")
    async def db() -> AsyncIterator[Db]:
        steps.append("opened")
        yield Db()
        for _ in range(20):
            await asyncio.sleep(0)
        steps.append("closed")

    @server.procedure("query")
    def query(db: Db) -> None: ...

    await make_server(server)
    for _ in range(2):
        async with connected(server) as client, connected(server) as other:
            await asyncio.gather(client.call("query"), other.call("query"))
            await client.call("who")
            await soon(server.close())
        assert steps == ["opened", "made None", "cleaned None", "closed"]
        steps.clear()
        await make_server(server)


async def test_a_value_stays_while_a_handler_uses_it_though_its_socket_has_left(
    make_server: Any,
) -> None:
    server, steps, gate = AGServer(), Steps(), asyncio.Event()
    with_user(server, steps, "waiting")

    @server.procedure("slow")
    async def slow(me: User) -> None:
        await gate.wait()
        steps.append("done")

    left = asyncio.Event()
    server.on("closure")(left.set)
    await make_server(server)
    async with connected(server) as client:
        await client.send(client.packet("slow"))
        await until(lambda: steps == ["made None"])
    await soon(left.wait())
    for _ in range(10):
        await asyncio.sleep(0)
    gate.set()
    await until(lambda: len(steps) == 3)
    assert steps == ["made None", "done", "cleaned None"]


@pytest.mark.parametrize("event", ["disconnection", "closure"])
@pytest.mark.parametrize("kind", ["plain", "waiting"])
async def test_values_that_are_made_when_a_socket_has_left_are_cleaned_up(
    make_server: Any, event: str, kind: str
) -> None:
    server, steps = AGServer(), Steps()
    with_user(server, steps, kind)

    @server.on(event)
    async def leaving(socket: AGServerSocket, me: User) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        steps.append("left")

    await make_server(server)
    async with connected(server):
        pass
    await until(lambda: len(steps) == 3)
    assert sorted(steps) == ["cleaned None", "left", "made None"]


async def test_a_provider_of_a_socket_needs_one(make_server: Any, caplog: Any) -> None:
    server = AGServer()
    with_user(server, Steps(), "plain")

    @server.on("ready")
    def ready(me: User) -> None: ...

    await make_server(server)
    assert "it has scope 'socket', and this event has no socket" in caplog.text


async def test_a_token_that_changes_while_a_provider_is_called(make_server: Any) -> None:
    server, gates = AGServer(), [asyncio.Event(), asyncio.Event()]
    names: list[Any] = []

    @server.provide(scope="socket")
    async def user(socket: AGServerSocket) -> User:
        names.append(socket.auth_token)
        await gates[len(names) - 1].wait()
        return User((socket.auth_token or {}).get("name"))

    @server.procedure("who")
    async def who(me: User) -> str | None:
        return me.name

    @server.procedure("login")
    async def login(socket: AGServerSocket) -> None:
        await socket.set_auth_token({"name": "ann"})

    await make_server(server)
    async with connected(server) as client:
        packet = client.packet("who")
        answer = client.answer(packet)
        await client.send(packet)
        await until(lambda: len(names) == 1)
        await client.call("login")
        with pytest.raises(AnswerError, match="The token of the socket changed"):
            await soon(answer)
        gates[1].set()
        assert await client.call("who") == "ann"


async def test_closing_waits_for_no_provider_that_hangs(make_server: Any) -> None:
    server, called = AGServer(drain_timeout=1), asyncio.Event()

    @server.provide(scope="socket")
    async def db() -> Db:
        called.set()
        await asyncio.Event().wait()
        raise AssertionError

    @server.procedure("query", cancel_on_disconnect=True)
    async def query(db: Db) -> None: ...

    await make_server(server)
    async with connected(server) as client:
        await client.send(client.packet("query"))
        await soon(called.wait())
        (socket,) = server.clients.values()
        socket.disconnect()
        await until(lambda: not server._context.handling.tasks.messages)
        await soon(server.close())


async def test_a_failed_clean_up_of_a_socket_is_logged(make_server: Any, caplog: Any) -> None:
    server = AGServer()

    @server.provide(scope="socket")
    def db() -> Iterator[Db]:
        yield Db()
        raise OSError("no")

    @server.procedure("query")
    def query(db: Db) -> None: ...

    await make_server(server)
    async with connected(server) as client:
        await client.call("query")
    await until(lambda: "The clean-up of a provider failed" in caplog.text)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
