"""Handlers in tests: one called alone, and dependencies that are overridden."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from typing import Any, TypeVar, overload

from socketcluster.client.socket import AGClientSocket
from socketcluster.codecs.json import JSONCodec
from socketcluster.handlers.data_type import DataType
from socketcluster.handlers.dependencies import Invocation, Provider, ScopedValues
from socketcluster.handlers.plan import Plan, Source, get_data
from socketcluster.handlers.router import Router
from socketcluster.handlers.signature import EMPTY, Signature, local_names
from socketcluster.server.server import AGServer
from socketcluster.server.socket import AGServerSocket
from socketcluster.sockets.overrides import overriding_all
from socketcluster.testing.clients import connect

T = TypeVar("T")

_JSON = JSONCodec()


def override(
    owner: AGServer | AGClientSocket, overrides: Mapping[Any, Any]
) -> AbstractContextManager[None]:
    """Override the dependencies of a server's or a client's handlers until the end of the block.

        with testing.override(server, {User: User("ann"), Database: fake_database}):
            ...

    From the type to its value; or to a function or a class that is called for the value, as often
    as the provider would be. The function may be async, may `yield` its value and clean up behind
    that, and may ask for what providers may ask for. The types need no provider.

    It works before the server starts and while it runs, for messages that arrive from then on.
    Blocks may be nested: the inner one wins. Provided values that live longer than a message are
    made anew in the block; at its end they are cleaned up, and those from before are used again.

    Raises:
        UsageError: nothing provides a parameter of a function, or an annotation cannot be resolved.
    """
    owner.loop_binding.check()
    return owner.handling.override(overrides)


@overload
def call(
    handler: Callable[..., Coroutine[Any, Any, T]],
    data: Any = None,
    /,
    *,
    socket: Any = None,
    provided: Mapping[Any, Any] | None = None,
    providers_of: AGServer | AGClientSocket | Router | None = None,
    **arguments: Any,
) -> Coroutine[Any, Any, T]: ...
@overload
def call(
    handler: Callable[..., T],
    data: Any = None,
    /,
    *,
    socket: Any = None,
    provided: Mapping[Any, Any] | None = None,
    providers_of: AGServer | AGClientSocket | Router | None = None,
    **arguments: Any,
) -> Coroutine[Any, Any, T]: ...
def call(
    handler: Callable[..., Any],
    data: Any = None,
    /,
    *,
    socket: Any = None,
    provided: Mapping[Any, Any] | None = None,
    providers_of: AGServer | AGClientSocket | Router | None = None,
    **arguments: Any,
) -> Coroutine[Any, Any, Any]:
    """Call one handler alone, as a message would, and return its result.

        assert await testing.call(greet, "hi", provided={User: User("ann")}) == "hi, ann"

    No middleware runs, and the handler's options have no effect.

    Args:
        handler: the function that a decorator of a server, a router or a client has declared, or a
            method of the class of a channel.
        data: encoded as JSON, and checked by the annotation of the parameter `data`.
        socket: the socket, or a stand-in. By default that of the event, or a socket of a server of
            its own, which is connected in memory during the call. Handlers of a client get the
            client.
        provided: from a type to its value or a function, as `override` takes them.
        providers_of: the server, router or client that provides other types; a server is also the
            `server` that a handler asks for. It is not started.
        arguments: values of other parameters by their name, such as `event`, or `room` of a
            channel's pattern.

    Raises:
        InvalidDataError: the data is not of the handler's type.
        EncodeError: the data cannot be sent.
        UsageError: nothing provides a parameter, or the handler has no such parameter.
        Exception: of the handler.
    """
    declared = () if providers_of is None else providers_of.handlers.signatures()
    signature = next((each for each in declared if each.function == handler), None)
    if signature is None:
        signature = Signature(handler, local_names(1))
    return _call(signature, data, socket, provided or {}, providers_of, arguments)


async def _call(
    signature: Signature,
    data: Any,
    socket: Any,
    provided: Mapping[Any, Any],
    owner: AGServer | AGClientSocket | Router | None,
    arguments: Mapping[str, Any],
) -> Any:
    for name in arguments:
        if signature.parameter(name) is None:
            raise signature.error(f"it has no parameter {name!r}")
    alone = _Alone(owner, provided)
    if socket is None:
        socket = getattr(arguments.get("event"), "socket", None)
    called = AGServer() if owner is None or isinstance(owner, Router) else owner
    sources = {
        **called.handling.sources,
        "data": Source(None, get_data),
        **{name: _constant(value) for name, value in arguments.items()},
    }
    received = _received(signature, data)
    plan = Plan(signature, sources, alone)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(alone.values.close)
        if socket is None and isinstance(called, AGServer) and sources["socket"] in plan.sources:
            socket = await _connected(stack)
        invocation = Invocation(socket, received)
        return await plan.call_async(invocation) if plan.is_async else plan.call(invocation)


async def _connected(stack: AsyncExitStack) -> AGServerSocket:
    server = await stack.enter_async_context(AGServer())
    client = await stack.enter_async_context(connect(server))
    (socket,) = server.clients.values()
    assert socket.id == client.id
    return socket


def _constant(value: Any) -> Source:
    return Source(None, lambda invocation: value, "server")


def _received(signature: Signature, data: Any) -> Any:
    """Return data as a handler receives it.

    Raises:
        InvalidDataError: it is not of the type.
    """
    parameter = signature.parameter("data")
    if parameter is None:
        if data is not None:
            raise signature.error("it has no parameter 'data'")
        return None
    if data is None and not parameter.required:
        return parameter.default
    wanted = DataType.of(Any if parameter.annotation is EMPTY else parameter.annotation)
    return wanted.from_json(_JSON.encode_bytes(data))


class _Alone:
    """The surroundings of one call. Values of all scopes end with it."""

    def __init__(
        self, owner: AGServer | AGClientSocket | Router | None, provided: Mapping[Any, Any]
    ) -> None:
        providers: Mapping[Any, Provider] = {}
        if isinstance(owner, Router):
            providers = owner.handlers.providers
        elif owner is not None:
            providers = owner.handling.providers
        own = overriding_all(provided, providers)
        self.providers: Mapping[Any, Provider] = {**providers, **own}
        self.values: ScopedValues = ScopedValues()

    def scoped(self, provider: Provider, invocation: Invocation) -> ScopedValues | None:
        """See `Surroundings.scoped`."""
        return None if provider.scope == "message" else self.values
