"""The examples, and the README's server, run as described."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

import recovering
from broker_servers import redis_cli, running_backend
from socketcluster import AGServer
from support import AnswerError, Running, connected, soon, until

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def example(name: str) -> AGServer:
    server = load(ROOT / "examples" / name / "server.py").server
    assert isinstance(server, AGServer)
    return server


async def test_chat(make_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "examples" / "chat")
    server = await make_server(example("chat"))
    lobby, typing = {"channel": "room/lobby"}, {"channel": "typing/lobby"}
    async with connected(server) as client:
        for channel in (lobby, typing):
            with pytest.raises(AnswerError, match="Log in first"):
                await client.call("#subscribe", channel)
        await client.call("login", "Ada")
        assert (await client.event())["event"] == "#setAuthToken"
        with pytest.raises(AnswerError, match="Invalid enum value 'cellar'"):
            await client.call("#subscribe", {"channel": "room/cellar"})
        for channel in (lobby, typing):
            await client.call("#subscribe", channel)
        await client.call("#publish", {**lobby, "data": "Hello"})
        message = (await client.event())["data"]["data"]
        assert (message["name"], message["text"]) == ("Ada", "Hello")
        await client.call("#publish", {**typing, "data": None})
        assert (await client.event())["data"] == {**typing, "data": {"name": "Ada"}}
        history = await client.call("$history", lobby)
        assert [found["data"] for found in history["publications"]] == [message]
        await client.call("#subscribe", {"channel": "$presence/room/lobby"})
        members = (await client.event())["data"]["data"]
        assert (list(members["state"]), members["count"]) == (["Ada"], 1)


async def test_the_chat_sends_what_was_missed(
    make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / "examples" / "chat")
    server = await make_server(example("chat"))
    place: Any = None
    for missed in (0, 2):
        async with connected(server) as client:
            await client.call("login", "Ada")
            told = await recovering.subscribe(client, place, "room/lobby")
            assert told["recovered"] is bool(missed)
            found = [message["text"] for message, _ in recovering.publishes(client)]
            assert found == ["Hello", "Bye"][:missed]
            place = recovering.place(told)
        for text in ("Hello", "Bye"):
            await server.exchange.invoke_publish("room/lobby", {"name": "Bob", "text": text})


def test_the_chat_is_short() -> None:
    assert (ROOT / "examples" / "chat" / "server.py").read_text().count("\n") <= 60


async def test_authentication(make_server: Any) -> None:
    server = await make_server(example("authentication"))
    async with connected(server) as client:
        with pytest.raises(AnswerError, match="Wrong name or password"):
            await client.call("login", {"name": "alice", "password": "ä"})
        with pytest.raises(AnswerError, match="Expected `str`, got `null`"):
            await client.call("login", {"name": "alice", "password": None})
        with pytest.raises(AnswerError, match="Log in first"):
            await client.call("#subscribe", {"channel": "private/alice"})
        await client.call("login", {"name": "alice", "password": "wonderland"})
        assert (await client.event())["event"] == "#setAuthToken"
        await client.call("#subscribe", {"channel": "private/alice"})
        await client.call("#publish", {"channel": "private/alice", "data": "A note"})
        for event in ("#subscribe", "#publish"):
            with pytest.raises(AnswerError, match="not yours"):
                await client.call(event, {"channel": "private/bob"})


async def test_fastapi_same_port(make_server: Any) -> None:
    server = await make_server(example("fastapi_same_port"))
    async with (
        connected(server) as client,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.source_port}") as http,
    ):
        await client.call("#subscribe", {"channel": "news/python"})
        assert (await http.get("/clients")).json() == await client.call("clients") == 1
        assert (await http.post("/news/python", json={"title": ""})).status_code == 422
        assert (await http.post("/news/python", json={"title": "3.11"})).is_success
        article = {"title": "3.11", "text": ""}
        published = {"channel": "news/python", "data": article}
        assert (await client.event())["data"] == published
        with pytest.raises(AnswerError, match="String should have at least 1 character"):
            await client.call("#publish", {"channel": "news/python", "data": {"title": ""}})
        await client.call("#publish", published)
        assert (await client.event())["data"] == published


async def test_the_readme_s_server(make_server: Any, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    code = found[1]
    assert len([line for line in code.splitlines() if line]) <= 20
    (tmp_path / "server.py").write_text(code)
    module = load(tmp_path / "server.py")
    server = await make_server(module.server)
    async with connected(server) as client:
        with pytest.raises(AnswerError, match="Expected `array`, got `str`"):
            await client.call("add", "x")
        assert await client.call("add", [1, 2]) == 3
        for call in ("#subscribe", "#publish"):
            with pytest.raises(AnswerError, match="It is not allowed to"):
                await client.call(call, {"channel": "room/1", "data": {"text": "hello"}})
        await client.call("login", "alice")
        assert (await client.event())["event"] == "#setAuthToken"
        await client.call("#subscribe", {"channel": "room/1"})
        with pytest.raises(AnswerError, match=r"at `\$\.text`"):
            await client.call("#publish", {"channel": "room/1", "data": {"text": 1}})
        await client.call("#publish", {"channel": "room/1", "data": {"text": "hello"}})
        assert (await client.event())["data"]["data"] == {"text": "hello"}


async def test_the_readme_s_program(tmp_path: Path) -> None:
    """The program prints its address, and on Ctrl-C answers the call under way and exits with 0."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    (tmp_path / "main.py").write_text(found[1].replace("server.run(8000)", "server.run(0)"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "main.py", cwd=tmp_path, stdout=PIPE, stderr=PIPE
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        address = re.fullmatch(r"SocketCluster is running on http(://\S+) \(Ctrl-C stops\)\n", line)
        assert address is not None, line
        async with websockets.connect(f"ws{address[1]}/socketcluster/") as ws:
            await ws.send('{"event":"#handshake","data":{},"cid":1}')
            await soon(ws.recv())
            await ws.send('{"event":"add","data":[1,2],"cid":2}')
            assert await soon(ws.recv()) == '{"rid":2,"data":3}'
            process.send_signal(signal.SIGINT)
            await soon(ws.wait_closed())
        assert await asyncio.wait_for(process.communicate(), 30) == (b"", b"")
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()


async def test_gaps(
    make_server: Any,
    make_client: Any,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A goal of which the publish was lost is shown after the gap, and after a reconnection."""
    monkeypatch.chdir(tmp_path)
    with running_backend("redis") as servers:
        monkeypatch.setenv("SOCKETCLUSTER_BROKER", f"{servers.url}?heartbeat_interval=0.1")
        folder = ROOT / "examples" / "gaps"
        module = load(folder / "server.py")
        server = await make_server(module.server)
        shown: list[int] = []
        client = make_client(server)
        running.start(load(folder / "client.py").follow(client, "final", shown.append))
        await until(lambda: shown == [0])
        assert await soon(client.invoke("goal", "final")) == 1
        await until(lambda: shown == [0, 1])
        scored = module.database.execute

        def goal_without_publish() -> None:
            with module.database:
                scored("UPDATE scores SET goals = goals + 1")

        goal_without_publish()
        redis_cli(servers.nodes[0].port, "CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: shown == [0, 1, 2])
        goal_without_publish()
        client.reconnect()
        await until(lambda: shown == [0, 1, 2, 3])
        await until(lambda: server.exchange.broker.ready)
    module.database.close()
