"""`testing.override`: dependencies replaced for a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from socketcluster import AGClientSocket, AGServer, AGServerSocket, testing
from socketcluster.errors import SocketClusterError, UsageError
from support import until


@dataclass
class User:
    name: str


@dataclass
class Session:
    """A value that is made of another."""

    user: User


class Shared(Session):
    """The same for the whole server."""


async def made_later() -> User:
    await asyncio.sleep(0)
    return User("async")


def with_handlers(server: AGServer, kept: bool = False) -> list[str]:
    """Provide values, and procedures that show them; return what is made and cleaned up."""
    log: list[str] = []

    @server.provide(scope="server" if kept else "message")
    def user() -> User:
        log.append("user")
        return User("real")

    @server.provide(scope="socket" if kept else "message")
    async def session(user: User, socket: AGServerSocket) -> AsyncIterator[Session]:
        log.append(f"session of {user.name}")
        yield Session(user)
        log.append(f"end of the session of {user.name}")

    @server.provide(scope="server" if kept else "message")
    def shared(user: User) -> Iterator[Shared]:
        log.append(f"shared by {user.name}")
        yield Shared(user)
        log.append(f"end of shared by {user.name}")

    @server.procedure("who")
    def who(user: User) -> str:
        return user.name

    @server.procedure("session")
    async def of_session(session: Session, shared: Shared) -> str:
        return f"{session.user.name} {shared.user.name}"

    @server.channel("{name}")
    def channel(name: str, user: User) -> bool:
        return name == user.name

    return log


async def test_values_and_functions_of_all_kinds() -> None:
    ends: list[str] = []

    def generator() -> Iterator[User]:
        yield User("generator")
        ends.append("generator")

    async def async_generator(socket: AGServerSocket) -> AsyncIterator[User]:
        yield User(f"async generator {socket.state}")
        ends.append("async generator")

    class Fake(User):
        def __init__(self) -> None:
            super().__init__("class")

    overrides: dict[str, Any] = {
        "value": User("value"),
        "lambda": lambda: User("lambda"),
        "async": made_later,
        "generator": generator,
        "async generator open": async_generator,
        "class": Fake,
    }
    async with AGServer() as server:
        with_handlers(server)
        async with testing.connect(server) as client:
            for name, override in overrides.items():
                with testing.override(server, {User: override}):
                    assert await client.invoke("who") == name
                    assert await client.invoke("session") == f"{name} {name}"
                assert await client.invoke("who") == "real"
                assert await client.invoke("session") == "real real"
    assert set(ends) == {"generator", "async generator"}


async def test_before_the_server_starts_and_over_its_end() -> None:
    server = AGServer()
    with testing.override(server, {User: lambda: User("fake")}):
        with_handlers(server)
        assert not server.is_ready
        async with server, testing.connect(server) as client:
            assert await client.invoke("who") == "fake"
    async with testing.connect(server) as client:
        assert await client.invoke("who") == "real"
    await server.close()


async def test_a_type_that_nothing_provides() -> None:
    async with AGServer() as server:
        with testing.override(server, {User: User("fake")}):

            @server.procedure("who")
            async def who(user: User) -> str:
                return user.name

            async with testing.connect(server) as client:
                assert await client.invoke("who") == "fake"

            @server.provide
            def real() -> User:
                return User("real")

        async with testing.connect(server) as client:
            assert await client.invoke("who") == "real"


async def test_blocks_are_nested() -> None:
    async with AGServer() as server:
        with_handlers(server)
        async with testing.connect(server) as client:
            with testing.override(server, {User: User("outer"), Shared: Shared(User("s"))}):
                with testing.override(server, {User: made_later}):
                    assert await client.invoke("session") == "async s"
                assert await client.invoke("session") == "outer s"
            assert await client.invoke("session") == "real real"


async def test_values_that_live_long_do_not_leak() -> None:
    async with AGServer() as server:
        log = with_handlers(server, kept=True)
        async with testing.connect(server) as client:
            assert await client.invoke("session") == "real real"
            assert log == ["user", "session of real", "shared by real"]
            log.clear()
            for _ in range(2):
                with testing.override(server, {User: lambda: User("fake")}):
                    assert await client.invoke("session") == "fake fake"
                    assert await client.invoke("session") == "fake fake"
                await until(lambda: "end of shared by fake" in log)
                assert log == [
                    *("session of fake", "shared by fake"),
                    *("end of the session of fake", "end of shared by fake"),
                ]
                log.clear()
            assert await client.invoke("session") == "real real"
            assert log == []
        await until(lambda: log == ["end of the session of real"])
    assert log == ["end of the session of real", "end of shared by real"]


async def test_values_end_with_their_socket_its_token_or_the_server_in_the_block() -> None:
    async with AGServer() as server:
        log = with_handlers(server, kept=True)
        with testing.override(server, {User: User("fake")}):
            async with testing.connect(server) as client:
                await client.invoke("session")
                (socket,) = server.clients.values()
                await socket.set_auth_token({"name": "ann"})
                await until(lambda: "end of the session of fake" in log)
                log.clear()
                await client.invoke("session")
                assert log == ["session of fake"]
            await until(lambda: log == ["session of fake", "end of the session of fake"])
            log.clear()
            await server.close()
            assert log == ["end of shared by fake"]


async def test_a_value_that_is_called_is_not_called() -> None:
    class Callable_(User):
        def __call__(self) -> User:
            raise AssertionError

    async with AGServer() as server:
        with_handlers(server)
        with testing.override(server, {User: Callable_("callable")}):
            async with testing.connect(server) as client:
                assert await client.invoke("who") == "callable"


async def test_channels_are_decided_with_the_override() -> None:
    async with AGServer() as server:
        with_handlers(server)
        async with testing.connect(server) as client:
            with testing.override(server, {User: User("fake")}):
                fake = client.subscribe("fake")
                await fake.listener("subscribe").once(10_000)
                real = client.subscribe("real")
                assert await real.listener("subscribeFail").once(10_000)


async def test_a_wrong_override_changes_nothing() -> None:
    def wrong(nothing: int) -> User:
        raise AssertionError

    async with AGServer() as server:
        with_handlers(server)
        async with testing.connect(server) as client:
            with (
                pytest.raises(UsageError, match=r"test_override.py:\d+\): nothing provides"),
                testing.override(server, {User: wrong}),
            ):
                raise AssertionError
            assert await client.invoke("who") == "real"


async def test_an_override_that_fails() -> None:
    def failing() -> User:
        raise SocketClusterError("No database")

    async with AGServer() as server:
        with_handlers(server)
        async with testing.connect(server) as client:
            with testing.override(server, {User: failing}):
                with pytest.raises(SocketClusterError, match="No database"):
                    await client.invoke("who")
                with pytest.raises(SocketClusterError, match="No database"):
                    await client.invoke("session")


async def test_another_thread_is_refused() -> None:
    async with AGServer() as server:
        await server.start()
        with pytest.raises(UsageError, match="from_thread"):
            await asyncio.to_thread(testing.override, server, {User: 1})


def test_a_block_may_end_between_two_runs_of_the_loop() -> None:
    with asyncio.Runner() as runner:
        server = AGServer()
        log = with_handlers(server, kept=True)
        client = testing.create(server, auto_connect=False)

        async def ask() -> Any:
            client.connect()
            return await client.invoke("session")

        async def close() -> None:
            client.disconnect()
            await client.wait_closed()
            await server.close()

        with testing.override(server, {User: User("fake")}):
            assert runner.run(ask()) == "fake fake"
        assert "end of shared by fake" not in log
        assert runner.run(ask()) == "real real"
        runner.run(close())
        assert "end of shared by fake" in log
        assert "end of shared by real" in log


async def test_a_client() -> None:
    async with AGServer() as server:
        client = testing.create(server, auto_connect=False)

        @client.provide(scope="server")
        def user() -> User:
            return User("real")

        @client.procedure("who")
        def who(user: User) -> str:
            return user.name

        with testing.override(client, {User: made_later}):
            async with client:
                (socket,) = server.clients.values()
                assert await socket.invoke("who") == "async"
        async with client:
            (socket,) = server.clients.values()
            assert await socket.invoke("who") == "real"
            with testing.override(client, {User: User("fake")}):
                assert await socket.invoke("who") == "fake"
            assert await socket.invoke("who") == "real"


def test_an_error_ends_the_block() -> None:
    client = AGClientSocket(auto_connect=False)
    with pytest.raises(ZeroDivisionError), testing.override(client, {User: User("fake")}):
        raise ZeroDivisionError if client.handling.providers else AssertionError
    assert client.handling.providers == {}
