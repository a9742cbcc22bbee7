"""Channel handlers that fail, or are overtaken: nothing is allowed, and the socket goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

from socketcluster import AGServer, AGServerSocket
from socketcluster.errors import AuthError, BrokerError, UsageError
from support import AnswerError, Client, connected, soon, until


class User(msgspec.Struct):
    name: str


class Strict(msgspec.Struct):
    a: int

    def __post_init__(self) -> None:
        if self.a == 2:
            raise KeyError(self.a)


class Model(pydantic.BaseModel):
    a: int


async def refusal(client: Client, event: str, data: Any) -> dict[str, Any]:
    """The error that answers a call."""
    with pytest.raises(AnswerError) as refused:
        await client.call(event, data)
    wire: dict[str, Any] = refused.value.wire
    return wire


async def goes_on(client: Client) -> None:
    """The socket carries out what follows."""
    await client.call("#subscribe", {"channel": "free"})


async def _ask() -> bool:
    return False


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (_ask, "returned a coroutine: make the function async"),
        (lambda: asyncio.ensure_future(_ask()), "returned a Task: make the function async"),
        (lambda: 0, "may return True, False or None, but not int"),
        (lambda: "", "may return True, False or None, but not str"),
        (lambda: object(), "may return True, False or None, but not object"),
    ],
)
async def test_a_subscription_is_allowed_by_true_or_none_alone(
    make_server: Any, caplog: pytest.LogCaptureFixture, make: Any, problem: str
) -> None:
    server = AGServer()

    @server.channel("c")
    def decide() -> Any:
        return make()

    await make_server(server)
    async with connected(server) as client:
        error = await refusal(client, "#subscribe", {"channel": "c"})
        assert error == {"name": "InternalServerError", "message": "Internal server error"}
        (socket,) = server.clients.values()
        assert not socket.channel_subscriptions_count
        await goes_on(client)
    assert problem in (caplog.records[-1].exc_text or "")


async def test_a_function_with_a_truth_value_does_not_allow_by_none(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = AGServer()
    members: Any = None

    @server.channel("c")
    class Members:
        def subscribe(self) -> bool:
            return members and "ann" in members

        async def publish(self) -> bool:
            return members and "ann" in members

    await make_server(server)
    async with connected(server) as client:
        for event in ("#subscribe", "#publish"):
            error = await refusal(client, event, {"channel": "c", "data": 1})
            assert error["name"] == "InternalServerError"
    assert "annotated with bool, and returned None" in (caplog.records[-1].exc_text or "")


async def test_a_function_that_yields_cannot_decide() -> None:
    server = AGServer()

    @server.channel("c")
    def decide() -> Iterator[bool]:
        yield False

    with pytest.raises(UsageError, match=r"decide .*: it decides, and therefore cannot yield"):
        await server.start()
    await server.close()


@pytest.mark.parametrize("event", ["#subscribe", "#publish"])
@pytest.mark.parametrize("waits", [False, True])
async def test_cancelled_work_inside_a_handler_refuses(
    make_server: Any, event: str, waits: bool
) -> None:
    server = AGServer()

    def plain() -> None:
        raise asyncio.CancelledError

    async def waiting() -> None:
        raise asyncio.CancelledError

    class Cancelled:
        subscribe = publish = staticmethod(waiting if waits else plain)

    server.channel("c")(Cancelled)
    await make_server(server)
    async with connected(server) as client:
        error = await refusal(client, event, {"channel": "c", "data": 1})
        assert error["name"] == "InternalServerError"
        await goes_on(client)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_result_that_cannot_be_published_is_not(
    make_server: Any, caplog: pytest.LogCaptureFixture, waits: bool
) -> None:
    server = AGServer()
    wrong = Model.model_construct(a="a secret")

    class Plain:
        def publish(self, data: Model) -> Model:
            return wrong

    class Waiting:
        async def publish(self, data: Model) -> Model:
            return wrong

    server.channel("c")(Waiting if waits else Plain)
    await make_server(server)
    async with connected(server) as client:
        error = await refusal(client, "#publish", {"channel": "c", "data": {"a": 1}})
        assert error == {"name": "InternalServerError", "message": "Internal server error"}
        await goes_on(client)
    assert "Its result cannot be published" in (caplog.records[-1].exc_text or "")


async def test_a_type_whose_own_code_fails_refuses(make_server: Any) -> None:
    server = AGServer()

    @server.channel("c", publish=Strict)
    class Typed:
        pass

    await make_server(server)
    async with connected(server) as client:
        error = await refusal(client, "#publish", {"channel": "c", "data": {"a": 2}})
        assert error["name"] == "InternalServerError"
        await client.call("#publish", {"channel": "c", "data": {"a": 1}})


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (AGServer, "cannot be checked"),
        (Annotated[str, pydantic.Field(pattern="^a$")], "would not be checked"),
    ],
)
async def test_a_parameter_of_the_pattern_has_a_type_that_is_checked(
    annotation: Any, problem: str
) -> None:
    server = AGServer()

    def decide(x: Any) -> None:
        """Everybody may come in."""

    decide.__annotations__["x"] = annotation
    server.channel("c/{x}")(decide)
    with pytest.raises(UsageError, match=f"decide .*: its parameter 'x' .*{problem}"):
        await server.start()
    await server.close()


async def test_a_wrong_handler_opens_no_channel_while_the_server_runs(make_server: Any) -> None:
    server = AGServer(channels_default="refuse")
    await make_server(server)

    def decide(me: User) -> bool:
        return False

    with pytest.raises(UsageError, match="me: User"):
        server.channel("c")(decide)
    async with connected(server) as client:
        error = await refusal(client, "#subscribe", {"channel": "c"})
        assert "no rule or handler" in error["message"]

        @server.channel("d")
        def allow() -> None:
            """Everybody may come in."""

        await client.call("#subscribe", {"channel": "d"})


def with_login(server: AGServer) -> None:
    @server.procedure("login")
    async def login(data: str, socket: AGServerSocket) -> None:
        await socket.set_auth_token({"name": data})

    @server.channel("mine/{name}")
    def mine(name: str, me: User) -> bool:
        return me.name == name


def user_of(socket: AGServerSocket) -> User:
    token = socket.auth_token
    if token is None:
        raise AuthError("Log in first")
    return User(token["name"])


async def test_a_lost_user_is_forgotten_before_the_next_message(make_server: Any) -> None:
    server = AGServer()
    with_login(server)
    server.provide(scope="socket")(user_of)
    await make_server(server)
    async with connected(server) as client:
        await client.call("login", "ann")
        assert (await refusal(client, "#subscribe", {"channel": "mine/bob"}))["message"]
        subscribing = client.packet("#subscribe", {"channel": "mine/ann"})
        answer = client.answer(subscribing)
        await client.send([client.packet("#removeAuthToken"), subscribing])
        with pytest.raises(AnswerError, match="Log in first"):
            await soon(answer)


async def test_a_user_who_leaves_while_a_provider_waits_is_told(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = AGServer()
    with_login(server)
    asked: list[None] = []
    released = asyncio.Event()

    @server.provide(scope="socket")
    async def user(socket: AGServerSocket) -> User:
        asked.append(None)
        await released.wait()
        return user_of(socket)

    await make_server(server)
    async with connected(server) as client:
        await client.call("login", "ann")
        subscribing = asyncio.ensure_future(refusal(client, "#subscribe", {"channel": "mine/ann"}))
        await until(lambda: bool(asked))
        (socket,) = server.clients.values()
        socket.deauthenticate_self()
        assert "token of the socket changed" in (await subscribing)["message"]
        await goes_on(client)
    assert not caplog.records


async def test_a_handler_that_fails_when_asked_again_refuses(make_server: Any) -> None:
    server = AGServer()

    @server.channel("{kind}")
    class Once:
        async def subscribe(self, kind: str, socket: AGServerSocket) -> None:
            if socket.auth_token is None:
                raise asyncio.CancelledError

    with_login(server)
    server.provide(user_of)
    await make_server(server)
    async with connected(server) as client:
        await client.call("login", "ann")
        for channel in ("a", "b"):
            await client.call("#subscribe", {"channel": channel})
        (socket,) = server.clients.values()
        socket.deauthenticate_self()
        await until(lambda: not socket.channel_subscriptions_count)
        assert socket.subscribed.reauthorization is None


async def test_a_broker_that_fails_a_handler_is_logged(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = AGServer()

    @server.channel("c")
    def decide() -> None:
        raise BrokerError("The secret server is away")

    await make_server(server)
    async with connected(server) as client:
        error = await refusal(client, "#subscribe", {"channel": "c"})
        assert "secret" not in error["message"]
    assert "The secret server is away" in (caplog.records[-1].exc_text or "")


@pytest.mark.parametrize("name", ["channel", "data", "socket", "server", "exchange"])
async def test_a_parameter_of_the_pattern_has_a_name_of_its_own(name: str) -> None:
    server = AGServer()

    @server.channel(f"c/{{{name}}}")
    def decide() -> None:
        """Everybody may come in."""

    with pytest.raises(UsageError, match=f"decide .*parameter '{name}'.*: rename it"):
        await server.start()
    await server.close()
