"""Declaring handlers, in modules and on servers."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import pytest

from socketcluster import AGServer, Router
from socketcluster.errors import UsageError

PLACE = r"\(.*test_router.py:\d+\)"


class Add(msgspec.Struct):
    a: int
    b: int


def max_of_two(one: int, data: int) -> int:
    return max(one, data)


class Db:
    """Something provided."""


def test_a_decorated_function_stays_what_it_is() -> None:
    router = Router()

    def handle(data: Add) -> int:
        return data.a + data.b

    assert router.procedure()(handle) is handle
    assert router.receiver("n")(handle) is handle
    assert router.handlers.procedures["handle"].function is handle
    assert router.handlers.receivers["n"].name == "n"
    assert repr(router) == "<Router procedures=1 receivers=1 channels=0>"


def test_a_name_is_needed_where_the_function_has_none() -> None:
    with pytest.raises(UsageError, match="it has no name of its own: give one"):
        Router().procedure()(functools.partial(max_of_two, 1))


def test_a_name_is_a_text() -> None:
    with pytest.raises(UsageError, match="must be a text, not 5"):
        Router().procedure(5)(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="must be a text, not None"):
        Router().on(None)  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", ["procedure", "receiver"])
def test_a_name_has_one_handler(kind: str) -> None:
    router = Router()
    declare = getattr(router, kind)

    def one() -> None: ...
    def two() -> None: ...

    declare("a")(one)
    with pytest.raises(
        UsageError, match=f"two {PLACE}: .*'a' has a handler already: .*one {PLACE}"
    ):
        declare("a")(two)
    table = getattr(router.handlers, f"{kind}s")
    assert table["a"].function is one


def test_a_type_has_one_provider() -> None:
    router = Router()

    @router.provide
    def one() -> Db: ...  # type: ignore[empty-body]

    with pytest.raises(UsageError, match=f"two {PLACE}: .*has a provider already: .*one {PLACE}"):

        @router.provide(scope="server")
        def two() -> Db: ...  # type: ignore[empty-body]


def test_an_unknown_parameter_is_refused_at_the_decorator() -> None:
    router = Router()
    for declare in (router.procedure("a"), router.receiver("a"), router.on("error")):
        with pytest.raises(UsageError, match=f"{PLACE}: its parameter 'who' is unknown"):
            declare(lambda who: None)
    with pytest.raises(UsageError, match="'event' is unknown"):
        router.procedure("a")(lambda event: None)
    with pytest.raises(UsageError, match="'data' is unknown"):
        router.on("error")(lambda data: None)
    assert not router.handlers.procedures
    assert not router.handlers.events


async def middleware(stream: Any) -> None:
    async for action in stream:
        action.allow()


async def other_middleware(stream: Any) -> None: ...


def test_middleware_is_set_once() -> None:
    router = Router()
    assert router.middleware("inbound")(middleware) is middleware
    with pytest.raises(UsageError, match=f"other_middleware {PLACE}: .*middleware {PLACE}"):
        router.middleware("inbound")(other_middleware)
    with pytest.raises(UsageError, match="'input' is not one of"):
        router.middleware("input")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is not async"):
        router.middleware("outbound")(lambda stream: None)  # type: ignore[type-var]


def shared_router(calls: list[str]) -> Router:
    """One with everything."""
    router = Router()

    @router.procedure()
    def add(data: Add, db: Db) -> int:
        return data.a + data.b

    @router.receiver("note")
    def note(data: str) -> None: ...

    @router.on("ready")
    def ready() -> None:
        calls.append("ready")

    @router.provide
    def db() -> Db:
        return Db()

    router.middleware("inbound")(middleware)
    return router


async def test_a_router_is_included_under_several_prefixes() -> None:
    calls: list[str] = []
    router = shared_router(calls)
    server = AGServer()
    server.include(router, prefix="a/")
    server.include(router, prefix="b/")
    assert list(server.handlers.procedures) == ["a/add", "b/add"]
    assert list(server.handlers.receivers) == ["a/note", "b/note"]
    await server.start()
    assert calls == ["ready"]  # The event's handler is there once.
    await server.close()
    with pytest.raises(UsageError, match=f"add {PLACE}: .*'a/add' has a handler already"):
        server.include(router, prefix="a/")


async def test_routers_are_nested() -> None:
    calls: list[str] = []
    inner, outer = shared_router(calls), Router()
    outer.include(inner, prefix="inner/")
    server = AGServer()
    server.include(outer, prefix="outer/")
    server.include(inner)
    assert list(server.handlers.procedures) == ["outer/inner/add", "add"]
    async with server:
        await server.start()
        assert calls == ["ready"]


async def test_two_servers_share_a_router() -> None:
    calls: list[str] = []
    router = shared_router(calls)
    servers = AGServer(), AGServer()
    for server in servers:
        server.include(router)
    one, two = (server.handlers.procedures["add"] for server in servers)
    assert one is not two
    assert one.function is two.function
    for server in servers:
        await server.start()
    assert calls == ["ready", "ready"]
    for server in servers:
        await server.close()


async def test_a_running_server_includes_a_router_whose_providers_come_last() -> None:
    server = AGServer()
    await server.start()
    server.include(shared_router([]))
    assert server.has_middleware("inbound")
    await server.close()


async def test_what_a_running_server_refuses_is_not_declared() -> None:
    server = AGServer()
    await server.start()

    def needs(db: Db) -> None: ...

    for declare in (server.procedure("a"), server.receiver("a"), server.on("error")):
        with pytest.raises(UsageError, match=f"needs {PLACE}: nothing provides .*'db: Db'"):
            declare(needs)

    @server.procedure("b")
    def fine() -> None: ...

    assert list(server.handlers.procedures) == ["b"]
    assert not server.handlers.receivers
    assert not server.has_listener("error")
    await server.close()


async def test_a_provider_that_does_not_fit_a_running_server_is_not_declared() -> None:
    server = AGServer()

    @server.provide
    def db() -> Db:
        return Db()

    @server.procedure("a")
    def handle(db: Db) -> None: ...

    await server.start()

    def user(missing: Add) -> Router: ...  # type: ignore[empty-body]
    def needs(user: Router) -> None: ...

    server.provide(user)  # Nothing needs it yet.
    with pytest.raises(UsageError, match=f"user {PLACE}: nothing provides .*'missing: Add'"):
        server.procedure("c")(needs)

    @server.procedure("d")
    def fine() -> None: ...

    assert list(server.handlers.procedures) == ["a", "d"]
    await server.close()


async def test_starting_names_what_is_missing() -> None:
    server = AGServer()

    @server.procedure("a")
    def needs(db: Db) -> None: ...

    with pytest.raises(UsageError, match=f"needs {PLACE}: nothing provides .*'db: Db'"):
        await server.start()
    assert not server.is_ready

    @server.provide
    def db() -> Db:
        return Db()

    await server.start()
    assert server.is_ready
    await server.close()


async def test_removed_middleware_can_be_declared_again() -> None:
    server = AGServer()
    server.middleware("inbound")(middleware)
    server.remove_middleware("inbound")
    server.middleware("inbound")(other_middleware)
    assert server.middleware_functions == {"inbound": other_middleware}
    with pytest.raises(UsageError, match="already"):
        server.middleware("inbound")(middleware)
    server.remove_middleware("inbound")
    server.set_middleware("inbound", middleware)
    with pytest.raises(UsageError, match="already"):
        server.middleware("inbound")(other_middleware)
