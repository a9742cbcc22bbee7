"""Channel handlers: who may subscribe and publish, and what is published."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from socketcluster import AGServer, AGServerSocket, Router
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import AuthError, SocketClusterError, UsageError
from socketcluster.testing import connect
from support import AnswerError, Client, Running, connected, until


class Message(msgspec.Struct):
    text: str


class User(msgspec.Struct):
    name: str


class TooLoudError(SocketClusterError):
    """An error of the application."""


async def refusal(client: Client, event: str, data: Any) -> dict[str, Any]:
    """The error that answers a call."""
    with pytest.raises(AnswerError) as refused:
        await client.call(event, data)
    wire: dict[str, Any] = refused.value.wire
    return wire


async def subscribe(client: Client, channel: str) -> None:
    await client.call("#subscribe", {"channel": channel})


def with_users(server: AGServer) -> None:
    """Provide users, and let them log in and out."""

    @server.provide
    async def user(socket: AGServerSocket) -> User:
        token = socket.auth_token
        if token is None:
            raise AuthError("Log in first")
        return User(token["name"])

    @server.procedure("login")
    async def login(data: str, socket: AGServerSocket) -> None:
        await socket.set_auth_token({"name": data})

    @server.procedure("logout")
    async def logout(socket: AGServerSocket) -> None:
        await socket.deauthenticate()


async def test_a_class_decides_on_subscriptions_and_publishes(make_server: Any) -> None:
    server = AGServer()
    with_users(server)

    @server.channel("room/{room}", publish=Message)
    class Room:
        async def subscribe(self, room: str, me: User) -> bool:
            return room != f"not-{me.name}"

        async def publish(self, room: str, data: Message, me: User) -> Message:
            return Message(f"{me.name} in {room}: {data.text}")

    await make_server(server)
    async with connected(server) as client:
        assert await refusal(client, "#subscribe", {"channel": "room/1"}) == {
            "name": "AuthError",
            "message": "Log in first",
        }
        await client.call("login", "ann")
        assert (await client.event())["event"] == "#setAuthToken"
        await subscribe(client, "room/1")
        assert await refusal(client, "#subscribe", {"channel": "room/not-ann"}) == {
            "name": "InvalidActionError",
            "message": "It is not allowed to subscribe to the room/not-ann channel",
        }
        await client.call("#publish", {"channel": "room/1", "data": {"text": "hi"}})
        assert (await client.event())["data"] == {
            "channel": "room/1",
            "data": {"text": "ann in 1: hi"},
        }


@pytest.mark.parametrize(
    ("data", "problem", "path"),
    [
        ({"text": 1}, "Expected `str`, got `int` - at `$.text`", "$.text"),
        ({}, "Object missing required field `text`", "$"),
        (None, "Expected `object`, got `null`", "$"),
        ([1] * 1000, "Expected `object`, got `array`", "$"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
async def test_data_of_another_type_is_not_published(
    make_server: Any, running: Running, data: Any, problem: str, path: str, binary: bool
) -> None:
    codec = MinBinCodec() if binary else None
    server = AGServer(codec_engine=codec)
    calls: list[Message] = []

    @server.channel("typed", publish=Message)
    class Typed:
        def publish(self, data: Message) -> None:
            calls.append(data)

    await make_server(server)
    published = running.collect(server.exchange.subscribe("typed"))
    async with connect(server, codec_engine=codec) as client:
        with pytest.raises(SocketClusterError) as refused:
            await client.invoke_publish("typed", data)
        assert refused.value.name == "InvalidArgumentsError"
        assert refused.value.message == problem
        assert refused.value.fields["path"] == path
        await client.invoke_publish("typed", {"text": "good"})
        await until(lambda: bool(published))
    assert published == [{"text": "good"}]
    assert calls == [Message("good")]


async def test_a_type_without_a_function_passes_the_bytes_on(make_server: Any) -> None:
    server = AGServer()

    @server.channel("typed", publish=Message)
    class Typed:
        pass

    await make_server(server)
    async with connected(server) as client:
        await subscribe(client, "typed")
        await client.send('{"event":"#publish","data":{"channel":"typed","data":{"text": "a"}}}')
        await client.event()
        assert '{"text": "a"}' in str(client.messages[-1])


async def test_a_function_decides_on_subscriptions_and_publishes(make_server: Any) -> None:
    server = AGServer()

    @server.channel("numbers/{number}", publish=bool)
    def numbers(number: int) -> bool:
        return number > 3

    await make_server(server)
    async with connected(server) as client:
        await subscribe(client, "numbers/4")
        error = await refusal(client, "#subscribe", {"channel": "numbers/3"})
        assert error["message"] == "It is not allowed to subscribe to the numbers/3 channel"
        error = await refusal(client, "#subscribe", {"channel": "numbers/x"})
        assert error["name"] == "InvalidArgumentsError"
        assert error["message"] == "The channel's number is invalid: Expected `int`, got `str`"
        for sent in (True, False):
            await client.call("#publish", {"channel": "numbers/4", "data": sent})
            assert (await client.event())["data"]["data"] is sent
        error = await refusal(client, "#publish", {"channel": "numbers/3", "data": True})
        assert error["message"] == "It is not allowed to publish to the numbers/3 channel"
        error = await refusal(client, "#publish", {"channel": "numbers/4", "data": 1})
        assert error["message"] == "Expected `bool`, got `int`"


@pytest.mark.parametrize(
    ("result", "published"),
    [(None, 1), (True, 1), ("other", "other"), (0, 0), ([], [])],
)
async def test_the_result_of_publish_is_published(
    make_server: Any, result: Any, published: Any
) -> None:
    server = AGServer()

    @server.channel("c")
    class Changing:
        def publish(self, data: Any) -> Any:
            return result

    await make_server(server)
    async with connected(server) as client:
        await subscribe(client, "c")
        await client.call("#publish", {"channel": "c", "data": 1})
        assert (await client.event())["data"]["data"] == published


async def test_false_refuses_a_publish_except_on_a_channel_of_truth_values(
    make_server: Any,
) -> None:
    server = AGServer()

    @server.channel("closed")
    class Closed:
        def publish(self) -> bool:
            return False

    @server.channel("lamp", publish=bool)
    class Lamp:
        def publish(self, data: bool) -> bool:
            return not data

    await make_server(server)
    async with connected(server) as client:
        error = await refusal(client, "#publish", {"channel": "closed", "data": 1})
        assert error["message"] == "It is not allowed to publish to the closed channel"
        await subscribe(client, "lamp")
        for sent in (True, False):
            await client.call("#publish", {"channel": "lamp", "data": sent})
            assert (await client.event())["data"]["data"] is not sent


async def test_publish_false_refuses_the_publishes_of_clients_only(make_server: Any) -> None:
    server = AGServer()

    @server.channel("news", publish=False)
    def news() -> None:
        """Everybody may listen."""

    await make_server(server)
    async with connected(server) as client:
        await subscribe(client, "news")
        error = await refusal(client, "#publish", {"channel": "news", "data": 1})
        assert error["message"] == "It is not allowed to publish to the news channel"
        server.exchange.transmit_publish("news", 2)
        assert (await client.event())["data"]["data"] == 2


async def test_the_type_of_the_servers_own_messages_can_be_given() -> None:
    router = Router()

    @router.channel("news", publish=False, message=list[str])
    def news() -> bool:
        return True

    message = router.handlers.channels["news"].message
    assert message is not None
    assert message.annotation == list[str]


async def test_a_failing_handler_refuses_and_is_logged(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = AGServer()

    @server.channel("c")
    class Failing:
        def subscribe(self) -> None:
            raise ZeroDivisionError

        async def publish(self) -> None:
            raise TooLoudError("Not so loud")

    await make_server(server)
    async with connected(server) as client:
        error = await refusal(client, "#subscribe", {"channel": "c"})
        assert error["name"] == "InternalServerError"
        error = await refusal(client, "#publish", {"channel": "c", "data": 1})
        assert error == {"name": "TooLoudError", "message": "Not so loud"}
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "'c'" in record.getMessage()
    assert "test_channel_handlers.py" in record.getMessage()
    assert "ZeroDivisionError" in (record.exc_text or "")


async def test_middleware_decides_before_the_handler(make_server: Any) -> None:
    server = AGServer()
    seen: list[Any] = []

    @server.channel("c", publish=Message)
    class Seeing:
        def subscribe(self) -> None:
            seen.append("subscribe")

        def publish(self, data: Message) -> None:
            seen.append(data)

    @server.middleware(server.MIDDLEWARE_INBOUND)
    async def decide(stream: Any) -> None:
        async for action in stream:
            if action.type == action.PUBLISH_IN and action.data == {"text": "change me"}:
                action.allow({"text": "changed"})
            elif action.data == {"text": "block me"}:
                action.block(TooLoudError("Blocked"))
            else:
                action.allow()

    await make_server(server)
    async with connected(server) as client:
        await subscribe(client, "c")
        error = await refusal(client, "#publish", {"channel": "c", "data": {"text": "block me"}})
        assert error["name"] == "TooLoudError"
        await client.call("#publish", {"channel": "c", "data": {"text": "change me"}})
        assert (await client.event())["data"]["data"] == {"text": "changed"}
    assert seen == ["subscribe", Message("changed")]


async def test_a_waiting_decision_holds_later_messages_back(make_server: Any) -> None:
    server = AGServer()
    order: list[Any] = []
    released = asyncio.Event()

    @server.channel("slow")
    class Slow:
        async def publish(self, data: Any) -> None:
            await released.wait()
            order.append(data)

    @server.procedure("later")
    def later() -> None:
        order.append("later")

    await make_server(server)
    async with connected(server) as client:
        await client.transmit("#publish", {"channel": "slow", "data": 1})
        await client.transmit("#publish", {"channel": "slow", "data": 2})
        calling = asyncio.ensure_future(client.call("later"))
        (socket,) = server.clients.values()
        await until(lambda: socket.inbound.waiting)
        assert order == []
        released.set()
        await calling
    assert order == [1, 2, "later"]


async def test_a_socket_that_loses_its_identity_is_asked_about_again(make_server: Any) -> None:
    server = AGServer()
    with_users(server)

    @server.channel("mine/{name}")
    async def mine(name: str, me: User) -> bool:
        return me.name == name

    @server.channel("plain/{name}")
    def plain(name: str, socket: AGServerSocket) -> bool:
        return (socket.auth_token or {}).get("name") == name

    await make_server(server)
    async with connected(server) as client:
        await client.call("login", "ann")
        await client.event()
        for channel in ("mine/ann", "plain/ann", "free"):
            await subscribe(client, channel)
        (socket,) = server.clients.values()
        await client.call("login", "bob")
        kicked = []
        for _ in range(3):
            event = await client.event()
            if event["event"] == "#kickOut":
                kicked.append(event["data"]["channel"])
        assert sorted(kicked) == ["mine/ann", "plain/ann"]
        assert socket.subscriptions() == ["free"]


async def test_a_handler_that_waits_is_asked_again_if_the_identity_is_lost_meanwhile(
    make_server: Any,
) -> None:
    server = AGServer()
    with_users(server)
    asked: list[str | None] = []
    released = asyncio.Event()

    @server.channel("c")
    async def decide(socket: AGServerSocket) -> bool:
        name = (socket.auth_token or {}).get("name")
        asked.append(name)
        await released.wait()
        return name == "ann"

    await make_server(server)
    async with connected(server) as client:
        await client.call("login", "ann")
        await client.event()
        (socket,) = server.clients.values()
        subscribing = asyncio.ensure_future(subscribe(client, "c"))
        await until(lambda: asked == ["ann"])
        socket.deauthenticate_self()
        released.set()
        await subscribing
        await until(lambda: not socket.subscriptions())
    assert asked == ["ann", None]


async def test_the_most_specific_pattern_decides(make_server: Any) -> None:
    server = AGServer()
    router = Router()

    @server.channel("{anything:path}")
    def refuse() -> bool:
        return False

    @router.channel("{name}")
    def allow(name: str, channel: str) -> bool:
        return channel == f"a/{name}"

    server.include(router, prefix="a/")
    await make_server(server)
    async with connected(server) as client:
        await subscribe(client, "a/b")
        for channel in ("a", "a/b/c", "b"):
            await refusal(client, "#subscribe", {"channel": channel})


async def test_refusing_by_default_leaves_channels_with_handlers(make_server: Any) -> None:
    server = AGServer(channels_default="refuse")

    @server.channel("room/{room}")
    def room() -> None:
        """Everybody may come in."""

    await make_server(server)
    async with connected(server) as client:
        await subscribe(client, "room/1")
        error = await refusal(client, "#subscribe", {"channel": "rooms"})
        assert "no rule or handler" in error["message"]


async def test_a_wrong_declaration_raises_and_names_its_place() -> None:
    server = AGServer()

    def told(pattern: str, function: Any, **options: Any) -> str:
        with pytest.raises(UsageError) as raised:
            server.channel(pattern, **options)(function)
        return str(raised.value)

    def takes_room(room: str) -> None: ...

    def takes_nothing() -> None: ...

    def takes_data(data: str) -> None: ...

    class Nothing: ...

    class Publishes:
        def publish(self) -> None: ...

    assert "'room' is not in the pattern: 'room/*' has no {room}" in told("room/*", takes_room)
    assert "make it a class with the methods subscribe and publish" in told("a", takes_data)
    assert "needs a method subscribe or publish" in told("a", Nothing)
    assert "leaves its method publish nothing to do" in told("a", Publishes, publish=False)

    class Answers:
        def publish(self, data: str) -> Message | User:
            raise NotImplementedError

    for text in (told("a", Answers), told("a", Nothing, publish=Message | User)):
        assert "test_channel_handlers.py" in text
        assert "must be tagged" in text
    server.channel("room/{room}")(takes_room)
    text = told("room/{room}", takes_nothing)
    assert "has a handler already" in text
    assert "takes_room" in text
    assert text.count("test_channel_handlers.py") == 2
    text = told("room/{other}", takes_nothing)
    assert "neither is more specific" in text
    assert text.count("test_channel_handlers.py") == 2
    with pytest.raises(UsageError, match="room/"):
        server.channel("room/{")


async def test_a_missing_provider_is_an_error_at_the_start() -> None:
    server = AGServer()

    @server.channel("c")
    def decide(me: User) -> bool:
        return bool(me)

    with pytest.raises(UsageError, match=r"decide .*test_channel_handlers.py:\d+.*me: User"):
        await server.start()
    await server.close()
