"""What a NATS server sends, taken apart: messages here, all else by nats-py.

nats-py puts each message into a queue, for a task of its subscription; this calls the receiver of
its subject at once, in a quarter of the time. The private names of nats-py are used here alone.

Source: NATS documentation, "Client protocol" (MSG, HMSG); nats-py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

Receiver = Callable[[bytes, bytes], None]
"""Called with the reply subject of a message, empty if it has none, and its payload."""


class MessageParser(Parser):
    """The parser of a client.

    Attributes:
        receivers: who gets the messages of a subject; those of others are dropped.
    """

    @classmethod
    def of(cls, client: Client) -> MessageParser:
        """Have a client, not yet connected, use one."""
        parser = cls(client)
        client._ps = parser
        return parser

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.receivers: dict[bytes, Receiver] = {}

    def reset(self) -> None:
        """Forget what is incomplete: another connection begins."""
        super().reset()
        self._rest = b""

    async def parse(self, data: bytes = b"") -> None:
        """Take what has come; what is incomplete waits for more.

        Raises:
            ProtocolError: it is no NATS protocol.
        """
        if self._rest:
            data = self._rest + data
        start, size = 0, len(data)
        receivers = self.receivers
        while (line_end := data.find(b"\r\n", start)) >= 0:
            first = line_end + 2
            fields = data[start:line_end].split()
            kind = fields[0] if fields else b""
            if kind != b"MSG" and kind != b"HMSG":
                await super().parse(data[start:first])
                start = first
                continue
            try:
                last = first + int(fields[-1])
                if kind == b"HMSG":
                    first += int(fields.pop(-2))
                reply = fields[3] if len(fields) == 5 else b""
                receive = receivers.get(fields[1])
                if len(fields) < 4 or last < first:
                    raise ValueError("a field is missing, or a length is wrong")
            except (ValueError, IndexError) as error:
                raise ProtocolError("nats: malformed MSG") from error
            if last + 2 > size:
                break
            start = last + 2
            if receive is not None:
                receive(reply, data[first:last])
        self._rest = data[start:]


async def answered(client: Client, seconds: int) -> None:
    """Wait until the server has dealt with all that the client was given so far.

    `Client.flush` alone does not: it writes its PING to the socket at once, which overtakes what
    nats-py has still to write, and the PONG would confirm a publish that nobody has seen. nats-py's
    own way to wait for that, `_flush_pending`, swallows a cancellation.

    It may wait for ever once the connection is lost: then the caller is to cancel it.

    Raises:
        Error: of nats-py; the connection is lost or there was no answer.
    """
    flusher = client._flusher_task
    if flusher is not None and not flusher.done():
        assert client._flush_queue is not None
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await client._flush_queue.put(written)
        await written
    await client.flush(seconds)
