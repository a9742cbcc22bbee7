"""What is refused at the call, with an error that says what to write."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

import socketcluster
from socketcluster import AGClientSocket, AGServer, AGServerSocket, AsyncStreamEmitter
from socketcluster.client.options import ClientOptions
from socketcluster.errors import InvalidArgumentsError, InvalidOptionsError, UsageError
from socketcluster.pubsub.publisher import AsyncPublisher
from socketcluster.server.options import ServerOptions
from support import connected, until


async def coroutine() -> None:
    """It does nothing."""


async def one(stream: Any) -> None:
    """It takes one argument."""


async def two(stream: Any, other: Any) -> None:
    """It takes two arguments."""


def plain(stream: Any) -> None:
    """It is not async."""


async def generator(stream: Any) -> Any:
    yield stream


class Middleware:
    async def __call__(self, stream: Any) -> None:
        """It is async."""

    async def method(self, stream: Any) -> None:
        """It is bound."""

    def plain(self, stream: Any) -> None:
        """It is not async."""


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (plain, "plain is not async"),
        (lambda stream: None, "is not async"),
        (functools.partial(plain), "plain is not async"),
        (Middleware().plain, "Middleware.plain is not async"),
        (generator, "generator has a yield"),
        (two, "missing a required argument: 'other'"),
        (coroutine, "too many positional arguments"),
        (functools.partial(one, None), "too many positional arguments"),
        (print, "print is not async"),
        (5, "not 5"),
        (None, "not None"),
    ],
)
def test_middleware_that_cannot_be_one(function: Any, text: str) -> None:
    server = AGServer()
    with pytest.raises(InvalidArgumentsError, match="Middleware must be an async function") as said:
        server.set_middleware("inbound", function)
    assert text in str(said.value)
    assert "async def name(stream)" in str(said.value)
    assert not server.has_middleware("inbound")


@pytest.mark.parametrize(
    "function",
    [
        one,
        Middleware(),
        Middleware().method,
        functools.partial(two, other=None),
        wrapped(one),
    ],
)
def test_middleware_of_every_form(function: Any) -> None:
    server = AGServer()
    server.set_middleware("inbound", function)
    assert server.has_middleware("inbound")


def test_a_coroutine_is_no_middleware() -> None:
    with pytest.raises(InvalidArgumentsError, match="without calling it"):
        AGServer().set_middleware("inbound", one(None))  # type: ignore[arg-type]


async def test_a_middleware_object_that_is_not_async_fails_at_the_first_use(
    make_server: Any, caplog: Any
) -> None:
    class Plain:
        def __call__(self, stream: Any) -> None:
            """What cannot be seen from outside."""

    server = AGServer(drain_timeout=100)
    server.set_middleware("inbound", Plain())  # type: ignore[arg-type]
    await make_server(server)
    async with connected(server) as client:
        with pytest.raises(Exception, match="SilentMiddlewareBlockedError"):
            await client.call("#subscribe", {"channel": "c"})
    assert "can't be used in 'await' expression" in caplog.text
    assert "Plain" in caplog.text


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda: None, "is not async"),
        (one, "missing a required argument: 'stream'"),
        (5, "not 5"),
    ],
)
def test_background_functions(function: Any, text: str) -> None:
    with pytest.raises(InvalidArgumentsError, match="A background function must be") as said:
        AGServer().background(function)
    assert text in str(said.value)


def test_a_coroutine_is_no_background_function() -> None:
    with pytest.raises(InvalidArgumentsError, match="without calling it"):
        AGServer().background(coroutine())  # type: ignore[arg-type]


async def test_spawn() -> None:
    server = AGServer()
    with pytest.raises(InvalidArgumentsError, match=r"call it, spawn\(coroutine\(\.\.\.\)\)"):
        server.spawn(coroutine)  # type: ignore[arg-type]
    for wrong in (None, 5):
        with pytest.raises(InvalidArgumentsError, match=f"not {wrong}"):
            server.spawn(wrong)  # type: ignore[arg-type]
    used = coroutine()
    await server.spawn(used)
    with pytest.raises(InvalidArgumentsError, match="not awaited yet"):
        server.spawn(used)
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    await server.spawn(future)


@pytest.mark.parametrize("port", ["8000", None, 8000.0, True, -1, 65536])
async def test_the_port(port: Any) -> None:
    server = AGServer()
    with pytest.raises(InvalidArgumentsError, match="The port must be an integer") as said:
        await server.listen(port)
    assert repr(port) in str(said.value)
    with pytest.raises(InvalidArgumentsError):
        await socketcluster.listen(port)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"uds": 5}, "uds must be a path, not 5"),
        ({"ssl_certfile": 5}, "ssl_certfile must be a path, not 5"),
        ({"ssl_keyfile": "k.pem"}, "ssl_keyfile needs ssl_certfile"),
    ],
)
async def test_the_files(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=text):
        await AGServer().listen(0, **options)


async def test_the_host() -> None:
    with pytest.raises(InvalidArgumentsError, match="The host must be a text, not 5"):
        await AGServer().listen(0, 5)  # type: ignore[arg-type]


def test_the_application() -> None:
    with pytest.raises(InvalidOptionsError, match="The app option must be an ASGI application"):
        AGServer(app=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionsError, match=r"attach\(\) needs an ASGI application"):
        socketcluster.attach(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionsError):
        socketcluster.attach("main:app")  # type: ignore[arg-type]


WRONG_NAMES: list[Any] = [5, None, b"c", ("c",)]


@pytest.mark.parametrize("name", WRONG_NAMES)
async def test_names_on_a_server_s_socket(make_server: Any, name: Any) -> None:
    server = await make_server()
    async with connected(server):
        (socket,) = server.clients.values()
        refusals: list[Callable[[], Any]] = [
            lambda: socket.receiver(name),
            lambda: socket.procedure(name),
            lambda: socket.listener(name),
            lambda: socket.transmit(name),
            lambda: server.listener(name),
        ]
        for refused in refusals:
            with pytest.raises(InvalidArgumentsError, match="must be a text"):
                refused()
        with pytest.raises(InvalidArgumentsError, match="must be a text"):
            await socket.invoke(name)
        with pytest.raises(InvalidArgumentsError, match="must be a text"):
            await socket.kick_out([name])
        wrong: Any = 5
        with pytest.raises(InvalidArgumentsError, match="must be a text"):
            await socket.kick_out(wrong)
        assert socket.state == "open"


@pytest.mark.parametrize("name", WRONG_NAMES)
async def test_names_on_an_exchange(name: Any) -> None:
    exchange = AGServer().exchange
    for refused in (
        lambda: exchange.subscribe(name),
        lambda: exchange.unsubscribe(name),
        lambda: exchange.channel(name),
        lambda: exchange.listener(name),
        lambda: exchange.channel("c").listener(name),
        lambda: exchange.transmit_publish(name, 1),
    ):
        with pytest.raises(InvalidArgumentsError, match="must be a text"):
            refused()
    with pytest.raises(InvalidArgumentsError, match="must be a text"):
        await exchange.invoke_publish(name, 1)


@pytest.mark.parametrize("name", WRONG_NAMES)
async def test_names_on_a_client(name: Any) -> None:
    client = AGClientSocket(auto_connect=False)
    refusals: list[Callable[[], Any]] = [
        lambda: client.subscribe(name),
        lambda: client.unsubscribe(name),
        lambda: client.channel(name),
        lambda: client.listener(name),
        lambda: client.receiver(name),
        lambda: client.procedure(name),
        lambda: client.transmit(name),
        lambda: client.transmit_publish(name, 1),
    ]
    for refused in refusals:
        with pytest.raises(InvalidArgumentsError, match="must be a text"):
            refused()
    with pytest.raises(InvalidArgumentsError, match="must be a text"):
        await client.invoke(name)
    with pytest.raises(InvalidArgumentsError, match="must be a text"):
        await client.invoke_publish(name, 1)
    assert client.state == "closed"


@pytest.mark.parametrize("name", WRONG_NAMES)
async def test_names_on_publishers(name: Any) -> None:
    publisher = AsyncPublisher("redis://127.0.0.1:1")
    with pytest.raises(InvalidArgumentsError, match="must be a text"):
        await publisher.publish(name, 1)


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_names_on_an_emitter(name: Any) -> None:
    with pytest.raises(InvalidArgumentsError, match="must be a text"):
        AsyncStreamEmitter().listener(name)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ack_timeot": 5}, "no 'ack_timeot' option; did you mean 'ack_timeout'?"),
        ({"ackTimeout": 5}, "no 'ackTimeout' option; did you mean 'ack_timeout'?"),
        ({"zebra": 5}, "no 'zebra' option. Options are: ack_timeout, "),
    ],
)
@pytest.mark.parametrize("kind", [ServerOptions, ClientOptions, AGServer, AGClientSocket])
def test_wrong_options(kind: Any, options: dict[str, Any], text: str) -> None:
    make = kind.of if hasattr(kind, "of") else kind
    with pytest.raises(InvalidOptionsError) as said:
        make(**options)
    if kind is not ServerOptions and "Options are" in text:
        text = text.removesuffix("ack_timeout, ")
    assert text in str(said.value)
    assert said.value.option == next(iter(options))


@pytest.mark.parametrize("kind", [ServerOptions, ClientOptions])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ackTimeot": 5}, "no 'ackTimeot' option; did you mean 'ackTimeout'?"),
        ({"zebra": 5}, "no 'zebra' option. It has: "),
    ],
)
def test_wrong_documented_options(kind: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidOptionsError) as said:
        kind.from_mapping(options)
    assert text in str(said.value)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: AGServer(per_message_deflate=cast("Any", {"treshold": 1})),
            "has no 'treshold'; did you mean 'threshold'?",
        ),
        (
            lambda: ClientOptions(auto_reconnect_options=cast("Any", {"maxDelays": 1})),
            "has no 'max_delays'; did you mean 'max_delay'?",
        ),
        (
            lambda: ClientOptions(ws_options=cast("Any", {"header": {}})),
            "has no 'header'; did you mean 'headers'?",
        ),
        (lambda: ClientOptions(ws_options=cast("Any", {"zebra": {}})), "has no 'zebra'; it has "),
    ],
)
def test_wrong_entries(make: Any, text: str) -> None:
    with pytest.raises(InvalidOptionsError) as said:
        make()
    assert text in str(said.value)


def test_all_of_it_is_local_misuse() -> None:
    assert issubclass(InvalidArgumentsError, UsageError)
    assert issubclass(InvalidOptionsError, UsageError)


# Near misses of events


async def test_a_near_miss_of_an_event_is_logged_once(make_server: Any, caplog: Any) -> None:
    server = await make_server()
    client = AGClientSocket(auto_connect=False)
    async with connected(server), connected(server):
        sockets: list[AGServerSocket] = list(server.clients.values())
        await until(lambda: len(sockets) == 2)
        for _ in range(2):
            for emitter, event in (
                (server, "conection"),
                (server, "connection_abort"),
                (server, "disconnect"),
                (sockets[0], "Disconnect"),
                (sockets[1], "Disconnect"),
                (client, "subscribefail"),
                (server.exchange, "broker_gap"),
            ):
                emitter.listener(event)
            for emitter, event in (
                (server, "connection"),
                (server, "orderPlaced"),
                (sockets[0], "my own event"),
                (client, "connect"),
                (server.exchange, "ready"),
            ):
                emitter.listener(event)
    found = [r.getMessage() for r in caplog.records if "did you mean" in r.getMessage()]
    near = ["connection", "connectionAbort", "disconnection", "disconnect", "subscribeFail"]
    assert [line.rsplit("did you mean ")[1] for line in found] == [
        f"{name!r}?" for name in [*near, "brokerGap"]
    ]
    assert all(r.levelno == logging.WARNING for r in caplog.records)
