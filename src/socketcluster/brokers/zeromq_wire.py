"""The messages between a process and the ZeroMQ proxy, and the account of those on the way.

A message has one part: its number, the number of the last message that its sender took from the
other side (8 bytes each, big-endian), then records. Numbers count from 1 in each direction of a
link, so that a lost message is noticed. A message without records has the number 0: it only
acknowledges.

A record is a kind (1 byte), the length of a topic (2 bytes) and of a body (4 bytes), the topic and
the body. The body of publishes is their number and the length of each payload (4 bytes each), then
the payloads: a table of lengths takes Python half the time of a length before each payload.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

PUBLISH = 1
SUBSCRIBE = 2
UNSUBSCRIBE = 3
CUT = 4
"""The proxy ends the link; the body is the reason."""

STORE = 5
REQUEST = 6
ANSWER = 7
"""See `zeromq_store`."""

BATCH_BYTES = 256 * 1024
"""How many bytes of records a message holds, unless it is a single record."""

WINDOW_BYTES = 1024 * 1024
"""How many bytes may be on the way to a process; the proxy keeps further ones.

ZeroMQ would read them into the memory of a process that does not take them."""

MAX_TOPIC_BYTES = 65535

BODY_OVERHEAD = 8
"""Bytes in the body of a single publish beside the payload."""

RECORD_OVERHEAD = 64
"""Bytes that a queued record or message takes beside its content."""

WRONG_FORM = "A message has a wrong form"

_HEADER = struct.Struct(">QQ")
_RECORD = struct.Struct(">BHI")
_COUNT = struct.Struct(">I")
_IDENTITY = struct.Struct(">c8sI")

Record = tuple[int, bytes, int, int, int]
"""Kind, topic, and where the record, its body and the next record start in the message."""


class LinkError(Exception):
    """A message of the other side is missing, or has a wrong form."""


def identity_of(process: bytes, epoch: int) -> bytes:
    """Return the ZeroMQ identity of a process's link. ZeroMQ reserves a first byte of 0."""
    return _IDENTITY.pack(b"p", process, epoch)


def identity_parts(identity: bytes) -> tuple[bytes, int] | None:
    """Return the process and the epoch of an identity; None if it has another form."""
    if len(identity) != _IDENTITY.size or identity[:1] != b"p":
        return None
    _, process, epoch = _IDENTITY.unpack(identity)
    return process, epoch


def record_of(kind: int, topic: bytes, body: bytes = b"") -> bytes:
    """Return a record."""
    return _RECORD.pack(kind, len(topic), len(body)) + topic + body


def body_of(payloads: Sequence[bytes]) -> bytes:
    """Return the body of a record of publishes."""
    count = len(payloads)
    table = struct.pack(f">{count + 1}I", count, *map(len, payloads))
    return b"".join((table, *payloads))


def parts_of(payloads: list[bytes], size: int) -> Iterator[list[bytes]]:
    """Split payloads into parts whose bodies have at most `size` bytes, or a single payload."""
    size -= _COUNT.size
    if sum(map(len, payloads)) + 4 * len(payloads) <= size:
        yield payloads
        return
    part: list[bytes] = []
    filled = 0
    for payload in payloads:
        filled += len(payload) + 4
        if part and filled > size:
            yield part
            part, filled = [], len(payload) + 4
        part.append(payload)
    yield part


def payloads_in(message: bytes, start: int, end: int) -> list[bytes]:
    """Return the payloads of a body.

    Raises:
        LinkError: the body has a wrong form.
    """
    table = start + _COUNT.size
    if table > end:
        raise LinkError(WRONG_FORM)
    count: int = _COUNT.unpack_from(message, start)[0]
    start = table + 4 * count
    if start > end:
        raise LinkError(WRONG_FORM)
    payloads: list[bytes] = []
    for length in struct.unpack_from(f">{count}I", message, table):
        payloads.append(message[start : start + length])
        start += length
    if start != end:
        raise LinkError(WRONG_FORM)
    return payloads


def records_in(message: bytes) -> Iterator[Record]:
    """Yield the records of a message.

    Raises:
        LinkError: the message has a wrong form.
    """
    start, length = _HEADER.size, len(message)
    while start < length:
        if start + _RECORD.size > length:
            raise LinkError(WRONG_FORM)
        kind, topic_length, body_length = _RECORD.unpack_from(message, start)
        body = start + _RECORD.size + topic_length
        end = body + body_length
        if end > length:
            raise LinkError(WRONG_FORM)
        yield kind, message[body - topic_length : body], start, body, end
        start = end


class Flow:
    """One side's account of a link: the numbers of its messages, and the bytes on the way.

    Attributes:
        sent: the number of the last message that this side sent.
        acknowledged: the number of the last one that the other side took.
        received: the number of the last message that this side took.
        on_the_way: bytes of the messages that the other side has not acknowledged.
        unacknowledged: bytes of the messages that this side has not acknowledged.
    """

    __slots__ = ("_sizes", "acknowledged", "on_the_way", "received", "sent", "unacknowledged")

    def __init__(self) -> None:
        self.sent: int = 0
        self.acknowledged: int = 0
        self.received: int = 0
        self.on_the_way: int = 0
        self.unacknowledged: int = 0
        self._sizes: deque[int] = deque()

    def pack(self, records: Iterable[bytes]) -> bytes:
        """Return the next message to send."""
        self.sent += 1
        self.unacknowledged = 0
        message = _HEADER.pack(self.sent, self.received) + b"".join(records)
        size = len(message) + RECORD_OVERHEAD
        self._sizes.append(size)
        self.on_the_way += size
        return message

    def acknowledgment(self, records: bytes = b"") -> bytes:
        """Return a message outside the numbering."""
        self.unacknowledged = 0
        return _HEADER.pack(0, self.received) + records

    def take(self, message: bytes) -> None:
        """Account for a received message.

        Raises:
            LinkError: earlier messages are missing, or the message has a wrong form.
        """
        if len(message) < _HEADER.size:
            raise LinkError(WRONG_FORM)
        number, acknowledged = _HEADER.unpack_from(message)
        if number:
            if number != self.received + 1:
                raise LinkError(f"Message {self.received + 1} is missing; {number} follows")
            self.received = number
            self.unacknowledged += len(message) + RECORD_OVERHEAD
        if acknowledged > self.sent:
            raise LinkError(f"Message {acknowledged} is acknowledged, and was not sent")
        while self.acknowledged < acknowledged:
            self.acknowledged += 1
            self.on_the_way -= self._sizes.popleft()
