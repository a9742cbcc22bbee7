"""Official clients see the members of a channel, without a line of code of their own for it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from socketcluster import AGServer, AGServerSocket, ChannelRule, Presence
from support import connected, require

JS = Path(__file__).parent / "js"
KEY = "k" * 32


def name_of(socket: AGServerSocket) -> Any:
    return {"name": (socket.auth_token or {})["name"]}


def token(server: AGServer, user: str) -> str:
    signed: Any = server.auth.sign_token(
        {"sub": user, "name": user.title()}, server.signature_key, {}
    )
    assert isinstance(signed, str)
    return signed


@asynccontextmanager
async def npm_client(*arguments: str) -> AsyncIterator[Any]:
    process = await asyncio.create_subprocess_exec(
        *("node", "presence.js", *arguments),
        cwd=JS,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None

    async def line() -> Any:
        assert process.stdout is not None
        return json.loads(await asyncio.wait_for(process.stdout.readline(), 30))

    def order(command: str) -> None:
        assert process.stdin is not None
        process.stdin.write(command.encode() + b"\n")

    try:
        yield line, order
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Shown:
    """What a page would show, by the rules of docs/presence.md."""

    def __init__(self) -> None:
        self.members: dict[str, Any] = {}
        self.count = 0

    def take(self, data: Any) -> None:
        self.count = data["count"]
        if "state" in data:
            self.members = data["state"]
        else:
            for user in data["leave"]:
                del self.members[user]
            self.members |= data["join"]


@pytest.mark.parametrize("client", ["client14", "client16", "client17", "client19", "client20"])
async def test_official_clients_see_the_members(make_server: Any, client: str) -> None:
    require(shutil.which("node") is not None, "Node.js")
    require((JS / "node_modules" / client).is_dir(), "the npm packages: make interop-clients")
    server = await make_server(
        auth_key=KEY,
        protocol_version=1 if client == "client14" else 2,
        channels=[ChannelRule("room/*", presence=Presence(info=name_of, leave_delay=0))],
    )
    shown = Shown()
    arguments = client, str(server.source_port), token(server, "alice")
    async with npm_client(*arguments) as (line, order):

        async def until(members: set[str], count: int) -> None:
            while (set(shown.members), shown.count) != (members, count):
                shown.take((await line())["shown"])

        await until({"alice"}, 1)
        assert shown.members == {"alice": [{"name": "Alice"}]}
        async with connected(server, token=token(server, "bob")) as bob:
            await bob.call("#subscribe", {"channel": "room/1"})
            await until({"alice", "bob"}, 2)
            async with connected(server) as guest:
                await guest.call("#subscribe", {"channel": "room/1"})
                await until({"alice", "bob"}, 3)
        await until({"alice"}, 1)
        order("publish")
        reason = "Clients cannot publish to the $presence/room/1 channel: only the server does"
        assert await line() == {"refused": reason}
        (socket,) = server.clients.values()
        await socket.kick_out("room/1")
        kicked = {(await line()).get("kickedOut") for _ in range(2)}
        assert kicked == {"room/1", "$presence/room/1"}
        order("leave")
