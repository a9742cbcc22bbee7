"""Publishes that no subscriber's buffer can hold."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from socketcluster import AGServer
from socketcluster.errors import ResourceLimitError
from support import AnswerError, connected, soon

LIMIT = 100_000


def payload_of(frame: int, channel: str = "a") -> str:
    """Return a text whose publish on the channel has a frame of so many bytes, its header apart."""
    return "x" * (frame - len('{"event":"#publish","data":{"channel":"","data":""}}' + channel))


@pytest.mark.parametrize("droppable", [[], ["a"]], ids=["ordinary", "droppable"])
async def test_a_publish_above_every_buffer_is_refused_and_closes_nobody(
    make_server: Any, droppable: list[str]
) -> None:
    server: AGServer = await make_server(max_outbound_buffer=LIMIT, droppable_channels=droppable)
    async with connected(server) as subscriber, connected(server) as publisher:
        await subscriber.call("#subscribe", {"channel": "a"})
        for _ in range(2):
            with pytest.raises(AnswerError, match=r"max_outbound_.*'ResourceLimitE"):
                await publisher.call("#publish", {"channel": "a", "data": payload_of(LIMIT + 1)})
        for publish in (server.exchange.invoke_publish, transmitted(server)):
            with pytest.raises(ResourceLimitError, match="max_outbound_buffer"):
                await publish("a", payload_of(LIMIT + 1))
        largest = payload_of(LIMIT - 10)  # The frame's header has ten bytes.
        await publisher.call("#publish", {"channel": "a", "data": largest})
        assert (await soon(subscriber.event()))["data"]["data"] == largest
        await soon(server.exchange.invoke_publish("a", "next"))
        assert (await soon(subscriber.event()))["data"]["data"] == "next"


def transmitted(server: AGServer) -> Any:
    async def publish(channel: str, data: Any) -> None:
        server.exchange.transmit_publish(channel, data)

    return publish


async def test_a_message_of_another_process_above_every_buffer_is_dropped_and_named(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server: AGServer = await make_server(max_outbound_buffer=LIMIT)
    async with connected(server) as subscriber:
        await subscriber.call("#subscribe", {"channel": "a"})
        listener = server.exchange.delivery
        listener.backend_message_received("a", b'"%s"' % payload_of(LIMIT + 1).encode())
        listener.backend_message_received("a", b'"next"')
        assert (await soon(subscriber.event()))["data"]["data"] == "next"
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    text = warnings[0].getMessage()
    assert "'a'" in text
    assert "has 100011 bytes" in text


@pytest.mark.parametrize("count", [2, 5000])
async def test_envelopes_in_envelopes_are_foreign(
    make_server: Any, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    """A program that writes to the backend could end the link of a process with them."""
    server: AGServer = await make_server()
    async with connected(server) as subscriber:
        await subscriber.call("#subscribe", {"channel": "a"})
        listener = server.exchange.delivery
        listener.backend_message_received("a", b"\xc1\x01\x00" * count + b'"nested"')
        listener.backend_message_received("a", b"\xc1\x01\x00" + b'"next"')
        assert (await soon(subscriber.event()))["data"]["data"] == "next"
    assert "foreign" in caplog.text
