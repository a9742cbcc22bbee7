"""The NATS parser: whole input, and input in pieces."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import ProtocolError

from socketcluster.brokers.nats_parser import MessageParser

STREAM = (
    b"PING\r\n"
    b"MSG a 1 5\r\nhello\r\n"
    b"MSG b 2 reply.to 0\r\n\r\n"
    b"+OK\r\n"
    b"MSG a 1 15\r\nMSG a 1 2\r\n\r\n\r\n\r\n"
    b"HMSG a 1 12 16\r\nNATS/1.0\r\n\r\nfour\r\n"
    b"MSG unknown 3 2\r\nno\r\n"
    b"HMSG b 2 reply.to 12 12\r\nNATS/1.0\r\n\r\n\r\n"
    b"PONG\r\n"
    b"-ERR 'Slow Consumer'\r\n"
    b"MSG b 2 4\r\nlast\r\n"
)
EXPECTED = [
    "ping",
    ("a", b"", b"hello"),
    ("b", b"reply.to", b""),
    ("a", b"", b"MSG a 1 2\r\n\r\n\r\n"),
    ("a", b"", b"four"),
    ("b", b"reply.to", b""),
    "pong",
    "slow consumer",
    ("b", b"", b"last"),
]


class Recorder(Client):
    """A client that records what its parser calls."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.parser = MessageParser.of(self)
        for subject in ("a", "b"):
            self.parser.receivers[subject.encode()] = partial(self._receive, subject)

    def _receive(self, subject: str, reply: bytes, payload: bytes) -> None:
        self.seen.append((subject, reply, payload))

    async def _process_ping(self) -> None:
        self.seen.append("ping")

    async def _process_pong(self) -> None:
        self.seen.append("pong")

    async def _process_err(self, error: str) -> None:
        self.seen.append(error.strip("'"))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 50, len(STREAM)])
async def test_all_comes_in_order_however_it_is_cut(size: int) -> None:
    client = Recorder()
    for start in range(0, len(STREAM), size):
        await client.parser.parse(STREAM[start : start + size])
    assert client.seen == EXPECTED


@pytest.mark.parametrize(
    "data",
    [
        *(b"MSG\r\n", b"MSG a\r\n", b"MSG a 1 two\r\nhi\r\n", b"MSG a 1 -20\r\n"),
        *(b"HMSG a 1 2\r\n", b"HMSG a 1 5 2\r\nhi\r\n", b"HELLO\r\n", b"\r\n"),
    ],
)
async def test_what_is_no_protocol_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        await Recorder().parser.parse(b"MSG a 1 2\r\nhi\r\n" + data)


async def test_another_connection_begins_anew() -> None:
    client = Recorder()
    await client.parser.parse(b"MSG a 1 5\r\nhel")
    client.parser.reset()
    await client.parser.parse(b"MSG a 1 2\r\nhi\r\n")
    assert client.seen == [("a", b"", b"hi")]


@pytest.mark.parametrize("size", [1, 5, 40, 1000])
async def test_headers_choose_the_receiver_and_other_messages_are_told(size: int) -> None:
    client = Recorder()
    seen: list[Any] = []

    def headed(subject: bytes, headers: bytes) -> Any:
        if b"drop" in headers:
            return None
        return lambda reply, payload: seen.append((subject, headers, reply, payload))

    client.parser.headed = headed
    client.parser.unrouted = lambda subject, payload: seen.append((subject, payload))
    stream = (
        b"HMSG a 1 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n"
        b"MSG other 1 2\r\nyo\r\n"
        b"MSG a 1 2\r\nhi\r\n"
        b"HMSG other 1 re 12 12\r\nNATS/1.0\r\n\r\n\r\n"
        b"HMSG other 1 18 20\r\nNATS/1.0\r\ndrop\r\n\r\nhi\r\n"
        b"-ERR 'Some Error'\r\n"
    )
    for start in range(0, len(stream), size):
        await client.parser.parse(stream[start : start + size])
    assert seen == [
        (b"a", b"NATS/1.0\r\nA: b\r\n\r\n", b"", b"hi"),
        (b"other", b"yo"),
        (b"other", b"NATS/1.0\r\n\r\n", b"re", b""),
        (b"other", b"hi"),
    ]
    assert client.seen == [("a", b"", b"hi"), "some error"]
    assert client.parser.last_error == "-ERR 'Some Error'"
