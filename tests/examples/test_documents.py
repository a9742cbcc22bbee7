"""The Python code of the README and the documents: it type-checks, and complete programs run."""

from __future__ import annotations

import hashlib
import re
import ssl
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

import recovering
from socketcluster import AGServerSocket
from support import AnswerError, Client, Running, connected, until

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STRICT = ["readme_page.py", "getting_started_page.py", "handlers_page.py"]
"""The pages that newcomers copy from."""


def python_code(page: Path) -> str:
    """Return the Python blocks of a page as one module, because later ones use earlier ones."""
    return "\n\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))


def load_page(name: str) -> ModuleType:
    module = ModuleType("page")
    code = compile(python_code(ROOT / "docs" / name), name, "exec", dont_inherit=True)
    exec(code, module.__dict__)
    return module


def test_every_page_type_checks(tmp_path: Path) -> None:
    names = []
    for page in PAGES:
        if code := python_code(page):
            names.append(page.stem.lower().replace("-", "_") + "_page.py")
            (tmp_path / names[-1]).write_text(code)
    assert len(names) >= 9
    command = [sys.executable, "-m", "mypy", "--check-untyped-defs", "--cache-dir", "cache", *names]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "strict", *STRICT]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("page", [p.name for p in PAGES[1:]])
def test_every_page_can_be_imported(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_TOKEN", "t" * 32)
    load_page(page)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not link.startswith("https:"):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors_of(target), link


async def test_getting_started(make_server: Any) -> None:
    server = await make_server(load_page("getting-started.md").server)
    async with connected(server) as client:
        assert await client.event() == {"event": "welcome", "data": {"clients": 1}}
        assert await client.call("add", [1, 2]) == 3
        with pytest.raises(AnswerError, match="Expected `array`, got `str`"):
            await client.call("add", "x")
        with pytest.raises(AnswerError, match="Log in first"):
            await client.call("#subscribe", {"channel": "room/1"})
        login = {"name": "alice", "password": "guess"}
        with pytest.raises(AnswerError, match="Wrong name or password"):
            await client.call("login", login)
        await client.call("login", {**login, "password": "wonderland"})
        assert (await client.event())["event"] == "#setAuthToken"
        await client.call("#subscribe", {"channel": "room/1"})
        with pytest.raises(AnswerError, match="not allowed to subscribe"):
            await client.call("#subscribe", {"channel": "room/not-alice"})
        await client.call("#publish", {"channel": "room/1", "data": {"text": "hello"}})
        assert (await client.event())["data"] == {
            "channel": "room/1",
            "data": {"text": "hello", "name": "alice"},
        }
        await client.call("#subscribe", {"channel": "positions"})
        await client.transmit("position", {"x": 1, "y": 2})
        (socket,) = server.clients
        assert (await client.event())["data"]["data"] == {"id": socket, "x": 1, "y": 2}


async def refusal(client: Client, event: str, data: Any = None) -> str:
    """The message of the error that answers a call."""
    with pytest.raises(AnswerError) as refused:
        await client.call(event, data)
    return str(refused.value.wire["message"])


async def test_handlers(make_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page = load_page("handlers.md")
    server = await make_server(page.server)
    async with connected(server) as client:
        assert (await client.event())["event"] == "welcome"
        assert await client.call("add", {"a": 1}) == 2
        assert page.add(page.Add(1, 2)) == 3
        assert len(await client.call("hash", "secret")) == 128
        await client.transmit("position", {"x": 1, "y": 2})
        assert await refusal(client, "#subscribe", {"channel": "room/1"}) == "Log in first"
        (socket,) = server.clients.values()
        await socket.set_auth_token({"name": "admin"})
        assert (await client.event())["event"] == "#setAuthToken"
        await client.call("#subscribe", {"channel": "room/1"})
        await client.call("#publish", {"channel": "room/1", "data": {"text": "hi"}})
        assert (await client.event())["data"]["data"] == {"text": "hi", "name": "admin"}
        assert "Expected `int`" in await refusal(client, "#subscribe", {"channel": "room/x"})
        assert await refusal(client, "#subscribe", {"channel": "room/1000"}) == (
            "It is not allowed to subscribe to the room/1000 channel"
        )
        assert (await client.call("#subscribe", {"channel": "log/1"}))["offset"] == 0
        await client.call("#publish", {"channel": "log/1", "data": "started"})
        assert (await client.event())["data"]["offset"] == 1
        await client.call("#subscribe", {"channel": "$presence/log/1"})
        assert (await client.event())["data"]["data"] == {"state": {}, "count": 1}
        await client.call("#subscribe", {"channel": "prices"})
        publish = {"channel": "prices", "data": 1}
        assert "not allowed to publish" in await refusal(client, "#publish", publish)
        assert await client.call("rename", "bob") == "bob"
        assert await refusal(client, "rename", "admin") == "Internal server error"
        assert capsys.readouterr().out.splitlines() == ["commit", "roll back"]
        order = {"items": [{"name": "pen", "count": 0}]}
        assert (
            await refusal(client, "order", order) == "Expected `int` >= 1 - at `$.items[0].count`"
        )
        assert server.handlers.procedures["order"].invalid == 1
        assert await client.call("search") == await client.call("search", None) == []
        assert await client.call("area", {"type": "Square", "side": 3}) == 9
        assert await client.call("area", {"type": "Circle", "radius": 1, "color": "red"}) == 3.14
        assert "`color`" in await refusal(
            client, "area", {"type": "Square", "side": 3, "color": "red"}
        )
        assert await client.call("report", "us") == "the report about us"
        assert await client.call("admin/clients") == 1
        await client.call("#subscribe", {"channel": "admin/log/1"})


async def test_streams(make_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page = load_page("streams.md")
    async with connected(await make_server(page.game)) as client:
        assert "Expected `int`" in await refusal(client, "guess", "seven")
        guesses = [await client.call("guess", number) for number in (1, 7, 2)]
        assert guesses == ["wrong", "right", "wrong"]
        assert await client.event() == {"event": "over", "data": 3}
        assert await refusal(client, "guess", 3) == "There is no procedure 'guess'"
    await page.main()
    assert capsys.readouterr().out.splitlines() == [
        "4",
        "6",
        "Nothing was written for 10 milliseconds",
        "for the consumers of 'a'",
    ]


async def test_middleware(make_server: Any) -> None:
    server = await make_server(load_page("middleware.md").server)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "c"})
        with pytest.raises(AnswerError, match="Read only"):
            await client.call("#publish", {"channel": "news", "data": 1})
        await client.call("#publish", {"channel": "c", "data": 1})
        (socket,) = server.clients
        assert (await client.event())["data"]["data"] == {"from": socket, "data": 1}
    async with connected(server, handshake=False, additional_headers={"X-Version": "1"}) as client:
        with pytest.raises(AnswerError, match="Please update"):
            await client.handshake()
        assert (await client.closed())[0] == 4500


async def test_authentication(make_server: Any) -> None:
    page = load_page("authentication.md")
    server = await make_server(page.server)
    private = {"channel": "private/alice"}
    async with connected(server) as client:
        assert await refusal(client, "whoami") == "Log in first"
        assert await refusal(client, "#subscribe", private) == "Log in first"
        login = {"name": "alice", "password": "guess"}
        assert await refusal(client, "login", login) == "Wrong name or password"
        await client.call("login", {**login, "password": "wonderland"})
        assert (await client.event())["event"] == "#setAuthToken"
        assert await client.call("whoami") == "alice"
        await client.call("#subscribe", private)
        await client.call("#publish", {**private, "data": 1})
        assert (await client.event())["data"] == {**private, "data": 1}
        for call in ("#subscribe", "#publish"):
            assert "not allowed" in await refusal(client, call, {"channel": "private/bob"})
        (socket,) = server.clients.values()
        await socket.deauthenticate()
        assert {(await client.event())["event"] for _ in range(2)} == {
            "#removeAuthToken",
            "#kickOut",
        }
    banned = server.auth.sign_token({"banned": True}, server.signature_key, {"algorithm": "HS256"})
    async with connected(server) as client:
        assert await refusal(client, "#authenticate", banned) == "Banned"


async def test_channels(make_server: Any, running: Running) -> None:
    page = load_page("channels.md")
    server = await make_server(page.server)
    async with connected(server) as client:
        room, hello = {"channel": "room/1"}, {"text": "hello"}
        for call in ("#subscribe", "#publish"):
            assert "not allowed" in await refusal(client, call, {**room, "data": hello})
        (socket,) = server.clients.values()
        await socket.set_auth_token({"name": "ann"})
        assert (await client.event())["event"] == "#setAuthToken"
        await client.call("#subscribe", room)
        await client.call("#publish", {**room, "data": hello})
        assert (await client.event())["data"]["data"] == {"text": "hello", "name": "ann"}
        assert "not allowed" in await refusal(client, "#publish", {"channel": "news", "data": 1})
        await client.call("#subscribe", {"channel": "news"})
        await page.announce()
        assert [(await client.event())["data"]["data"]["n"] for _ in range(2)] == [1, 2]
    async with connected(await make_server(page.strict)) as client:
        await client.call("#subscribe", {"channel": "files/a/b"})
        assert "no rule or handler" in await refusal(client, "#subscribe", {"channel": "other"})


async def test_history(make_server: Any) -> None:
    server = await make_server(load_page("history.md").server)
    place: Any = None
    cases: list[tuple[bool, list[str]]] = [(True, []), (True, ["two", "three"]), (False, ["four"])]
    for is_member, missed in cases:
        for value in missed:
            await server.exchange.invoke_publish("chat/1", value)
        async with connected(server) as client:
            if is_member:
                (socket,) = server.clients.values()
                await socket.set_auth_token({"sub": "ann"})
            told = await recovering.subscribe(client, place, "chat/1")
            assert told["recovered"] is (is_member and bool(missed))
            received = [value for value, _ in recovering.publishes(client)]
            assert received == (missed if is_member else [])
            place = recovering.place(told)
            if missed == ["four"]:
                assert await client.call("lastLines", "1") == ["four", "three", "two"]
                await server.exchange.invoke_publish("price/1", 5)
                await recovering.subscribe(client, channel="price/1")
                assert recovering.publishes(client) == [(5, 1)]


async def test_errors(make_server: Any) -> None:
    async with connected(await make_server(load_page("errors.md").server)) as client:
        assert await client.call("order", 1) == "ordered"
        with pytest.raises(AnswerError) as refused:
            await client.call("order", 4)
        assert refused.value.wire == {
            "name": "OutOfStockError",
            "message": "There are not enough left",
            "left": 3,
        }


async def test_sockets(make_server: Any) -> None:
    page = load_page("sockets.md")
    async with connected(await make_server(page.server)) as client:
        assert await refusal(client, "divide", {"a": 1, "b": 2}) == "Log in first"
        (socket,) = page.server.clients.values()
        await socket.set_auth_token({})
        assert await client.call("divide", {"a": 1, "b": 2}) == 0.5
        assert await refusal(client, "divide", {"a": 1, "b": 0}) == "Internal server error"


async def test_threads(make_server: Any) -> None:
    server = await make_server(load_page("threads.md").server)
    async with connected(server) as client, httpx.AsyncClient() as http:
        hashed = hashlib.sha256(b"x").hexdigest()
        assert await client.call("hash", "x") == hashed
        assert await client.event() == {"event": "progress", "data": 100}
        assert await client.call("hashAll", ["x", "x"]) == [hashed, hashed]
        assert [(await client.event())["event"] for _ in range(2)] == ["progress", "progress"]
        await client.call("#subscribe", {"channel": "news"})
        for kind in ("blocking", "async"):
            url = f"http://127.0.0.1:{server.source_port}/{kind}/news"
            answer = await http.post(url, json={"kind": kind})
            assert answer.json() == {"clients": 1}
            events = [await client.event() for _ in range(2)]
            assert {"event": "published", "data": "news"} in events
            assert {
                "event": "#publish",
                "data": {"channel": "news", "data": {"kind": kind}},
            } in events


async def test_client(
    make_server: Any, running: Running, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = load_page("client.md")
    server = await make_server()
    running.procedure(server, "add", sum)

    async def login(socket: AGServerSocket) -> None:
        async for request in socket.procedure("login"):
            await socket.set_auth_token(request.data)
            request.end()

    running.on_connection(server, login)
    await page.main(server.source_port)
    async with page.patient(server.source_port) as socket:
        await page.talk(socket)
        running.start(page.answer(socket))
        running.start(page.listen(socket))
        await until(lambda: len(socket.streams.procedure_demux.get_consumer_stats_list_all()) == 1)
        (other,) = server.clients.values()
        assert await other.invoke("double", 21) == 42
        await page.chat(socket)
    async with page.remembering(server.source_port, str(tmp_path / "tokens")) as socket:
        await page.login(socket)
        await page.present(socket, socket.signed_auth_token)
        assert socket.auth_state == "unauthenticated"
    assert capsys.readouterr().out.splitlines() == [
        "3",
        "The server answered with an error: TypeError",
        "room: hello",
        "bob",
        "True None",
    ]
    certificate = tmp_path / "ca.pem"
    certificate.write_text("")
    with pytest.raises(ssl.SSLError):  # The file is loaded into an SSL context.
        page.private(str(certificate))
