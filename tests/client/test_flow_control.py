"""Guarantee 4 for a client: the backlog of its loops is bounded in bytes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from client.fakes import Peer, fake_server
from client.parts import gauge_of
from socketcluster.errors import InvalidMessageError
from support import names, record, soon, until

LONG = "x" * 10_000
LIMIT = 200_000


@pytest.mark.parametrize("kind", ["channel", "receiver", "procedure"])
async def test_a_slow_loop_stops_the_reading_by_bytes(make_client: Any, kind: str) -> None:
    """Guarantee 4: past `max_inbound_backlog_bytes` reading pauses."""
    count = 3000
    ended = asyncio.Event()

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.send({"rid": (await peer.call("#subscribe"))["cid"]})
        await peer.call("go")
        for number in range(count):
            data = [number, LONG]
            if kind == "channel":
                publish = {"event": "#publish", "data": {"channel": "c", "data": data}}
                await peer.send(json.dumps(publish, separators=(",", ":")))
            elif kind == "receiver":
                await peer.send({"event": "n", "data": data})
            else:
                await peer.send({"event": "n", "data": data, "cid": number + 1})
        ended.set()

    async with fake_server(handle) as port:
        client = make_client(port, max_inbound_backlog_bytes=LIMIT)
        channel = client.subscribe("c")
        stream = channel if kind == "channel" else getattr(client, kind)("n")
        consumer = stream.create_consumer()
        await channel.listener("subscribe").once(4000)
        client.transmit("go")
        await until(lambda: gauge_of(client).size > LIMIT)
        for _ in range(300):
            await asyncio.sleep(0)
        assert not ended.is_set()
        assert consumer.get_backpressure() < 100
        for number in range(count):
            value = (await consumer.next(4000)).value
            if kind == "procedure":
                value.end()
                value = value.data
            assert value[0] == number
        await soon(ended.wait())
        assert gauge_of(client).size == 0
        assert client.state == "open"


async def test_data_that_cannot_be_parsed_is_passed_over(make_client: Any) -> None:
    bad = f'["{LONG}",1e999]'

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.send({"rid": (await peer.call("#subscribe"))["cid"]})
        await peer.call("go")
        await peer.send(f'{{"event":"n","data":{bad}}}')
        await peer.send(f'{{"event":"n","data":{bad},"cid":5}}')
        await peer.send(f'{{"event":"#publish","data":{{"channel":"c","data":{bad}}}}}')
        await peer.send({"event": "#publish", "data": {"channel": "c", "data": LONG}})
        await peer.send({"event": "n", "data": LONG})

    async with fake_server(handle) as port:
        client = make_client(port)
        found = record(client)
        channel = client.subscribe("c")
        published, received = channel.create_consumer(), client.receiver("n").create_consumer()
        await channel.listener("subscribe").once(4000)
        client.transmit("go")
        assert (await published.next(4000)).value == LONG
        assert (await received.next(4000)).value == LONG
        errors = [event.error for name, event in found if name == "error"]
        assert names(found).count("error") == 3
        assert all(isinstance(error, InvalidMessageError) for error in errors)
        assert gauge_of(client).size == 0
