"""Parser of the NATS protocol: handles messages itself and leaves all other lines to nats-py.

nats-py queues each message for a task of its subscription. This parser calls the subject's receiver
at once, which takes a quarter of the time. Only this module uses private names of nats-py.

Source: NATS documentation, "Client protocol" (MSG, HMSG); nats-py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.errors import ProtocolError, SecureConnRequiredError
from nats.protocol.parser import Parser

Receiver = Callable[[bytes, bytes], None]
"""Called with a message's reply subject, empty if it has none, and its payload."""

Unrouted = Callable[[bytes, bytes], None]
"""Called with a message's subject, which has no receiver, and its payload."""

Headed = Callable[[bytes, bytes], Receiver | None]
"""Called with a message's subject and headers; returns the receiver of this message."""

_MESSAGE_KINDS = (b"MSG", b"HMSG")


class MessageParser(Parser):
    """The parser of one client.

    Attributes:
        receivers: subject → receiver of its messages.
        headed: finds the receiver of a message with headers. It is asked again, with all of the
            message, if a part of that was missing.
        last_error: the server's last error, which nats-py makes lower case.
        unrouted: takes messages without a receiver; drops them at first.
    """

    @classmethod
    def of(cls, client: Client) -> MessageParser:
        """Install a parser in a client that is not connected yet."""
        parser = cls(client)
        client._ps = parser
        return parser

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.receivers: dict[bytes, Receiver] = {}
        self.headed: Headed = lambda subject, headers: self.receivers.get(subject)
        self.last_error: str = ""
        self.unrouted: Unrouted = lambda subject, payload: None

    def reset(self) -> None:
        """Drop incomplete input, because a new connection begins."""
        super().reset()
        self._rest = b""

    async def parse(self, data: bytes = b"") -> None:
        """Parse received bytes; an incomplete line or message waits for more.

        Raises:
            ProtocolError: the bytes are not NATS protocol.
        """
        if self._rest:
            data = self._rest + data
        start, size = 0, len(data)
        receivers = self.receivers
        while (line_end := data.find(b"\r\n", start)) >= 0:
            first = line_end + 2
            fields = data[start:line_end].split()
            kind = fields[0] if fields else b""
            if kind not in _MESSAGE_KINDS:
                if kind == b"-ERR":
                    self.last_error = data[start:line_end].decode(errors="replace")
                await super().parse(data[start:first])
                start = first
                continue
            try:
                last = first + int(fields[-1])
                subject = fields[1]
                if kind == b"HMSG":
                    first += int(fields.pop(-2))
                    receive = self.headed(subject, data[line_end + 2 : first])
                else:
                    receive = receivers.get(subject)
                reply = fields[3] if len(fields) == 5 else b""
                if len(fields) < 4 or last < first:
                    raise ValueError("a field is missing, or a length is wrong")
            except (ValueError, IndexError) as error:
                raise ProtocolError("nats: malformed MSG") from error
            if last + 2 > size:
                break
            start = last + 2
            if receive is not None:
                receive(reply, data[first:last])
            else:
                self.unrouted(subject, data[first:last])
        self._rest = data[start:]


class TlsClient(Client):
    """A client that uses TLS with every server, or fails to connect.

    nats-py uses TLS only if the server requires it, and would send the credentials in plain text to
    one that does not.
    """

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and not info.get("tls_required"):
            if not info.get("tls_available"):
                raise SecureConnRequiredError
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)


def write(client: Client, data: bytes) -> None:
    """Send data after all that was sent before. On a lost connection it goes nowhere."""
    queue = client._flush_queue
    if queue is None or not client.is_connected:
        return
    client._pending.append(data)
    client._pending_data_size += len(data)
    if queue.empty():
        queue.put_nowait(asyncio.get_running_loop().create_future())


async def flush(client: Client, seconds: int) -> None:
    """Wait until the server has processed everything that the client sent so far.

    `Client.flush` alone does not do that. It writes its PING to the socket at once, ahead of data
    that nats-py has not written yet, so the PONG may confirm a publish that the server has not
    seen. nats-py's own `_flush_pending` waits for that data, but swallows a cancellation.

    Once the connection is lost this may wait forever; the caller must then cancel it.

    Raises:
        Error: nats-py's; the connection is lost, or there was no answer in time.
    """
    flusher = client._flusher_task
    if flusher is not None and not flusher.done():
        assert client._flush_queue is not None
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await client._flush_queue.put(written)
        await written
    await client.flush(seconds)
