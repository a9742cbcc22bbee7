"""The client against the real JavaScript servers, scenario by scenario."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from interop.servers import npm_server
from interop.test_clients import SCENARIOS
from socketcluster import AGChannel, AGClientSocket
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import SocketClusterError
from support import Running, soon

SERVERS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "npm 20": ("server20", {}, "", {}),
    "npm 20, min-bin": ("server20", {}, "sc-codec-min-bin", {"codec_engine": MinBinCodec()}),
    "npm 20, deflate": (
        "server20",
        {"perMessageDeflate": {"threshold": 0}},
        "",
        {"ws_options": {"per_message_deflate": True}},
    ),
    "npm 14": ("server14", {}, "", {"protocol_version": 1}),
}


class Scenarios:
    """Two clients, `a` and `b`, and what they do."""

    def __init__(self, make: Callable[[], AGClientSocket], running: Running) -> None:
        self.make = make
        self.running = running
        self.token: str | None = None
        self.channels: list[AGChannel] = []

    async def connect(self) -> None:
        self.a, self.b = self.make(), self.make()
        connected = [c.listener("connect").create_consumer() for c in (self.a, self.b)]
        for consumer in connected:
            await consumer.next(4000)
        assert self.a.id is not None
        assert self.a.id != self.b.id

    async def invoke(self) -> None:
        for data in ("text", 5, {"a": [1, None, "é"]}, True):
            assert await self.a.invoke("echo", data) == data

    async def invoke_with_error(self) -> None:
        with pytest.raises(SocketClusterError, match="why") as raised:
            await self.a.invoke("fail", "why")
        assert raised.value.name == "OddError"
        with pytest.raises(TimeoutError):  # These servers do not answer it.
            await self.a.invoke("nobody handles this", ack_timeout=50)

    async def transmit(self) -> None:
        back = self.a.receiver("noted").create_consumer()
        self.a.transmit("note", {"n": 1})
        assert (await back.next(4000)).value == {"n": 1}

    async def server_invokes(self) -> None:
        requests = self.a.procedure("double").create_consumer()

        async def answer() -> None:
            async for request in requests:
                request.end(request.data * 2)

        self.running.start(answer())
        assert await self.a.invoke("call me back", 21) == 42

    async def login(self) -> None:
        authenticated = self.a.listener("authenticate").create_consumer()
        await self.a.invoke("login", {"name": "bob"})
        await authenticated.next(4000)
        self.token = self.a.signed_auth_token
        assert self.a.auth_token["name"] == "bob"
        assert (await self.a.invoke("who"))["name"] == "bob"

    async def reconnect_with_token(self) -> None:
        self.a.disconnect(4100, "again")
        assert self.a.pending_reconnect
        connected = self.a.listener("connect").create_consumer()
        self.a.connect()
        event = (await connected.next(4000)).value
        assert event is not None
        assert event.is_authenticated
        assert self.a.signed_auth_token == self.token
        assert (await self.a.invoke("who"))["name"] == "bob"

    async def subscribe(self) -> None:
        for client in (self.a, self.b):
            channel = client.subscribe("room")
            await channel.listener("subscribe").once(4000)
            self.channels.append(channel)
        assert self.a.is_subscribed("room")

    async def publish_both_ways(self) -> None:
        consumers = [channel.create_consumer() for channel in self.channels]
        await self.b.invoke_publish("room", {"text": "hi"})
        await self.a.invoke("publish for me", "from the server")
        self.a.transmit_publish("room", "at once")
        for consumer in consumers:
            for expected in ({"text": "hi"}, "from the server", "at once"):
                assert (await consumer.next(4000)).value == expected
        found = await self.a.invoke("what was published")
        assert found == [{"text": "hi"}, "from the server", "at once"]

    async def kick_out(self) -> None:
        kicked = self.b.listener("kickOut").create_consumer()
        await self.b.invoke("kick me", "room")
        event = (await kicked.next(4000)).value
        assert event is not None
        assert (event.channel, event.message) == ("room", "Out")
        assert not self.b.is_subscribed("room", True)
        assert self.a.is_subscribed("room")

    async def unsubscribe(self) -> None:
        self.channels[0].unsubscribe()
        assert await self.a.invoke("my channels") == []

    async def batching(self) -> None:
        self.a.start_batch()
        calls = [self.running.start(self.a.invoke("echo", n)) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        self.a.flush_batch()
        assert await asyncio.gather(*calls) == [1, 2, 3]
        one, two = (self.a.receiver(name).create_consumer() for name in ("one", "two"))
        await self.a.invoke("batch to me")
        assert ((await one.next(4000)).value, (await two.next(4000)).value) == (1, 2)

    async def ping_and_pong(self) -> None:
        assert await self.a.invoke("wait for pings", 6) == "still here"

    async def deauthenticate(self) -> None:
        gone = self.a.listener("deauthenticate").create_consumer()
        await self.a.invoke("logout")
        await gone.next(4000)
        assert self.a.auth_state == "unauthenticated"
        assert await self.a.invoke("who") is None

    async def disconnect_by_the_server(self) -> None:
        closed = self.a.listener("disconnect").create_consumer()
        self.a.transmit("disconnect me", 4501)
        event = (await closed.next(4000)).value
        assert event is not None
        assert (event.code, event.reason) == (4501, "Enough")
        assert not self.a.pending_reconnect


def method(scenario: str) -> str:
    return scenario.replace(" ", "_").replace("-", "_")


@pytest.mark.parametrize("server", SERVERS)
async def test_server(
    make_client: Any, running: Running, server: str, record_property: Any
) -> None:
    module, server_options, codec, options = SERVERS[server]
    results: dict[str, bool] = {}
    failed: list[str] = []
    with npm_server(module, server_options, codec) as port:
        scenarios = Scenarios(lambda: make_client(port, ack_timeout=4000, **options), running)
        for scenario in SCENARIOS:
            run: Callable[[], Awaitable[None]] = getattr(scenarios, method(scenario))
            try:
                await soon(run())
                results[scenario] = True
            except Exception:
                results[scenario] = False
                failed.append(f"{scenario}: {traceback.format_exc()}")
    record_property("server", server)
    record_property("results", results)
    assert not failed, "\n".join(failed)
