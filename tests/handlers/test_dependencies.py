"""Values that live longer than a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from socketcluster.errors import AuthError, UsageError
from socketcluster.handlers.dependencies import Invocation, Provider, ScopedValues
from socketcluster.handlers.plan import Plan, Source, get_socket
from socketcluster.handlers.signature import Signature
from support import soon, until


class Db:
    """Something provided."""


class User:
    """Something provided."""


def provider(function: Any, scope: Any = "socket") -> Provider:
    return Provider(Signature(function, {}), scope)


def provide_db() -> Db:
    return Db()


def provide_by_yield() -> Iterator[Db]:
    yield Db()


async def provide_by_async_yield() -> AsyncIterator[Db]:
    yield Db()


@pytest.mark.parametrize("function", [provide_db, provide_by_yield, provide_by_async_yield])
def test_a_provider_provides_its_return_type(function: Any) -> None:
    found = provider(function)
    assert found.provides is Db
    assert repr(found).startswith("<Provider of ")
    assert "test_dependencies.py:" in repr(found)


def no_annotation():  # type: ignore[no-untyped-def]
    return 1


def returns_none() -> None: ...


def yields_unknown() -> Iterator:  # type: ignore[type-arg]
    yield 1


async def yields_wrongly() -> Db:  # type: ignore[misc]
    yield Db()


@pytest.mark.parametrize(
    ("function", "scope", "problem"),
    [
        (no_annotation, "message", "needs its type as return annotation"),
        (returns_none, "message", "needs its type as return annotation"),
        (yields_unknown, "message", r"is annotated -> Iterator\[User\]"),
        (yields_wrongly, "message", r"is annotated -> AsyncIterator\[User\]"),
        (provide_db, "request", "scope is one of"),
    ],
)
def test_a_wrong_provider_is_refused_with_its_place(
    function: Any, scope: Any, problem: str
) -> None:
    with pytest.raises(UsageError, match=r"test_dependencies.py:\d+\): .*" + problem):
        provider(function, scope)


class Values:
    """The calls of an async provider."""

    def __init__(self) -> None:
        self.values = ScopedValues()
        self.provider = provider(provide_db)
        self.calls = 0
        self.gate = asyncio.Event()
        self.error: BaseException | None = None
        self.closed: list[str] = []

    async def make(self, stack: Any) -> int:
        self.calls += 1
        number = self.calls
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        stack.callback(self.closed.append, f"closed {number}")
        return number

    def get(self) -> asyncio.Task[Any]:
        return asyncio.create_task(self.values.get_async(self.provider, self.make))


async def test_callers_share_one_call_of_an_async_provider() -> None:
    it = Values()
    callers = [it.get() for _ in range(3)]
    await until(lambda: it.calls == 1)
    it.gate.set()
    assert await soon(asyncio.gather(*callers)) == [1, 1, 1]
    assert await it.get() == 1
    assert it.values.used
    await it.values.emptied().close()
    assert it.closed == ["closed 1"]
    assert not it.values.used


async def test_a_failed_call_is_not_remembered() -> None:
    it = Values()
    it.error = OSError("no database")
    callers = [it.get() for _ in range(2)]
    it.gate.set()
    for caller in callers:
        with pytest.raises(OSError, match="no database"):
            await soon(caller)
    it.error = None
    assert await soon(it.get()) == 2


async def test_a_call_that_failed_when_nobody_waited_is_not_remembered() -> None:
    it = Values()
    it.error = OSError("no database")
    caller = it.get()
    await until(lambda: it.calls == 1)
    caller.cancel()
    await asyncio.wait([caller])
    it.gate.set()
    await until(lambda: not it.values._calls)
    it.error = None
    assert await soon(it.get()) == 2


async def test_cancelling_a_caller_leaves_the_call_to_others() -> None:
    it = Values()
    one, other = it.get(), it.get()
    await until(lambda: it.calls == 1)
    one.cancel()
    await asyncio.wait([one])
    it.gate.set()
    assert await soon(other) == 1
    assert it.calls == 1


async def test_values_are_new_from_the_moment_they_are_emptied() -> None:
    it = Values()
    old = it.get()
    await until(lambda: it.calls == 1)
    emptied = it.values.emptied()
    new = it.get()
    await until(lambda: it.calls == 2)
    closing = asyncio.create_task(emptied.close())
    it.gate.set()
    # Who asked before gets the old value, which is cleaned up when its provider has returned.
    assert await soon(old) == 1
    assert await soon(new) == 2
    await soon(closing)
    assert it.closed == ["closed 1"]


async def test_providers_that_are_being_called_can_be_cancelled() -> None:
    it = Values()
    one, other = it.get(), it.get()
    await until(lambda: it.calls == 1)
    emptied = it.values.emptied()
    other.cancel()
    emptied.cancel()
    await soon(emptied.close())
    with pytest.raises(AuthError, match="token of the socket changed"):
        await one
    with pytest.raises(asyncio.CancelledError):
        await other


async def test_all_are_cleaned_up_in_reverse_though_one_fails() -> None:
    values = ScopedValues()
    closed: list[int] = []

    def fail() -> None:
        raise OSError("no")

    def make(stack: Any, number: int) -> int:
        stack.callback(closed.append, number)
        if number == 2:
            stack.callback(fail)
        return number

    for number in (1, 2, 3):
        found = provider(provide_db)
        assert values.get(found, lambda stack, n=number: make(stack, n)) == number  # type: ignore[misc]
        assert values.get(found, lambda stack: make(stack, 9)) == number
    with pytest.raises(OSError, match="no"):
        await values.emptied().close()
    assert closed == [3, 2, 1]


async def test_a_task_may_be_provided() -> None:
    values = ScopedValues()
    gate = asyncio.Event()
    task = asyncio.create_task(gate.wait())
    assert values.get(provider(provide_db), lambda stack: task) is task
    emptied = values.emptied()
    emptied.cancel()
    await soon(emptied.close())
    assert not task.cancelling()
    gate.set()
    await soon(task)


async def test_a_plain_provider_may_have_the_values_forgotten() -> None:
    values = ScopedValues()
    found = provider(provide_db)

    def make(stack: Any) -> int:
        values.emptied()
        return 1

    assert values.get(found, make) == 1
    assert values.get(found, lambda stack: 2) == 2


class Table:
    """The surroundings of plans."""

    def __init__(self, *providers: Provider) -> None:
        self.providers = {each.provides: each for each in providers}
        self.values = ScopedValues()

    def scoped(self, provider: Provider, invocation: Invocation) -> ScopedValues | None:
        return None if provider.scope == "message" else self.values


SOURCES = {
    "socket": Source(ExitStack, get_socket, "socket"),
    "server": Source(AsyncIterator, lambda invocation: "server", "server"),
}


def plan_of(function: Any, *providers: Provider) -> Plan:
    return Plan(Signature(function, {}), SOURCES, Table(*providers))


def handle(db: Db) -> Db:
    return db


@pytest.mark.parametrize("scope", ["socket", "server"])
def test_a_scoped_value_is_made_once(scope: Any) -> None:
    plan = plan_of(handle, provider(provide_db, scope))
    first = plan.call(Invocation("socket", None))
    assert plan.call(Invocation("socket", None)) is first
    plan = plan_of(handle, provider(provide_db, "message"))
    assert plan.call(Invocation("s", None)) is not plan.call(Invocation("s", None))


def test_providers_in_a_circle_are_refused() -> None:
    def db(user: User) -> Db: ...  # type: ignore[empty-body]
    def user(db: Db) -> User: ...  # type: ignore[empty-body]

    with pytest.raises(
        UsageError, match=r"\(.*test_dependencies.py:\d+\): .*circle: Db → User → Db"
    ):
        plan_of(handle, provider(db), provider(user))


def test_a_provider_of_itself_is_a_circle() -> None:
    def db(db: Db) -> Db: ...  # type: ignore[empty-body]

    with pytest.raises(UsageError, match="circle: Db → Db"):
        plan_of(handle, provider(db))


def test_a_missing_provider_is_named_with_the_place_of_who_asks() -> None:
    def db(user: User) -> Db: ...  # type: ignore[empty-body]

    with pytest.raises(
        UsageError, match=r"db \(.*test_dependencies.py:\d+\): nothing provides .*User"
    ):
        plan_of(handle, provider(db))


@pytest.mark.parametrize(
    ("own", "needed", "fits"),
    [
        ("message", "message", True),
        ("message", "socket", True),
        ("message", "server", True),
        ("socket", "message", False),
        ("socket", "socket", True),
        ("socket", "server", True),
        ("server", "message", False),
        ("server", "socket", False),
        ("server", "server", True),
    ],
)
def test_a_provider_needs_what_lives_as_long(own: Any, needed: Any, fits: bool) -> None:
    def db(user: User) -> Db: ...  # type: ignore[empty-body]
    def user() -> User: ...  # type: ignore[empty-body]

    providers = provider(db, own), provider(user, needed)
    if fits:
        plan_of(handle, *providers)
        return
    with pytest.raises(UsageError, match=f"scope '{own}' and needs User, .* scope '{needed}'"):
        plan_of(handle, *providers)


@pytest.mark.parametrize(
    ("scope", "fits"), [("message", True), ("socket", True), ("server", False)]
)
def test_a_value_of_the_server_may_not_hold_a_socket(scope: Any, fits: bool) -> None:
    def db(socket: Any) -> Db: ...  # type: ignore[empty-body]

    if fits:
        plan_of(handle, provider(db, scope))
        return
    with pytest.raises(UsageError, match=r"'socket' would not live as long .*'server'"):
        plan_of(handle, provider(db, scope))
