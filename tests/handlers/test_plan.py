"""How a function is called."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from socketcluster.errors import UsageError
from socketcluster.handlers.dependencies import Invocation, Provider, Scope, ScopedValues
from socketcluster.handlers.plan import Plan, Source, get_data, get_socket
from socketcluster.handlers.signature import Signature


class Base:
    """A base of both."""


class Socket(Base):
    """A socket."""


class Server(Base):
    """A server."""


class OwnServer(Server):
    """A server of the application."""


class Db:
    """Something provided."""


class User:
    """Something provided that needs the other."""

    def __init__(self, db: Db) -> None:
        self.db = db


SERVER = OwnServer()
SOURCES = {
    "socket": Source(Socket, get_socket, "socket"),
    "server": Source(OwnServer, lambda invocation: SERVER, "server"),
    "data": Source(None, get_data),
}


class Surroundings:
    """The providers of a test."""

    def __init__(self, *providers: tuple[Any, Scope]) -> None:
        found = [Provider(Signature(function, {}), scope) for function, scope in providers]
        self.providers = {each.provides: each for each in found}
        self.values = ScopedValues()

    def scoped(self, provider: Provider, invocation: Invocation) -> ScopedValues | None:
        return None if provider.scope == "message" else self.values


def plan_of(function: Any, *providers: tuple[Any, Scope], in_thread: bool = False) -> Plan:
    return Plan(Signature(function, {}), SOURCES, Surroundings(*providers), in_thread)


def call(plan: Plan, socket: Any, data: Any) -> Any:
    """Call as runners do."""
    if plan.of_data is not None:
        return plan.of_data(data)
    if plan.simple is not None:
        return plan.simple(socket, data)
    return plan.call(Invocation(socket, data))


def by_name(data, socket, server):  # type: ignore[no-untyped-def]
    return data, socket, server


def by_type(it: Socket, owner: OwnServer, data: int) -> Any:
    return data, it, owner


def by_base(it: Socket, owner: Server, data: int) -> Any:
    return data, it, owner


def by_keyword(*, data: int, socket: Socket, server: Server) -> Any:
    return data, socket, server


@pytest.mark.parametrize("function", [by_name, by_type, by_base, by_keyword])
def test_parameters_are_filled(function: Any) -> None:
    socket = Socket()
    assert call(plan_of(function), socket, 3) == (3, socket, SERVER)


def test_a_default_stays_before_another_parameter() -> None:
    def handle(data: int, factor: int = 2, it: Socket = None, last: int = 9, /) -> Any:  # type: ignore[assignment]
        return data * factor, it, last

    socket = Socket()
    assert call(plan_of(handle), socket, 3) == (6, socket, 9)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda: "nothing", "nothing"),
        (lambda socket: socket, "S"),
        (lambda data: data, "D"),
        (lambda data, socket: (data, socket), ("D", "S")),
        (lambda socket, data: (data, socket), ("D", "S")),
        (lambda data, factor=2: (data, factor), ("D", 2)),
    ],
)
def test_the_short_ways_of_a_call(function: Any, expected: Any) -> None:
    plan = plan_of(function)
    assert plan.of_data is not None or plan.simple is not None
    assert call(plan, "S", "D") == expected
    assert plan.call(Invocation("S", "D")) == expected


def test_a_base_of_two_sources_is_none_of_them() -> None:
    def handle(it: Base) -> None: ...

    with pytest.raises(UsageError, match="nothing provides its parameter 'it: Base'"):
        plan_of(handle)


def test_a_provider_goes_before_a_base() -> None:
    def provide() -> Server:
        return server

    def handle(it: Server) -> Server:
        return it

    server = Server()
    plan = plan_of(handle, (provide, "message"))
    assert plan.call(Invocation(None, None)) is server


def test_an_unknown_parameter_names_the_possible_ones() -> None:
    with pytest.raises(
        UsageError, match=r"'who' is unknown\. It may be one of socket, server, data"
    ):
        plan_of(lambda who: None)


def test_an_annotation_that_cannot_be_hashed_is_unknown() -> None:
    from typing import Annotated

    def handle(it: Annotated[int, []]) -> None: ...

    with pytest.raises(UsageError, match=r"nothing provides its parameter 'it: .*Annotated"):
        Plan(Signature(handle, {"Annotated": Annotated}), SOURCES, Surroundings())


async def test_a_thread_runs_the_function_alone() -> None:
    import threading

    def provide() -> Db:
        places.append(threading.get_ident())
        return Db()

    def handle(db: Db, data: int) -> int:
        places.append(threading.get_ident())
        return data

    places: list[int] = []
    plan = plan_of(handle, (provide, "message"), in_thread=True)
    assert plan.is_async
    assert await plan.call_async(Invocation(None, 5)) == 5
    assert places[0] == threading.get_ident() != places[1]


async def test_a_stop_iteration_in_a_thread_arrives() -> None:
    def handle() -> None:
        next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        await plan_of(handle, in_thread=True).call_async(Invocation(None, None))


STEPS: list[str] = []


def db() -> Iterator[Db]:
    STEPS.append("db")
    try:
        yield Db()
    except ValueError as error:
        STEPS.append(f"db: {error}")
        raise
    finally:
        STEPS.append("db closed")


async def user(db: Db) -> AsyncIterator[User]:
    STEPS.append("user")
    try:
        yield User(db)
    finally:
        STEPS.append("user closed")


@pytest.fixture(autouse=True)
def steps() -> list[str]:
    STEPS.clear()
    return STEPS


async def test_a_provider_is_called_once_for_a_message_and_cleaned_up_in_reverse() -> None:
    def handle(me: User, db: Db) -> bool:
        STEPS.append("handle")
        return me.db is db

    plan = plan_of(handle, (user, "message"), (db, "message"))
    assert plan.is_async
    assert await plan.call_async(Invocation(None, None))
    assert STEPS == ["db", "user", "handle", "user closed", "db closed"]


async def test_the_error_of_a_handler_is_raised_at_the_yield() -> None:
    def handle(db: Db) -> None:
        raise ValueError("no")

    plan = plan_of(handle, (db, "message"))
    with pytest.raises(ValueError, match="no"):
        plan.call(Invocation(None, None))
    assert STEPS == ["db", "db: no", "db closed"]


def swallowing() -> Iterator[Db]:
    try:
        yield Db()
    except ValueError:
        STEPS.append("swallowed")


async def swallowing_async() -> AsyncIterator[Db]:
    try:
        yield Db()
    except ValueError:
        STEPS.append("swallowed")


async def failed(plan: Plan) -> BaseException:
    """The error of a call."""
    try:
        if plan.is_async:
            await plan.call_async(Invocation(None, None))
        else:
            plan.call(Invocation(None, None))
    except BaseException as error:
        return error
    raise AssertionError("It returned")


@pytest.mark.parametrize("provider", [swallowing, swallowing_async])
async def test_a_provider_that_swallows_the_error_makes_no_result(provider: Any) -> None:
    def handle(db: Db) -> None:
        raise ValueError("no")

    error = await failed(plan_of(handle, (provider, "message")))
    assert isinstance(error, ValueError)
    assert STEPS == ["swallowed"]


@pytest.mark.parametrize("provider", [swallowing, swallowing_async, db])
async def test_no_frame_keeps_an_error_alive(provider: Any) -> None:
    def handle(db: Db) -> None:
        raise ValueError

    error = await failed(plan_of(handle, (provider, "message")))
    # From Python 3.12 on the frames of contextlib keep it until the next collection.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert len(frames) > 2
    for frame in frames:
        assert all(value is not error for value in frame.f_locals.values()), frame


def failing_clean_up() -> Iterator[Db]:
    yield Db()
    raise OSError("not committed")


async def failing_clean_up_async() -> AsyncIterator[Db]:
    yield Db()
    raise OSError("not committed")


@pytest.mark.parametrize("provider", [failing_clean_up, failing_clean_up_async])
async def test_a_failed_clean_up_fails_the_call(provider: Any) -> None:
    def handle(db: Db) -> str:
        return "done"

    error = await failed(plan_of(handle, (provider, "message")))
    assert isinstance(error, OSError)


async def test_a_failed_provider_cleans_up_the_earlier_ones() -> None:
    async def user(db: Db) -> User:
        raise KeyError("nobody")

    def handle(me: User) -> None: ...

    error = await failed(plan_of(handle, (user, "message"), (db, "message")))
    assert isinstance(error, KeyError)
    assert STEPS == ["db", "db closed"]
