"""Handlers of a client: calls and events of the server, events of the client, provided values."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from client.parts import gauge_of
from socketcluster import (
    AGClientSocket,
    AGServer,
    AGServerSocket,
    AuthStateChangeEvent,
    ConnectEvent,
    Router,
    create,
    testing,
)
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import (
    BadConnectionError,
    InvalidArgumentsError,
    SocketClusterError,
    TimeoutError,
    UnknownProcedureError,
    UsageError,
)
from support import names, record, soon, until

KEY = "a key of at least thirty-two bytes"
AGAIN: Any = {"initial_delay": 1, "randomness": 1, "multiplier": 1}
CODECS = pytest.mark.parametrize("codec", [None, MinBinCodec()], ids=["json", "min-bin"])


class Add(msgspec.Struct):
    a: int
    b: int


class User(msgspec.Struct):
    name: str


class Session:
    """A value that lives as long as a connection."""


class OutOfPaperError(SocketClusterError):
    """An error of the application."""


@asynccontextmanager
async def pair(
    codec: Any = None, **options: Any
) -> AsyncIterator[tuple[AGClientSocket, AGServerSocket]]:
    """A connected client and the server's socket for it."""
    async with AGServer(codec_engine=codec, auth_key=KEY) as server:
        options = {"auto_reconnect_options": AGAIN, **options}
        async with testing.connect(server, **options) as client:
            yield client, there(client, server)


def there(client: AGClientSocket, server: Any) -> AGServerSocket:
    assert client.id is not None
    socket: AGServerSocket = server.clients[client.id]
    return socket


async def reconnected(client: AGClientSocket, socket: AGServerSocket) -> AGServerSocket:
    """Lose the connection; return the server's socket of the next one."""
    socket.terminate()
    await soon(client.listener("connect").once())
    return there(client, socket.server)


