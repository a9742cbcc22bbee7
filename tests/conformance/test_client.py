"""What the integration tests of npm socketcluster-client 20 pin down, of our client: over our
server with each engine, and over the original server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import jwt
import pytest

from client.parts import emit_of_channel
from interop.server_app import KEY, Application
from interop.servers import npm_server
from socketcluster import AGClientSocket, MemoryTokenStore
from socketcluster.auth import JWTAuthEngine
from socketcluster.errors import (
    AuthTokenInvalidError,
    BadConnectionError,
    SocketClusterError,
    SocketProtocolError,
)
from support import Running, names, record, until

WRONG = "another key, which is long enough as well"
TOKEN_NAME = "socketcluster.authToken"


def signed(name: str, key: str = KEY) -> str:
    return jwt.encode({"name": name, "exp": int(time.time()) + 3600}, key)


def kept(token: str) -> MemoryTokenStore:
    store = MemoryTokenStore()
    store.save_token(TOKEN_NAME, token, {})
    return store


@pytest.fixture(params=["picows", "asgi", "npm 20"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(kind: str, make_server: Any, running: Running) -> Iterator[Callable[..., Any]]:
    """Starts a server with options of its own, by their documented names; gives its port."""
    with ExitStack() as stack:

        async def start(**options: Any) -> int:
            if kind == "npm 20":
                return stack.enter_context(npm_server("server20", options))
            server = await make_server(
                **{"auth_key": KEY, "ping_interval": 60, "ping_timeout": 2000, **options},
                ws_engine=kind,
            )
            Application(server, running)
            return int(server.source_port)

        yield start


@pytest.fixture
async def port(kind: str, start: Callable[..., Any], request: pytest.FixtureRequest) -> int:
    """The port of a server."""
    if kind == "npm 20":
        return int(request.getfixturevalue("npm_20"))
    return int(await start())


@pytest.fixture
def make(make_client: Any, port: int) -> Callable[..., AGClientSocket]:
    """Makes clients of it."""

    def make(**options: Any) -> AGClientSocket:
        made: AGClientSocket = make_client(
            port, **{"ack_timeout": 2000, "auth_token_name": TOKEN_NAME, **options}
        )
        return made

    return make


async def opened(client: AGClientSocket) -> Any:
    """The 'connect' event of a client that was just made."""
    return await client.listener("connect").once(4000)


# Creation, errors


async def test_connects_when_it_is_made(make: Any) -> None:
    assert make().state == AGClientSocket.CONNECTING


async def test_without_auto_connect_it_stays_closed(make: Any) -> None:
    assert make(auto_connect=False).state == AGClientSocket.CLOSED


async def test_an_error_can_be_emitted_on_it(make: Any, running: Running) -> None:
    client = make()
    errors = running.collect(client.listener("error"))
    await opened(client)
    client.emit("error", "custom")
    await until(lambda: errors == ["custom"])


# Authentication


async def test_no_token_is_no_error(make: Any) -> None:
    event = await opened(make())
    assert (event.is_authenticated, event.auth_error) == (False, None)


async def test_a_token_kept_from_before_authenticates(make: Any) -> None:
    client = make(auth_engine=kept(signed("bob")))
    event = await opened(client)
    assert client.auth_state == "authenticated"
    assert (event.is_authenticated, event.auth_error) == (True, None)


async def test_a_token_that_turned_bad_is_reported_and_forgotten(make: Any) -> None:
    client = make(auth_engine=kept(signed("bob")))
    await opened(client)
    assert client.auth_token["name"] == "bob"
    await client.invoke("set auth key", WRONG)
    try:
        connected = client.listener("connect").create_consumer()
        client.disconnect()
        client.connect()
        event = (await connected.next(4000)).value
        assert event is not None
        assert not event.is_authenticated
        assert isinstance(event.auth_error, AuthTokenInvalidError)
        assert (client.signed_auth_token, client.auth_token) == (None, None)
    finally:
        await client.invoke("set auth key", KEY)


async def test_another_user_does_not_change_the_state(make: Any) -> None:
    client = make(auth_engine=kept(signed("bob")))
    await opened(client)
    assert client.auth_token["name"] == "bob"
    found = record(client)
    authenticated = client.listener("authenticate").create_consumer()
    await client.invoke("login", {"name": "alice"})
    await authenticated.next(4000)
    assert client.auth_state == "authenticated"
    assert client.auth_token["name"] == "alice"
    assert "authStateChange" not in names(found)


class AsyncEngine(JWTAuthEngine):
    """Signs and verifies asynchronously."""

    async def sign_token(self, *arguments: Any) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().sign_token(*arguments)

    async def verify_token(self, *arguments: Any) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().verify_token(*arguments)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_login_is_heard_of(
    kind: str, start: Any, make_client: Any, running: Running, is_async: bool
) -> None:
    if kind == "npm 20":
        port = await start(authSignAsync=is_async, authVerifyAsync=is_async)
    else:
        port = await start(auth_engine=AsyncEngine() if is_async else JWTAuthEngine())
    client = make_client(port)
    await opened(client)
    authenticated = running.start(client.listener("authenticate").once(4000))
    await asyncio.gather(client.invoke("login", {"name": "bob"}), authenticated)
    assert client.auth_state == "authenticated"
    assert client.auth_token["name"] == "bob"
    # And the token is good for the next connection.
    client.disconnect()
    client.connect()
    assert (await opened(client)).is_authenticated
    assert client.auth_token["name"] == "bob"


async def test_without_a_token_the_state_does_not_change(make: Any) -> None:
    client = make(auto_connect=False)
    assert client.auth_state == "unauthenticated"
    found = record(client)
    client.connect()
    await opened(client)
    await client.invoke("echo", 1)
    assert "authStateChange" not in names(found)


class FailedToSaveTokenError(Exception):
    """Of the store below."""


class ForgetfulStore(MemoryTokenStore):
    """Cannot keep tokens."""

    def load_token(self, name: str) -> str | None:
        return signed("bob")

    async def save_token(  # type: ignore[override]
        self, name: str, token: str, options: Any
    ) -> None:
        raise FailedToSaveTokenError("Failed to save token")


async def test_a_token_that_cannot_be_kept_counts_all_the_same(make: Any, running: Running) -> None:
    client = make(auth_engine=ForgetfulStore())
    errors = running.collect(client.listener("error"))
    await opened(client)
    assert client.auth_token["name"] == "bob"
    status = await client.authenticate(signed("kate"))
    assert (status.is_authenticated, status.auth_error) == (True, None)
    assert client.auth_token["name"] == "kate"
    await until(lambda: len(errors) == 1)
    assert isinstance(errors[0].error, FailedToSaveTokenError)


async def test_authenticate_that_is_cut_off_leaves_the_state(make: Any, running: Running) -> None:
    client = make()
    await opened(client)
    authenticating = asyncio.ensure_future(client.authenticate(signed("bob")))
    await asyncio.sleep(0)
    client.disconnect()
    with pytest.raises(BadConnectionError):
        await authenticating
    assert client.auth_state == "unauthenticated"


def changes(found: list[tuple[str, Any]]) -> list[str]:
    return [
        f"{event.old_auth_state}->{event.new_auth_state}"
        for name, event in found
        if name == "authStateChange"
    ]


UP, DOWN = "unauthenticated->authenticated", "authenticated->unauthenticated"


async def test_states_through_a_disconnection(make: Any, running: Running) -> None:
    client = make()
    found = record(client)
    assert client.auth_state == "unauthenticated"
    await opened(client)
    assert client.auth_state == "unauthenticated"
    authenticating = running.start(client.listener("authenticate").once(4000))
    await asyncio.gather(client.invoke("login", {"name": "bob"}), authenticating)
    event = authenticating.result()
    assert event.signed_auth_token == client.signed_auth_token
    assert event.auth_token["name"] == "bob"
    client.disconnect()
    # The last known state is kept.
    assert client.auth_state == "authenticated"
    await client.authenticate(event.signed_auth_token)
    assert client.auth_state == "authenticated"
    assert changes(found) == [UP]


async def test_states_through_deauthentication(make: Any, running: Running) -> None:
    client = make(auth_engine=kept(signed("bob")))
    found = record(client)
    await opened(client)
    assert client.auth_state == "authenticated"
    await client.deauthenticate()
    assert client.auth_state == "unauthenticated"
    authenticating = asyncio.ensure_future(client.authenticate(signed("bob")))
    await asyncio.sleep(0)
    assert client.auth_state == "unauthenticated"
    await authenticating
    assert client.auth_state == "authenticated"
    client.disconnect()
    assert client.auth_state == "authenticated"
    await client.deauthenticate()
    assert client.auth_state == "unauthenticated"
    assert changes(found) == [UP, DOWN, UP, DOWN]


async def test_states_when_a_bad_token_is_shown(make: Any, running: Running) -> None:
    client = make(auth_engine=kept(signed("bob")))
    found = record(client)
    await opened(client)
    authenticating = asyncio.ensure_future(client.authenticate(signed("bob", WRONG)))
    await asyncio.sleep(0)
    assert client.auth_state == "authenticated"
    with pytest.raises(AuthTokenInvalidError):
        await authenticating
    assert client.auth_state == "unauthenticated"
    assert changes(found) == [UP, DOWN]


async def test_states_when_another_user_authenticates(make: Any) -> None:
    bob, kate = signed("bob"), signed("kate")
    client = make(auth_engine=kept(bob))
    found = record(client)
    await opened(client)
    assert client.auth_token["name"] == "bob"
    await client.authenticate(kate)
    assert client.auth_state == "authenticated"
    assert client.auth_token["name"] == "kate"
    assert changes(found) == [UP]
    shown = [event.signed_auth_token for name, event in found if name == "authenticate"]
    assert shown == [bob, kate]


async def test_a_channel_can_wait_for_authentication(make: Any, running: Running) -> None:
    client = make()
    subscribed = running.collect(client.listener("subscribe"))
    channel = client.subscribe("private", wait_for_auth=True)
    assert channel.state == "pending"
    await opened(client)
    await client.invoke("echo", 1)
    assert channel.state == "pending"
    await client.invoke("login", {"name": "bob"})
    await until(lambda: len(subscribed) == 1)
    assert client.auth_state == "authenticated"
    assert channel.state == "subscribed"
    client.disconnect()
    assert channel.state == "pending"
    await client.authenticate(signed("bob"))
    await until(lambda: len(subscribed) == 2)
    assert channel.state == "subscribed"


async def test_subscriptions_come_before_authenticate(make: Any, running: Running) -> None:
    client = make(auth_engine=kept(signed("bob")))
    found = record(client)
    subscribed = running.start(client.listener("subscribe").once(4000))
    deauthenticated = client.listener("deauthenticate").create_consumer()
    authenticating = asyncio.ensure_future(client.authenticate(signed("bob", WRONG)))
    channel = client.subscribe("private", wait_for_auth=True)
    assert channel.state == "pending"
    event = await opened(client)
    assert event.is_authenticated
    token = client.signed_auth_token
    with pytest.raises(AuthTokenInvalidError):
        await authenticating
    assert subscribed.done()
    assert channel.state == "subscribed"
    assert (client.auth_state, client.auth_token) == ("unauthenticated", None)
    gone = (await deauthenticated.next(4000)).value
    assert gone is not None
    assert gone.old_auth_token["name"] == "bob"
    assert gone.old_signed_auth_token == token
    client.subscribe("more", wait_for_auth=True)
    await client.invoke("echo", 1)
    assert client.get_channel_state("more") == "pending"
    assert changes(found) == [UP, DOWN]


async def test_closing_during_the_handshake_aborts(make: Any) -> None:
    client = make()
    found = record(client)
    client.disconnect()
    await client.wait_closed()
    assert names(found) == ["connectAbort", "close"]


async def test_closing_after_the_handshake_disconnects(make: Any) -> None:
    client = make()
    await opened(client)
    found = record(client)
    client.disconnect()
    await client.wait_closed()
    assert names(found) == ["disconnect", "close"]


# Calls


async def test_an_answer_after_the_timeout_harms_nobody(make: Any, running: Running) -> None:
    client = make(ack_timeout=50)
    errors = running.collect(client.listener("error"))
    await opened(client)
    with pytest.raises(TimeoutError) as raised:
        await client.invoke("answer after", 100)
    assert isinstance(raised.value, SocketClusterError)
    message = client.listener("message").create_consumer()
    while b"late" not in str((await message.next(4000)).value).encode():
        pass
    client.disconnect()
    assert errors == []


# Pub/sub


@pytest.mark.parametrize("method", ["transmit_publish", "invoke_publish"])
async def test_a_subscriber_receives(make: Any, running: Running, method: str) -> None:
    publisher, client = make(), make()
    channel = client.subscribe(f"foo {method}")
    await channel.listener("subscribe").once(4000)
    received = running.collect(channel)
    for data in ("hello", "world", {"abc": 123}):
        sent = getattr(publisher, method)(channel.name, data)
        if sent is not None:
            await sent
    await until(lambda: len(received) == 3)
    assert received == ["hello", "world", {"abc": 123}]


async def test_closing_a_channel_ends_its_loop(make: Any, running: Running) -> None:
    client = make()
    channel = client.subscribe("foo")
    await channel.listener("subscribe").once(4000)
    await client.invoke_publish("foo", 0)
    consumer = channel.create_consumer()
    for number in range(3):
        await client.invoke_publish("foo", number)
    channel.close()
    assert [value async for value in consumer] == [0, 1, 2]


# Connecting again


@pytest.mark.parametrize("given", [(), (1000, "About to reconnect"), (4100, "Again")])
async def test_reconnect(make: Any, given: tuple[Any, ...]) -> None:
    client = make()
    await opened(client)
    found = record(client)
    client.reconnect(*given)
    await opened(client)
    assert [name for name in names(found) if name != "error"] == [
        "disconnect",
        "close",
        "connecting",
        "connect",
    ]
    code, reason = given or (1000, None)
    assert (found[0][1].code, found[0][1].reason) == (code, reason)


async def test_connect_of_a_connected_one_does_nothing(make: Any) -> None:
    client = make()
    await opened(client)
    found = record(client)
    before = client.id
    client.connect()
    assert await client.invoke("echo", 1) == 1
    assert (found, client.id) == ([], before)


async def test_connect_with_options_connects_again(make: Any) -> None:
    client = make()
    await opened(client)
    found = record(client)
    client.connect(ack_timeout=1999)
    await opened(client)
    assert names(found) == ["disconnect", "close", "connecting", "connect"]
    assert found[0][1].code == 1000
    assert found[0][1].reason == (
        "Socket was disconnected by the client to initiate a new connection"
    )
    assert client.options.ack_timeout == 1999


# The order of events


async def test_unsubscribe_comes_before_disconnect(make: Any) -> None:
    client = make()
    channel = client.subscribe("foo")
    await channel.listener("subscribe").once(4000)
    found = record(client)
    client.disconnect()
    assert names(found) == ["subscribeStateChange", "unsubscribe", "disconnect", "close"]


async def test_an_aborted_subscription_has_not_failed(make: Any, running: Running) -> None:
    client = make()
    await opened(client)
    found = record(client)
    calling = asyncio.ensure_future(client.invoke("answer after", 5000))
    await asyncio.sleep(0)
    client.subscribe("foo")
    client.disconnect()
    with pytest.raises(BadConnectionError):
        await calling
    await client.wait_closed()
    assert names(found) == ["subscribeRequest", "disconnect", "close"]
    assert client.get_channel_state("foo") == "pending"


async def test_calls_fail_before_disconnect_is_heard_of(make: Any, running: Running) -> None:
    client = make()
    order: list[Any] = []
    await opened(client)

    async def call() -> None:
        try:
            await client.invoke("answer after", 5000)
        except BadConnectionError as error:
            order.append((error.type, client.state))

    async def listen() -> None:
        await client.listener("disconnect").once(4000)
        order.append("disconnect")

    listening = running.start(listen())
    calling = running.start(call())
    await asyncio.sleep(0)
    client.disconnect()
    await asyncio.gather(calling, listening)
    assert order == [("disconnect", "closed"), "disconnect"]


async def test_transmit_connects(make: Any, running: Running) -> None:
    client = make()
    await opened(client)
    noted = running.collect(client.receiver("noted"))
    found = record(client)
    client.disconnect()
    client.transmit("note", 123)
    await until(lambda: noted == [123])
    assert names(found) == ["disconnect", "close", "connecting", "connect"]


async def test_connecting_and_disconnecting_in_turns(make: Any) -> None:
    client = make()
    found = record(client)
    client.disconnect(1000, "One")
    client.connect()
    client.disconnect(4444, "Two")
    client.connect()
    await opened(client)
    client.disconnect(4455, "Three")
    await client.wait_closed()
    shown = [
        (name, event.code, event.reason) if hasattr(event, "code") else (name,)
        for name, event in found
        if name != "error"
    ]
    assert shown == [
        ("connectAbort", 1000, "One"),
        ("close", 1000, "One"),
        ("connecting",),
        ("connectAbort", 4444, "Two"),
        ("close", 4444, "Two"),
        ("connecting",),
        ("connect",),
        ("disconnect", 4455, "Three"),
        ("close", 4455, "Three"),
    ]


async def test_an_event_can_be_waited_for_with_a_timeout(make: Any) -> None:
    with pytest.raises(TimeoutError):
        await make().listener("authStateChange").once(50)


# Pings


@pytest.mark.parametrize("disabled", [False, True])
async def test_a_server_that_does_not_ping(
    kind: str, start: Any, make_client: Any, disabled: bool
) -> None:
    if kind == "npm 20":
        port = await start(pingTimeoutDisabled=True, pingTimeout=100)
    else:
        port = await start(ping_timeout_disabled=True, ping_timeout=100)
    client = make_client(port, connect_timeout=2000, ping_timeout_disabled=disabled)
    assert client.ping_timeout == 2000
    found = record(client)
    await opened(client)
    assert client.ping_timeout == 100
    if disabled:
        assert await client.invoke("answer after", 250) == "late"
        assert names(found) == ["connect"]
        return
    event = await client.listener("disconnect").once(4000)
    assert (event.code, event.reason) == (4000, "Server ping timed out")
    (error,) = [event.error for name, event in found if name == "error"]
    assert isinstance(error, SocketProtocolError)
    assert error.code == 4000


# Streams


async def test_figures_of_channel_listeners(make: Any) -> None:
    client = make()
    foo, bar = client.channel("foo"), client.channel("bar")
    consumers = [
        foo.listener("subscribe").create_consumer(),
        foo.listener("subscribe").create_consumer(),
        foo.listener("subscribeFail").create_consumer(),
        foo.listener("customEvent").create_consumer(),
        bar.listener("subscribe").create_consumer(),
    ]
    stats = client.channel_get_all_listeners_consumer_stats_list("foo")
    assert [entry.stream for entry in stats] == [
        "foo/subscribe",
        "foo/subscribe",
        "foo/subscribeFail",
        "foo/customEvent",
    ]
    assert [entry.id for entry in stats] == [consumer.id for consumer in consumers[:4]]
    (entry,) = client.channel_get_all_listeners_consumer_stats_list("bar")
    assert (entry.id, entry.stream) == (consumers[4].id, "bar/subscribe")
    assert client.channel_has_any_listener_consumer("foo", consumers[0].id)
    assert client.channel_has_any_listener_consumer("foo", consumers[3].id)
    assert not client.channel_has_any_listener_consumer("foo", consumers[4].id)
    assert client.channel_has_any_listener_consumer("bar", consumers[4].id)


async def test_the_backpressure_of_channel_listeners(make: Any) -> None:
    client = make()
    foo, bar = (client.channel(name).listener("customEvent") for name in ("foo", "bar"))
    foos, bars = foo.create_consumer(), bar.create_consumer()
    for number in range(20):
        emit_of_channel(client, "foo", "customEvent", number)
    emit_of_channel(client, "bar", "customEvent", 0)
    emit_of_channel(client, "bar", "customEvent", 1)
    emit_of_channel(client, "bar", "anotherEvent", 2)
    client.channel("foo").close_listener("customEvent")
    client.channel("bar").close_all_listeners()
    pressures = [client.channel_get_all_listeners_backpressure("foo") async for _ in foos]
    assert pressures == list(range(20, 0, -1))
    pressures = [client.channel_get_all_listeners_backpressure("bar") async for _ in bars]
    assert pressures == [2, 1]
    assert client.channel_get_all_listeners_backpressure("foo") == 0
    assert client.channel_get_all_listeners_backpressure("bar") == 0


async def test_killing_and_closing_channels(make: Any) -> None:
    client = make()
    await opened(client)
    foo, bar = client.channel("foo"), client.subscribe("bar")
    await bar.listener("subscribe").once(4000)
    foo_events = foo.listener("customEvent").create_consumer()
    bar_events = bar.listener("customEvent").create_consumer()
    messages = bar.create_consumer()
    for number in range(20):
        emit_of_channel(client, "foo", "customEvent", number)
    for number in range(50):
        bar.transmit_publish(number)
    for number in range(5):
        emit_of_channel(client, "bar", "customEvent", number)
    assert client.get_channel_backpressure("bar") == 5
    client.kill_channel("foo")
    assert [event async for event in foo_events] == []
    assert client.channel_get_all_listeners_backpressure("foo") == 0
    await until(lambda: bar.get_output_backpressure() == 50)
    assert client.get_channel_backpressure("bar") == bar.get_backpressure() == 50
    assert client.get_all_channels_backpressure() == 50
    pressures = []
    for number in range(50):
        assert (await messages.next(4000)).value == number
        pressures.append(client.get_channel_backpressure("bar"))
    assert pressures == [max(49 - number, 5) for number in range(50)]
    client.close_channel("bar")
    assert client.get_channel_backpressure("bar") == 6
    assert [event async for event in bar_events] == [0, 1, 2, 3, 4]
    assert client.get_channel_backpressure("bar") == 1
    assert [message async for message in messages] == []
    assert client.get_channel_backpressure("bar") == 0
    assert client.channel_get_all_listeners_consumer_stats_list("bar") == []


async def test_base64(make: Any) -> None:
    client = make(auto_connect=False)
    assert client.encode_base64("This is a string") == "VGhpcyBpcyBhIHN0cmluZw=="
    assert client.decode_base64("VGhpcyBpcyBhIHN0cmluZw==") == "This is a string"
