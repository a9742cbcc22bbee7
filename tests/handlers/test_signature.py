"""What is read of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import msgspec
import pytest

from handlers import functions
from socketcluster.errors import UsageError
from socketcluster.handlers.handler import (
    EventHandler,
    HandlerOptions,
    ProcedureHandler,
    ReceiverHandler,
)
from socketcluster.handlers.signature import EMPTY, Signature, local_names

PLAIN = [
    functions.plain,
    functions.Adder(1),
    functions.Adder(1).method,
    functools.partial(functions.add, 1),
    functools.partial(functions.Adder(1)),
    functions.passing_on(functions.plain),
    functools.partial(functions.passing_on(functions.plain)),
    functools.lru_cache(functions.plain),
]
ASYNC = [
    functions.asynchronous,
    functions.AsyncAdder(1),
    functools.partial(functions.asynchronous),
    functions.passing_on(functions.asynchronous),
    functions.awaiting(functions.plain),
    functions.passing_on(functions.awaiting(functions.plain)),
    functools.partial(functions.passing_on(functions.asynchronous)),
]


@pytest.mark.parametrize("function", [*PLAIN, *ASYNC])
def test_every_kind_of_function_is_read(function: Any) -> None:
    signature = Signature(function, {})
    (parameter,) = signature.parameters
    assert (parameter.name, parameter.annotation, parameter.required) == ("data", int, True)
    assert signature.returns is int
    assert signature.is_async == (function in ASYNC)
    assert not signature.is_generator
    assert "functions.py:" in signature.place


@pytest.mark.parametrize("function", PLAIN)
def test_a_plain_one_is_called_as_it_is(function: Any) -> None:
    assert Signature(function, {}).call is function
    assert function(2) == 3


@pytest.mark.parametrize("function", ASYNC)
async def test_an_async_one_is_awaited_whatever_wraps_it(function: Any) -> None:
    assert await Signature(function, {}).call(2) == 3


async def test_a_wrapper_that_runs_an_async_function_itself_is_not_awaited_twice() -> None:
    @functools.wraps(functions.asynchronous)
    def wrapper(data: int) -> int:
        return data + 2

    assert await Signature(wrapper, {}).call(2) == 4


def test_the_docstring_and_the_default_are_read() -> None:
    def handle(data: Annotated[int, msgspec.Meta(gt=0)] = 5, *, other: str = "a") -> None:
        """Handle it."""

    signature = Signature(handle, {})
    data, other = signature.parameters
    assert data.annotation == Annotated[int, msgspec.Meta(gt=0)]
    assert (data.default, data.keyword_only) == (5, False)
    assert (other.default, other.keyword_only) == ("a", True)
    assert signature.doc == "Handle it."
    assert signature.returns is type(None)
    assert signature.parameter("data") is data
    assert signature.parameter("nothing") is None


def test_local_names_are_those_of_the_caller() -> None:
    class Local(msgspec.Struct):
        a: int

    def handle(data: Local) -> None: ...

    signature = Signature(handle, local_names(0))
    assert signature.parameters[0].annotation is Local
    with pytest.raises(UsageError, match="'Local' cannot be resolved: import the name"):
        Signature(handle, {})


def test_a_module_has_no_local_names() -> None:
    scope: dict[str, Any] = {"local_names": local_names}
    exec("found = local_names(0)", scope)
    assert scope["found"] == {}
    assert local_names(10_000) == {}


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (None, "must be a function, not None"),
        (functions.unnamed(functions.plain), r"its parameter \*arguments: .* is not possible"),
        (functions.unresolvable, r"unresolvable \(.*functions.py:\d+\): its annotation 'Decimal'"),
        (lambda data: None, None),
    ],
)
def test_what_is_no_function_to_call_is_refused(function: Any, problem: str | None) -> None:
    if problem is None:
        assert Signature(function, {}).parameters[0].annotation is EMPTY
        return
    with pytest.raises(UsageError, match=problem):
        Signature(function, {})


def test_an_annotation_that_raises_is_refused() -> None:
    def handle(data: 1 / 0) -> None: ...  # type: ignore[valid-type]

    with pytest.raises(UsageError, match=r"test_signature.py:\d+\): its annotations cannot be"):
        Signature(handle, {})


def yielding(data: int) -> Iterator[int]:
    yield data


async def yielding_async(data: int) -> AsyncIterator[int]:
    yield data


@pytest.mark.parametrize("function", [yielding, yielding_async])
def test_generators_are_known(function: Any) -> None:
    signature = Signature(function, {})
    assert signature.is_generator
    assert signature.is_async == inspect.isasyncgenfunction(function)
    assert signature.call is function
    with pytest.raises(UsageError, match=r"test_signature.py:\d+\): .* only a provider may yield"):
        ProcedureHandler("a", signature, HandlerOptions())


async def slow(data: int) -> None: ...


def quick(data: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "problem"),
    [
        (slow, {"order": "latest"}, r"order is one of \('socket', 'free'\), not 'latest'"),
        (slow, {"order": "any"}, "not 'any'"),
        (slow, {"at_once": 2}, 'at_once goes with order="free"'),
        (slow, {"order": "free", "at_once": 0}, "a number from 1 on, not 0"),
        (slow, {"order": "free", "at_once": True}, "a number from 1 on, not True"),
        (slow, {"thread": True}, "thread=True is for a plain function"),
        (slow, {"timeout": 0}, "timeout is more than 0"),
        (slow, {"timeout": -1}, "timeout option must be milliseconds"),
        (slow, {"timeout": "5"}, "timeout option must be milliseconds"),
        (quick, {"timeout": 5}, "timeout is for an async function"),
        (quick, {"cancel_on_disconnect": True}, "cancel_on_disconnect is for an async function"),
        (quick, {"order": "free"}, "order='free' is for an async function"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(
    function: Any, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UsageError, match=r"test_signature.py:\d+\): .*" + problem):
        ProcedureHandler("a", Signature(function, {}), HandlerOptions(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"order": "free", "at_once": 3, "timeout": 1.5},
        {"thread": True, "timeout": 5, "order": "free", "cancel_on_disconnect": True},
    ],
)
def test_options_that_fit_are_taken(options: dict[str, Any]) -> None:
    function = quick if "thread" in options else slow
    handler = ProcedureHandler("a", Signature(function, {}), HandlerOptions(**options))
    assert handler.options.limit == options.get("at_once", 100)
    prefixed = handler.prefixed("b/")
    assert (prefixed.name, prefixed.options) == ("b/a", handler.options)
    assert "<ProcedureHandler 'b/a'" in repr(prefixed)


def test_latest_is_for_receivers() -> None:
    options = HandlerOptions(order="latest")
    assert ReceiverHandler("a", Signature(slow, {}), options).options.limit == 1


@pytest.mark.parametrize("kind", [ProcedureHandler, ReceiverHandler])
def test_the_names_of_the_protocol_are_refused(kind: Any) -> None:
    with pytest.raises(UsageError, match=r"quick .*'#publish' is not possible"):
        kind("#publish", Signature(quick, {}), HandlerOptions())
    handler = kind("publish", Signature(quick, {}), HandlerOptions())
    with pytest.raises(UsageError, match="protocol's own"):
        handler.prefixed("#")


@pytest.mark.parametrize("kind", [ProcedureHandler, ReceiverHandler])
def test_a_name_that_no_message_has_is_refused(kind: Any) -> None:
    with pytest.raises(UsageError, match=r"quick .*'\\ud800' is not possible"):
        kind("\ud800", Signature(quick, {}), HandlerOptions())


def test_data_that_cannot_be_checked_is_refused_with_the_place() -> None:
    class Unknown: ...

    def take(data: Unknown) -> None: ...
    def give(data: int) -> Unknown: ...  # type: ignore[empty-body]

    for function in (take, give):
        with pytest.raises(UsageError, match=r"test_signature.py:\d+\): .*Unknown"):
            ProcedureHandler("a", Signature(function, locals()), HandlerOptions())
    # Nothing receives the results of other handlers.
    for kind in (ReceiverHandler, EventHandler):
        handler = kind("a", Signature(give, locals()), HandlerOptions())
        assert handler.returns is None


def test_the_types_of_a_handler() -> None:
    def nothing() -> None: ...
    def anything(data): ...  # type: ignore[no-untyped-def]

    handler = ProcedureHandler("a", Signature(nothing, {}), HandlerOptions())
    assert (handler.data, handler.returns, handler.default) == (None, None, EMPTY)
    handler = ProcedureHandler("a", Signature(anything, {}), HandlerOptions())
    assert handler.data is not None
    assert handler.data.is_any
    assert handler.returns is not None
    assert handler.returns.is_any