class Gate:
    """An async handler that a test holds, and what it has handled."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[Any] = []
        self.open = asyncio.Event()

    async def __call__(self, data: Any) -> Any:
        self.begun.append(data)
        await self.open.wait()
        self.ended.append(data)
        return data


# Calls and events


@CODECS
async def test_calls_and_events_are_handled(codec: Any) -> None:
    async with pair(codec) as (client, socket):
        heard: list[Any] = []

        @client.procedure("add")
        def add(data: Add) -> int:
            return data.a + data.b

        @client.procedure()
        async def later(data: Add) -> Add:
            await asyncio.sleep(0)
            return Add(data.b, data.a)

        @client.receiver("point")
        def point(data: Add, socket: AGClientSocket) -> None:
            heard.append((data, socket))

        @client.receiver(order="latest")
        async def news(data: Any = "nothing") -> None:
            heard.append(data)

        assert await socket.invoke("add", {"a": 1, "b": 2}) == 3
        assert await socket.invoke("later", Add(1, 2), returns=Add) == Add(2, 1)
        assert add(Add(1, 2)) == 3
        socket.transmit("point", Add(1, 2))
        socket.transmit("news")
        await until(lambda: len(heard) == 2)
        assert heard == [(Add(1, 2), client), "nothing"]


@CODECS
async def test_long_data_goes_into_the_type(codec: Any) -> None:
    async with pair(codec, max_inbound_backlog_bytes=1000) as (client, socket):
        heard = []

        @client.procedure("count")
        def count(data: list[User]) -> int:
            return len(data)

        @client.receiver("users")
        async def users(data: list[User]) -> None:
            heard.append(data)

        many = [User(str(number)) for number in range(5000)]
        assert await socket.invoke("count", many) == 5000
        socket.transmit("users", many)
        await until(lambda: heard != [])
        assert heard == [many]
        assert gauge_of(client).size == 0


@CODECS
async def test_invalid_data_is_refused_and_reported(codec: Any) -> None:
    async with pair(codec) as (client, socket):
        errors = client.listener("error").create_consumer()

        @client.procedure("add")
        def add(data: Add) -> int:
            raise AssertionError

        @client.receiver("point")
        async def point(data: Add) -> None:
            raise AssertionError

        with pytest.raises(InvalidArgumentsError, match=r"Expected `int`, got `str` - at `\$.a`"):
            await socket.invoke("add", {"a": "1", "b": 2})
        socket.transmit("point", None)
        for path in ("$.a", "$"):
            error: Any = (await soon(errors.next())).value.error
            assert error.path == path


async def test_errors_of_handlers(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as (client, socket):

        @client.procedure("print")
        def print_(data: str) -> None:
            raise OutOfPaperError("No paper")

        @client.procedure("secret")
        async def secret() -> None:
            raise ValueError("the password is 1234")

        @client.procedure("odd")
        def odd() -> Any:
            return object()

        @client.receiver("event")
        def event() -> None:
            raise ValueError("of a receiver")

        with pytest.raises(SocketClusterError, match="No paper") as raised:
            await socket.invoke("print", "x")
        assert raised.value.name == "OutOfPaperError"
        with pytest.raises(SocketClusterError) as raised:
            await socket.invoke("secret")
        assert raised.value.name == "InternalServerError"
        assert "1234" not in str(raised.value)
        with pytest.raises(SocketClusterError) as raised:
            await socket.invoke("odd")
        assert raised.value.name == "InternalServerError"
        socket.transmit("event")
        await until(lambda: "of a receiver" in caplog.text)
        assert "the password is 1234" in caplog.text
        assert "Encoding objects of type object is unsupported" in caplog.text


async def test_a_timeout_answers() -> None:
    async with pair() as (client, socket):

        @client.procedure("slow", timeout=1)
        async def slow() -> None:
            await asyncio.Event().wait()

        with pytest.raises(TimeoutError, match="'slow' took longer"):
            await socket.invoke("slow")


async def test_a_thread_may_block_and_reaches_the_client() -> None:
    async with pair() as (client, socket):

        @client.procedure("where", thread=True)
        def where(client: AGClientSocket) -> str:
            return client.from_thread(lambda: client.state)

        assert await socket.invoke("where") == "open"


async def test_calls_are_carried_out_one_after_the_other_or_at_once() -> None:
    async with pair() as (client, socket):
        ordered, free = Gate(), Gate()
        client.procedure("ordered")(ordered)
        client.procedure("free", order="free", at_once=2)(free)
        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(socket.invoke("ordered", number))
                tasks.create_task(socket.invoke("free", number))
            await until(lambda: len(free.begun) == 2)
            assert ordered.begun == [0]
            assert client.get_backpressure() == 2
            ordered.open.set()
            free.open.set()
        assert ordered.ended == sorted(free.ended) == [0, 1, 2]


async def test_a_flood_pauses_reading_and_is_bounded_while_a_call_waits() -> None:
    async with pair(max_inbound_backlog=5) as (client, socket):
        answer = asyncio.Event()

        async def wait() -> str:
            await answer.wait()
            return "answered"

        server: Any = socket.server
        server.procedure("wait")(wait)
        errors = client.listener("error").create_consumer()
        gate = Gate()
        client.receiver("event")(gate)
        call = asyncio.create_task(client.invoke("wait"))
        for number in range(1000):
            socket.transmit("event", number)
            await asyncio.sleep(0)
        error: Any = (await soon(errors.next())).value.error
        assert "50 messages behind" in str(error)
        assert client.get_backpressure() < 200
        gate.open.set()
        answer.set()
        assert await soon(call) == "answered"
        await until(lambda: len(gate.ended) == 1000)


# Streams beside handlers


async def test_loops_over_a_receiver_see_everything_after_the_handler() -> None:
    async with pair() as (client, socket):
        seen: list[Any] = []
        stream = client.receiver("event")
        consumer = stream.create_consumer()

        @stream
        def event(data: Any) -> None:
            seen.append((data, consumer.get_backpressure()))

        typed = client.receiver("event", int).create_consumer()
        socket.transmit("event", 5)
        assert (await soon(consumer.next())).value == 5
        assert (await soon(typed.next())).value == 5
        assert seen == [(5, 0)]


async def test_a_procedure_has_a_handler_or_a_loop() -> None:
    async with pair() as (client, socket):

        @client.procedure("add")
        def add(data: Add) -> int:
            return data.a + data.b

        both = r"'add' has a handler, .*add \(.*test_handlers.py:\d+\), and a loop, .*test_handlers"
        with pytest.raises(UsageError, match=both):
            client.procedure("add").create_consumer()
        with pytest.raises(UsageError, match=both):
            aiter(client.procedure("add"))
        with pytest.raises(UsageError, match=both):
            await client.procedure("add").once()
        with pytest.raises(UsageError, match=both):
            client.procedure("add", Add)
        with pytest.raises(UsageError, match=r"has a handler already: .*test_handlers"):
            client.procedure("add")(add)

        loop = client.procedure("sub", Add).create_consumer()
        with pytest.raises(UsageError, match=both.replace("add", "sub")):

            @client.procedure("sub")
            def sub(data: Add) -> int:
                raise AssertionError

        loop.return_()
        client.procedure("sub")(lambda: 7)
        assert await socket.invoke("sub") == 7


async def test_the_protocol_keeps_its_names() -> None:
    async with pair() as (client, _):
        for declare in (client.procedure("#setAuthToken"), client.receiver("#publish")):
            with pytest.raises(UsageError, match="such names are the protocol's own"):
                declare(lambda: None)


# Declaring


async def test_a_router_is_included_and_one_of_a_server_refused() -> None:
    router = Router()

    @router.procedure("name")
    def name(me: User) -> str:
        return me.name

    @router.provide
    def user(client) -> User:  # type: ignore[no-untyped-def]
        return User(client.client_id)

    @router.on("disconnect")
    def gone(event: Any) -> None: ...

    async with pair() as (client, socket):
        client.include(router, prefix="my/")
        assert await socket.invoke("my/name") == client.client_id
        assert client.handlers.procedures["my/name"].function is name

        @router.channel("room/{room}")
        def room(room: str) -> bool:
            raise AssertionError

        with pytest.raises(UsageError, match=r"room \(.*a client has no handlers of channels"):
            client.include(router, prefix="again/")
        other = Router()

        @other.middleware("inbound")
        async def inbound(stream: Any) -> None: ...

        with pytest.raises(UsageError, match=r"inbound \(.*no middleware 'inbound'"):
            client.include(other)
        assert list(client.handlers.procedures) == ["my/name"]


async def test_wrong_declarations_raise_and_leave_nothing() -> None:
    async with pair() as (client, socket):
        place = r"test_handlers.py:\d+\): "

        def unprovided(me: User) -> None:
            raise AssertionError

        def unknown(server) -> None:  # type: ignore[no-untyped-def]
            raise AssertionError

        for decorator in (client.procedure("x"), client.receiver("x"), client.on("close")):
            with pytest.raises(UsageError, match=place + "nothing provides its parameter 'me"):
                decorator(unprovided)
        for decorator in (client.procedure("y"), client.receiver("y"), client.provide):
            with pytest.raises(UsageError, match=place):
                decorator(unknown)
        with pytest.raises(UsageError, match="is a stream, and takes no options"):
            client.procedure("x", Add, order="free")  # type: ignore[call-overload]
        with pytest.raises(UsageError, match="with parentheses"):
            client.procedure(unknown)  # type: ignore[call-overload]
        with pytest.raises(UsageError, match="for an async function"):
            client.receiver("z", order="latest")(lambda: None)
        client.procedure("x")(lambda me=None: me)  # What has a default needs no provider.
        tables = client.handlers
        assert [list(tables.procedures), tables.receivers, tables.events] == [["x"], {}, {}]
        assert await socket.invoke("x") is None


async def test_handlers_declared_while_it_connects_may_come_before_their_providers() -> None:
    async with AGServer() as server:
        client = testing.create(server)

        @client.procedure("name")
        def name(me: User) -> str:
            return me.name

        @client.provide
        def user() -> User:
            return User("ann")

        await soon(client.listener("connect").once())
        assert await there(client, server).invoke("name") == "ann"
        client.disconnect()
        await client.wait_closed()


async def test_handlers_that_cannot_run_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    async with AGServer() as server:
        client = testing.create(server)

        @client.procedure("name")
        def name(me: User) -> str:
            raise AssertionError

        connected = client.listener("connect").create_consumer()
        errors = client.listener("error").create_consumer()
        await soon(connected.next())
        with pytest.raises(UnknownProcedureError):
            await there(client, server).invoke("name")
        error: Any = (await soon(errors.next())).value.error
        assert "nothing provides its parameter 'me" in str(error)
        assert "The client's handlers cannot run" in caplog.text
        client.disconnect()
        with pytest.raises(UsageError, match="nothing provides"):
            await client.__aenter__()
        with pytest.raises(UsageError, match="nothing provides"):
            client.connect()
        await client.wait_closed()


# Events of the client


async def test_events_of_the_client_are_handled() -> None:
    async with AGServer(auth_key=KEY) as server:
        client = testing.create(server, auto_connect=False)
        heard: list[Any] = []
        for name in ("connecting", "connect", "disconnect", "close", "authStateChange", "raw"):

            @client.on(name)
            def hear(event: Any, client: AGClientSocket, session: Session) -> None:
                heard.append((type(event).__name__, session))

        @client.on("connect")
        async def connected(event: ConnectEvent, socket: AGClientSocket) -> None:
            heard.append(("later", event.id == socket.id))

        @client.on("authStateChange")
        def changed(event: AuthStateChangeEvent) -> None:
            heard.append(("claims", event.auth_token))

        @client.provide(scope="socket")
        def session() -> Session:
            return Session()

        assert client.has_listener("raw")
        assert not client.has_listener("message")
        async with client:
            socket = there(client, server)
            await socket.set_auth_token({"name": "ann"})
            socket.send("raw text")
            await until(lambda: any(kind == "RawEvent" for kind, _ in heard))
        kinds = [kind for kind, _ in heard]
        assert kinds[0] == "ConnectingEvent"
        assert set(kinds) == {
            *("ConnectingEvent", "ConnectEvent", "later", "claims", "AuthStateChangeEvent"),
            *("RawEvent", "DisconnectEvent", "CloseEvent"),
        }
        assert ("later", True) in heard
        assert dict(heard)["claims"]["name"] == "ann"


async def test_a_handler_of_error_replaces_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as (client, socket):
        heard: list[Any] = []

        @client.on("error")
        def error(event: Any) -> None:
            heard.append(event.error)
            raise ValueError("in the handler of errors")

        socket.terminate()
        await until(lambda: heard != [])
        assert "Socket hung up" in str(heard[0])
        assert "Socket hung up" not in caplog.text
        assert "in the handler of errors" in caplog.text


async def test_a_misspelled_event_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as (client, _):
        with caplog.at_level(logging.WARNING):
            client.on("connected")(lambda: None)
        assert "'connect'" in caplog.text


# Connections and values


async def test_handlers_survive_connections_and_late_answers_are_dropped() -> None:
    async with pair() as (client, socket):
        found = record(client)
        gate = Gate()
        client.procedure("wait")(gate)
        asked = asyncio.create_task(socket.invoke("wait", 1))
        await until(lambda: gate.begun == [1])
        socket = await reconnected(client, socket)
        with pytest.raises(BadConnectionError):
            await asked
        # The new connection uses the same numbers for its calls.
        again = asyncio.create_task(socket.invoke("wait", 2))
        await asyncio.sleep(0)
        gate.open.set()
        assert await soon(again) == 2
        assert gate.ended == [1, 2]
        errors = [event.error for name, event in found if name == "error"]
        assert all("hung up" in str(error) for error in errors)


async def test_cancel_on_disconnect() -> None:
    async with pair() as (client, socket):
        cancelled: list[str] = []

        @client.procedure("wait", cancel_on_disconnect=True)
        async def wait(data: str) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(data)

        calls = [asyncio.create_task(socket.invoke("wait", text)) for text in ("one", "two")]
        await until(lambda: client.get_backpressure() == 1)
        socket = await reconnected(client, socket)
        assert cancelled == ["one"]
        assert client.get_backpressure() == 0
        third = asyncio.create_task(socket.invoke("wait", "three"))
        await asyncio.gather(*calls, return_exceptions=True)
        third.cancel()


async def test_how_long_provided_values_live() -> None:
    made: list[str] = []
    ended: list[str] = []

    def lives(kind: str) -> Iterator[Any]:
        made.append(kind)
        yield kind
        ended.append(kind)

    class Message(str): ...

    class Connection(str): ...

    class Whole(str): ...

    async with AGServer(auth_key=KEY) as server:
        client = testing.create(server, auto_connect=False, auto_reconnect_options=AGAIN)

        @client.provide
        def message(client: AGClientSocket, connection: Connection) -> Iterator[Message]:
            yield from lives("message")

        @client.provide(scope="socket")
        async def connection(socket: AGClientSocket, whole: Whole) -> AsyncIterator[Connection]:
            made.append("connection")
            yield Connection()
            ended.append("connection")

        @client.provide(scope="server")
        def whole(client: AGClientSocket) -> Iterator[Whole]:
            yield from lives("whole")

        @client.procedure("use")
        async def use(message: Message, whole: Whole) -> None: ...

        async with client:
            socket = there(client, server)
            await socket.invoke("use")
            await socket.invoke("use")
            assert made == ["whole", "connection", "message", "message"]
            assert ended == ["message", "message"]
            await socket.set_auth_token({"name": "ann"})
            await until(lambda: "connection" in ended)
            await socket.invoke("use")
            assert made[4:] == ["connection", "message"]
            socket = await reconnected(client, socket)
            await until(lambda: ended.count("connection") == 2)
            await socket.invoke("use")
            assert made.count("connection") == 3
            assert "whole" not in ended
        assert ended[-2:] == ["connection", "whole"]
        async with client:
            await there(client, server).invoke("use")
            assert made.count("whole") == 2
        assert ended.count("whole") == 2


async def test_handlers_end_before_the_client_has_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socketcluster.client.handling.HANDLER_SECONDS", 0.01)
    ended: list[str] = []
    async with pair() as (client, socket):

        @client.on("close")
        async def close() -> None:
            await asyncio.sleep(0)
            ended.append("close")

        @client.receiver("forever")
        async def forever() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("forever")

        @client.receiver("leave")
        async def leave(client: AGClientSocket) -> None:
            client.disconnect()
            await client.wait_closed()  # It does not wait for itself.
            ended.append("leave")

        socket.transmit("forever")
        socket.transmit("leave")
        await until(lambda: "leave" in ended)
        assert "forever" not in ended
        await client.wait_closed()
        assert sorted(ended) == ["close", "forever", "leave"]


async def test_an_event_without_a_loop_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    def outside() -> None:
        client = create(auto_connect=False)

        @client.on("custom")
        async def custom() -> None:
            raise AssertionError

        client.emit("custom")

    await asyncio.to_thread(outside)
    assert "no running event loop" in caplog.text


async def test_a_client_serves_an_original_server(npm_20: int, make_client: Any) -> None:
    client: AGClientSocket = make_client(npm_20)

    @client.procedure("double")
    def double(data: int) -> int:
        return 2 * data

    noted = asyncio.Event()

    @client.receiver("noted")
    async def note(data: list[int]) -> None:
        assert data == [1]
        noted.set()

    assert await client.invoke("call me back", 21) == 42
    with pytest.raises(SocketClusterError, match="Expected `int`, got `str`"):
        await client.invoke("call me back", "x")
    client.transmit("note", [1])
    await soon(noted.wait())
    assert "error" not in names(record(client))
