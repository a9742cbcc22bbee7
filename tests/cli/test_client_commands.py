"""The client commands, run as programs against real servers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket as sockets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cli.commands import SECONDS, Commands, Result, ended, line_of, run_here
from conftest import MakeServer
from socketcluster import AGAction, AGServer, AGServerSocket
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import AuthError
from support import Running, soon, until
from transports import url

KEY = "k" * 32


@pytest.fixture
async def commands() -> AsyncIterator[Commands]:
    """A runner of commands."""
    made = Commands()
    yield made
    await made.stop()


@pytest.fixture
async def server(make_server: MakeServer, running: Running, commands: Commands) -> AGServer:
    """A server with a procedure "echo", at the URL that commands use by default."""
    made = await serving(make_server, running)
    commands.env["SOCKETCLUSTER_URL"] = url(made)
    return made


async def serving(make_server: MakeServer, running: Running, **options: Any) -> AGServer:
    made = AGServer(auth_key=KEY, drain_timeout=100, **options)
    running.on_connection(made, answer)
    made.set_middleware(made.MIDDLEWARE_INBOUND, decide)
    return await make_server(made)


async def answer(socket: AGServerSocket) -> None:
    async for request in socket.procedure("echo"):
        if request.data == "bad":
            request.error(type("OrderError", (Exception,), {})("no\x1b[31m such\norder"))
        elif request.data == "drop":
            socket.disconnect(4500, "go away")
        elif request.data == "who":
            request.end(socket.auth_token)
        elif request.data == "binary":
            request.end(b"\x00\xff")
        elif request.data != "hang":
            request.end(request.data)


async def decide(stream: Any) -> None:
    async for action in stream:
        if action.type in (AGAction.SUBSCRIBE, AGAction.PUBLISH_IN) and action.channel == "secret":
            action.block(AuthError("not for you"))
        else:
            action.allow()


async def subscribed(server: AGServer, commands: Commands, *arguments: str, **options: Any) -> Any:
    """Start a `sub`, and wait until the server has its subscription."""
    subscriptions = server.listener("subscription").create_consumer()
    process = await commands.start("sub", *arguments, **options)
    async with asyncio.timeout(SECONDS):
        await subscriptions.next()
    return process


def assert_failed(result: Result, message: str, status: int = 1) -> None:
    """Assert that a command failed with one line."""
    assert result == Result(status, "", f"socketcluster: {message}\n")


# invoke


@pytest.mark.usefixtures("server")
class TestInvoke:
    async def test_prints_the_answer(self, commands: Commands) -> None:
        result = await commands("invoke", "echo", '{"a": [1, "é", null]}')
        assert result == Result(0, '{"a":[1,"é",null]}\n', "")

    async def test_repeats(self, commands: Commands) -> None:
        assert await commands("invoke", "echo", "1", "--count", "2") == Result(0, "1\n1\n", "")

    @pytest.mark.parametrize("dash", [[], ["-"]])
    async def test_reads_lines(self, commands: Commands, dash: list[str]) -> None:
        result = await commands("invoke", "echo", *dash, stdin='1\n\n"x"\n{"a": 2}')
        assert result == Result(0, '1\n"x"\n{"a":2}\n', "")

    async def test_reads_a_number_of_lines_as_they_arrive(self, commands: Commands) -> None:
        process = await commands.start("invoke", "echo", "--count", "2")
        assert process.stdin is not None
        for text in ("1\n", "2\n"):
            process.stdin.write(text.encode())
            assert await line_of(process) == text
        async with asyncio.timeout(SECONDS):
            assert await process.wait() == 0

    async def test_reads_a_file(self, commands: Commands, tmp_path: Any) -> None:
        (tmp_path / "lines").write_text("1\n2\n")
        file = os.open(tmp_path / "lines", os.O_RDONLY)
        process = await commands.start("invoke", "echo", stdin=file)
        os.close(file)
        async with asyncio.timeout(SECONDS):
            assert await process.communicate() == (b"1\n2\n", b"")

    async def test_no_lines_make_no_calls(self, commands: Commands) -> None:
        assert await commands("invoke", "echo") == Result(0, "", "")

    async def test_an_error_answer(self, commands: Commands) -> None:
        assert_failed(await commands("invoke", "echo", '"bad"'), "OrderError: no [31m such order")

    async def test_no_answer(self, commands: Commands) -> None:
        result = await commands("invoke", "echo", '"hang"', "--timeout", "2")
        assert_failed(result, "No answer arrived in 2 seconds")

    async def test_the_connection_is_lost(self, commands: Commands) -> None:
        result = await commands("invoke", "echo", '"drop"')
        assert_failed(result, "The connection was lost: go away (4500)")

    async def test_data_that_is_not_json(self, commands: Commands) -> None:
        result = await commands("invoke", "echo", "hello")
        message = "DATA must be JSON, and 'hello' is not; a text needs its quotes: '\"text\"'"
        assert_failed(result, message, 2)

    async def test_a_line_that_is_not_json(self, commands: Commands) -> None:
        result = await commands("invoke", "echo", stdin="1\n{\n2\n")
        assert (result.status, result.out) == (1, "1\n")
        assert result.err.startswith("socketcluster: Line 2 of standard input: ")
        assert result.err.count("\n") == 1

    async def test_the_reader_of_the_output_closes_the_pipe(self, commands: Commands) -> None:
        process = await commands.start("invoke", "echo")
        assert process.stdin is not None
        process.stdin.write(b"1\n")
        assert await line_of(process) == "1\n"
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        assert process.stderr is not None
        async with asyncio.timeout(SECONDS):
            assert await process.stderr.read() == b""
            assert await process.wait() == 0


# Tokens and codecs


async def token(commands: Commands, *options: str) -> str:
    made = await commands("token", "sign", '{"name":"ann"}', *options, SOCKETCLUSTER_AUTH_KEY=KEY)
    return made.out.strip()


@pytest.mark.usefixtures("server")
async def test_shows_a_token(commands: Commands, tmp_path: Any) -> None:
    signed = await token(commands)
    (tmp_path / "token").write_text(f"{signed}\n")
    for arguments, env in (
        (["--token", signed], {}),
        (["--token-file", str(tmp_path / "token")], {}),
        ([], {"SOCKETCLUSTER_TOKEN": signed}),
    ):
        result = await commands("invoke", "echo", '"who"', *arguments, **env)
        assert result.status == 0
        assert '"name":"ann"' in result.out
    assert (await commands("invoke", "echo", '"who"')).out == "null\n"


@pytest.mark.usefixtures("server")
async def test_a_token_that_the_server_rejects(commands: Commands) -> None:
    other = (await commands("token", "sign", "{}", "--key", "o" * 32)).out.strip()
    for command in (["invoke", "echo", "1"], ["sub", "a"]):
        result = await commands(*command, "--token", other)
        assert_failed(result, "The server rejected the token: invalid signature")
    result = await commands("invoke", "echo", "1", "--token-file", "/nowhere")
    assert_failed(result, "Cannot read the token '/nowhere': No such file or directory")


async def test_min_bin_and_protocol_1(
    make_server: MakeServer, running: Running, commands: Commands
) -> None:
    made = await serving(make_server, running, codec_engine=MinBinCodec(), protocol_version=1)
    options = ["--url", url(made), "--codec", "min-bin", "--protocol-version", "1"]
    result = await commands("invoke", "echo", '"binary"', *options)
    assert result == Result(0, '{"base64":true,"data":"AP8="}\n', "")
    process = await subscribed(made, commands, "a", "--count", "1", *options)
    assert (await commands("pub", "a", '["x"]', *options)).status == 0
    assert await ended(process) == Result(0, '["x"]\n', "")


# pub and sub, transmit and listen


async def test_pub_and_sub(server: AGServer, commands: Commands) -> None:
    process = await subscribed(server, commands, "a", "--count", "3")
    assert await commands("pub", "a", stdin='1\n"\u0085x"\n') == Result(0, "", "")
    assert await commands("pub", "a", "null") == Result(0, "", "")
    assert await ended(process) == Result(0, '1\n"\\u0085x"\nnull\n', "")


async def test_names(server: AGServer, commands: Commands) -> None:
    process = await subscribed(server, commands, "a", "--count", "1", "--names")
    await server.exchange.invoke_publish("a", 1)
    assert (await ended(process)).out == '{"channel":"a","data":1}\n'
    subscriptions = server.listener("subscription").create_consumer()
    process = await commands.start("sub", "a", "b", "--count", "2")
    for _ in range(2):
        async with asyncio.timeout(SECONDS):
            await subscriptions.next()
    await server.exchange.invoke_publish("b", 2)
    assert await line_of(process) == '{"channel":"b","data":2}\n'
    await server.exchange.invoke_publish("a", 3)
    assert await line_of(process) == '{"channel":"a","data":3}\n'
    assert (await ended(process)).status == 0


@pytest.mark.usefixtures("server")
async def test_refused(commands: Commands) -> None:
    assert_failed(await commands("sub", "secret"), "Cannot subscribe to 'secret': not for you")
    assert_failed(await commands("pub", "secret", "1"), "not for you")


async def test_kicked_out(server: AGServer, commands: Commands) -> None:
    process = await subscribed(server, commands, "a")
    (client,) = server.clients.values()
    await client.kick_out("a", "be gone")
    assert_failed(await ended(process), "The server ended the subscription to 'a': be gone")


@pytest.mark.usefixtures("server")
async def test_a_time_limit(commands: Commands) -> None:
    result = await commands("sub", "a", "--count", "2", "--timeout", "1")
    assert_failed(result, "Timed out: 0 of 2 messages arrived in 1 seconds")


async def test_transmit(server: AGServer, commands: Commands, running: Running) -> None:
    received: asyncio.Queue[Any] = asyncio.Queue()

    async def take(socket: AGServerSocket) -> None:
        async for data in socket.receiver("ev"):
            received.put_nowait(data)

    running.on_connection(server, take)
    lines = "".join(f'{{"n":{n},"text":"{"x" * 100}"}}\n' for n in range(5000))
    assert await commands("transmit", "ev", stdin=lines) == Result(0, "", "")
    for number in range(5000):
        assert (await soon(received.get()))["n"] == number


async def test_transmit_more_than_the_buffer_holds(
    server: AGServer, commands: Commands, running: Running
) -> None:
    sizes: list[int] = []
    all_there = asyncio.Event()

    async def take(socket: AGServerSocket) -> None:
        async for data in socket.receiver("ev"):
            sizes.append(len(data))
            if len(sizes) == 20:
                all_there.set()

    running.on_connection(server, take)
    lines = f'"{"x" * 500_000}"\n' * 20
    assert await commands("transmit", "ev", stdin=lines) == Result(0, "", "")
    await soon(all_there.wait())
    assert sizes == [500_000] * 20


async def test_input_that_ends_at_once_loses_nothing(
    server: AGServer, commands: Commands, running: Running
) -> None:
    published = running.collect(server.exchange.subscribe("room"))
    lines = "".join(f"{number}\n" for number in range(1000))
    assert await commands("pub", "room", stdin=lines) == Result(0, "", "")
    assert published == list(range(1000))
    assert await commands("invoke", "echo", stdin=lines) == Result(0, lines, "")
    result = await commands("transmit", "#publish", stdin=_publishes())
    assert result == Result(0, "", "")
    await until(lambda: len(published) == 2000)
    assert published[1000:] == list(range(1000))


@pytest.mark.parametrize("command", [["pub", "room"], ["transmit", "#publish"]])
async def test_input_for_the_original_server_loses_nothing(
    commands: Commands, npm_20: int, command: list[str]
) -> None:
    lines = "".join(f"{number}\n" for number in range(1000))
    stdin = _publishes() if command[0] == "transmit" else lines
    address = f"ws://127.0.0.1:{npm_20}/socketcluster/"
    before = await commands("invoke", "what was published", "null", "--url", address)
    assert before.status == 0
    assert await commands(*command, "--url", address, stdin=stdin) == Result(0, "", "")
    result = await commands("invoke", "what was published", "null", "--url", address)
    assert json.loads(result.out) == list(range(1000))


def _publishes() -> str:
    return "".join(f'{{"channel":"room","data":{number}}}\n' for number in range(1000))


async def test_listen(server: AGServer, commands: Commands, running: Running) -> None:
    async def greet(socket: AGServerSocket) -> None:
        socket.transmit("hello", {"id": 1})
        socket.transmit("other", 2)
        socket.transmit("hello", 3)

    running.on_connection(server, greet)
    result = await commands("listen", "hello", "--count", "2")
    assert result == Result(0, '{"id":1}\n3\n', "")


# How commands end


async def test_ctrl_c_is_quiet(server: AGServer, commands: Commands) -> None:
    process = await subscribed(server, commands, "a")
    closed = server.listener("disconnection").create_consumer()
    process.send_signal(signal.SIGINT)
    assert await ended(process) == Result(130, "", "")
    event = (await soon(closed.next())).value
    assert event.code == 1000


async def test_sub_ends_when_its_reader_closes_the_pipe(
    server: AGServer, commands: Commands
) -> None:
    read, write = os.pipe()
    process = await subscribed(server, commands, "a", stdout=write)
    os.close(write)
    os.close(read)
    assert await ended(process) == Result(0, "", "")


async def test_sub_reconnects(
    make_server: MakeServer, running: Running, commands: Commands
) -> None:
    first = await serving(make_server, running)
    port = first.source_port
    assert port is not None
    process = await subscribed(first, commands, "a", "--url", url(first), "--count", "1")
    await first.close()
    second = AGServer()
    subscriptions = second.listener("subscription").create_consumer()
    await second.listen(port)
    try:
        await soon(subscriptions.next())
        await second.exchange.invoke_publish("a", 1)
        result = await ended(process)
    finally:
        await second.close()
    assert (result.status, result.out) == (0, "1\n")
    lines = result.err.splitlines()
    assert lines[0] == "socketcluster: Not connected: The server is closing (1001)"
    assert lines[-1] == "socketcluster: Connected again"


async def test_nothing_listens(commands: Commands) -> None:
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    address = f"ws://127.0.0.1:{port}/socketcluster/"
    for command in (["invoke", "echo", "1"], ["sub", "a"]):
        result = await commands(*command, "--url", address)
        assert_failed(result, f"{address} could not be opened: Connection refused")


async def test_a_server_that_does_not_answer(commands: Commands) -> None:
    with sockets.create_server(("127.0.0.1", 0)) as silent:
        address = f"ws://127.0.0.1:{silent.getsockname()[1]}/socketcluster/"
        result = await commands("invoke", "echo", "1", "--url", address, "--timeout", "0.5")
    message = f"{address} could not be opened: Client connection establishment timed out (4007)"
    assert_failed(result, message)


@pytest.mark.parametrize(
    ("scheme", "place"),
    [("ws", "127.0.0.1:PORT"), ("wss", "127.0.0.1:PORT"), ("ws", "127.0.0.1:99999"), ("ftp", "x")],
)
async def test_secrets_of_the_url_are_not_printed(
    commands: Commands, server: AGServer, scheme: str, place: str
) -> None:
    place = place.replace("PORT", str(server.source_port))
    address = f"{scheme}://user:s3cr3t@{place}/elsewhere/?token=s3cr3t"
    for command in (["invoke", "echo", "1"], ["sub", "a"]):
        result = await commands(*command, "--url", address)
        assert result.status in (1, 2)
        assert place in result.err
        assert "s3cr3t" not in result.out + result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sub"], "Missing argument 'CHANNEL' (see socketcluster sub --help)"),
        (["sub", "a", "--url", "ftp://x"], "The URL must be like "),
        (["sub", "a", "--count", "0"], "Invalid value for '--count': "),
        (["sub", "a", "--codec", "x"], "Invalid value for '--codec': "),
        (["pub", "a", "1", "--protocol-version", "3"], "Invalid value for '--protocol-version': "),
        (["pub", "a", "1", "--timeout", "0"], "Invalid value for '--timeout': "),
        (["pub", "a", "1", "--token", "a", "--token-file", "b"], "Give --token or --token-file, "),
        (["nothing"], "No such command 'nothing' (see socketcluster --help)"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    result = run_here(*arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"socketcluster: {message}")
    assert result.err.count("\n") == 1


# On a terminal


class Terminal:
    """A pseudo-terminal, and the text written to it."""

    def __init__(self) -> None:
        self._master, self.slave = os.openpty()
        self.text = ""

    async def until(self, part: str) -> None:
        """Read until a text has been written."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SECONDS):
            while part not in self.text:
                ready = loop.create_future()
                loop.add_reader(self._master, ready.set_result, None)
                try:
                    await ready
                finally:
                    loop.remove_reader(self._master)
                self.text += os.read(self._master, 65536).decode()

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def close(self) -> None:
        """Close both ends."""
        os.close(self._master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Any:
    """A pseudo-terminal."""
    made = Terminal()
    yield made
    made.close()


async def test_colors_and_a_counter_on_a_terminal(
    server: AGServer, commands: Commands, terminal: Terminal
) -> None:
    streams = {"stdout": terminal.slave, "stderr": terminal.slave}
    await subscribed(server, commands, "a", **streams)
    await server.exchange.invoke_publish("a", {"x": 1})
    await terminal.until(": 1 messages, ")
    assert '\x1b[1;34m"x"\x1b[0m:\x1b[1;36m1\x1b[0m' in terminal.text
    assert "\r\x1b[2K" in terminal.text


async def test_a_pipe_gets_the_data_alone(
    server: AGServer, commands: Commands, terminal: Terminal
) -> None:
    process = await subscribed(server, commands, "a", "--count", "1", stderr=terminal.slave)
    await terminal.until(": 0 messages, ")
    await server.exchange.invoke_publish("a", {"x": 1})
    assert (await ended(process)).out == '{"x":1}\n'


@pytest.mark.usefixtures("server")
async def test_no_counter_where_the_user_types(commands: Commands, terminal: Terminal) -> None:
    streams = {"stdin": terminal.slave, "stdout": terminal.slave, "stderr": terminal.slave}
    process = await commands.start("invoke", "echo", **streams)
    terminal.type("[true]\n")
    await terminal.until("true\x1b[0m")
    terminal.type("\x04")
    async with asyncio.timeout(SECONDS):
        assert await process.wait() == 0
    assert "sent" not in terminal.text


@pytest.mark.parametrize("command", ["invoke", "pub", "transmit", "sub", "listen"])
async def test_the_origin(
    make_server: MakeServer, running: Running, commands: Commands, command: str
) -> None:
    """A server with `origins` refuses programs without the header."""
    made = await serving(make_server, running, origins=["https://example.com"])
    commands.env["SOCKETCLUSTER_URL"] = url(made)
    connections = made.listener("connection").create_consumer()
    data = ["1"] if command in ("invoke", "pub", "transmit") else []
    await commands.start(command, "echo", *data, "--origin", "https://example.com")
    async with asyncio.timeout(SECONDS):
        await connections.next()


async def test_without_an_origin(
    make_server: MakeServer, running: Running, commands: Commands
) -> None:
    made = await serving(make_server, running, origins=["https://example.com"])
    result = await commands("invoke", "echo", "1", "--url", url(made))
    assert "HTTP 403" in result.err
    assert result.err.endswith(". Give an origin that it accepts with --origin\n")
    assert result.status == 1
