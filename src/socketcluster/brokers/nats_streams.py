"""Streams of JetStream: made when they are needed, checked, and the epochs of histories.

One stream has the stored publishes of all channels with the same retention. It republishes each to
the subject of its channel.

Source: NATS documentation, "Streams", "JetStream wire API Reference".
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime
from typing import Any, NamedTuple
from zlib import crc32

from socketcluster.brokers.adapter import StoredPublish
from socketcluster.brokers.nats_names import Names
from socketcluster.brokers.nats_requests import (
    NO_MESSAGE,
    STORE_FAILED,
    STREAM_NOT_FOUND,
    ApiError,
    Requests,
    api_error,
    checked,
)
from socketcluster.brokers.storing import Retention
from socketcluster.errors import BrokerError

DUPLICATE_SECONDS = 300
"""How long a stream recognizes a second publish with the same id."""

EXTRA_SECONDS = 600
"""How much longer than its ttl a publish stays in its stream, at least; no reader sees it then. It
proves that a position is still that of the channel. A stream cannot recognize ids for longer than
it keeps messages."""

MAX_STREAMS = 1000
"""How many streams a link follows because messages name them. Any program can forge such names."""

NANOSECONDS = 10**9
MAX_DIGITS = 19
"""Digits of a sequence."""

MARK_ROOM = 3
"""How many marks a channel may have beside its publishes."""

MARK = b"\r\nSc-Mark: "
"""The header of a mark. The number of the last publish before it follows, or `-` if that is
unknown. So the mark says that no publish is between them."""

FIRST_MARK = b"Sc-Mark: -"

_HEADER = re.compile(rb"\r\n(?:Nats|Sc)-(Sequence|Subject|Time-Stamp|Mark): ([^\r]*)")


class StreamMessage(NamedTuple):
    """A message in a stream.

    Attributes:
        sequence: its number.
        subject: that under which it was stored.
        stored_at: when the server stored it, in seconds since 1970.
        payload: its data.
        mark: None for a publish. For a mark, the number of the last publish before it, or its own
            if that is unknown.
    """

    sequence: int
    subject: str
    stored_at: float
    payload: bytes
    mark: int | None

    @property
    def place(self) -> int:
        """The offset of the position behind this message."""
        return self.sequence if self.mark is None else self.mark


class StreamState(NamedTuple):
    """The numbers of a stream.

    Attributes:
        first: the sequence of its oldest message, or the next one if it is empty.
        last: the sequence of its newest message.
    """

    first: int
    last: int


class Streams:
    """Makes, reads and checks streams.

    Args:
        requests: those of the link.
        names: those of the application.
        replicas: how many servers keep a new stream.
    """

    def __init__(self, requests: Requests, names: Names, replicas: int) -> None:
        self.requests: Requests = requests
        self.names: Names = names
        self._replicas = replicas

    async def info(self, name: str, config: dict[str, Any], create: bool = True) -> dict[str, Any]:
        """Return the configuration and the state of a stream, which is made if there is none.

        Raises:
            BrokerError: JetStream is off, or the user may not make the stream.
        """
        try:
            return await self.requests.api(f"STREAM.INFO.{name}")
        except ApiError as error:
            if error.number != STREAM_NOT_FOUND or not create:
                raise
        full = {"name": name, "num_replicas": self._replicas, "storage": "file", **config}
        full |= {"retention": "limits", "max_msgs": -1, "max_bytes": -1}
        return await self.requests.api(f"STREAM.CREATE.{name}", full)

    async def get(self, stream: str, query: dict[str, Any], direct: bool) -> StreamMessage | None:
        """Return a message of a stream; None if there is none.

        Args:
            stream: its name.
            query: which message, as `$JS.API.STREAM.MSG.GET` takes it.
            direct: ask any server that has the stream, which costs it less than asking the leader.
                Only the leader knows all that it confirmed.

        Raises:
            BrokerError: the server did not answer, or refused.
        """
        if not direct:
            return await self._get_from_leader(stream, query)
        body = json.dumps(query).encode()
        answer = await self.requests.ask(f"$JS.API.DIRECT.GET.{stream}", body)
        if answer.missing:
            return None
        fields = dict(_HEADER.findall(answer.headers))
        if not fields.keys() >= {b"Sequence", b"Subject", b"Time-Stamp"}:
            raise api_error(0, f"the stream {stream!r} cannot be read")
        sequence = int(fields[b"Sequence"])
        return StreamMessage(
            sequence,
            fields[b"Subject"].decode(errors="replace"),
            _seconds(fields[b"Time-Stamp"].decode()),
            answer.payload,
            parse_mark(fields.get(b"Mark"), sequence),
        )

    async def _get_from_leader(self, stream: str, query: dict[str, Any]) -> StreamMessage | None:
        try:
            data = await self.requests.api(f"STREAM.MSG.GET.{stream}", query)
        except ApiError as error:
            if error.number in (NO_MESSAGE, STREAM_NOT_FOUND):
                return None
            raise
        message = data["message"]
        payload = base64.b64decode(message.get("data", ""))
        stored_at = _seconds(message["time"])
        fields = dict(_HEADER.findall(base64.b64decode(message.get("hdrs", ""))))
        sequence = message["seq"]
        mark = parse_mark(fields.get(b"Mark"), sequence)
        return StreamMessage(sequence, message["subject"], stored_at, payload, mark)


def parse_mark(value: bytes | None, sequence: int) -> int | None:
    """Return the mark of a message with a sequence; `value` is that of its header, if any."""
    if value is None:
        return None
    is_number = value.isdigit() and len(value) <= MAX_DIGITS  # Any program can set a header.
    return min(int(value), sequence) if is_number else sequence


class Followed:
    """A channel that the link is subscribed to.

    Attributes:
        top: the offset of the newest position that the link knows; 0 if it knows none.
        end: the sequence of the newest message, which may be a mark.
        idle: for how many rounds no message came; -1 if its history was never read.
    """

    __slots__ = ("end", "idle", "top")

    def __init__(self) -> None:
        self.top: int = 0
        self.end: int = 0
        self.idle: int = -1


class HistoryStream:
    """The stream of one retention, as a link knows it.

    Attributes:
        name: its name.
        start: what the subjects of its publishes begin with.
        created: when it was made, by the server's words; empty until it is read, and when the
            stream may be another one.
        epoch: the epoch of its histories, if `created` is known.
        renewal: how often the epoch was renewed.
        direct: whether any server may be asked for its messages.
        newest: the highest sequence of a message that arrived.
        followed: the channels that the link is subscribed to, by subject.
        seconds: how long it keeps messages.
        marked_at: when its idle channels were last looked for, by the loop's clock.
        waiting: publishes that wait until the stream is known.
        opening: whether the link is reading what it has to know.
    """

    def __init__(self, streams: Streams, retention: Retention) -> None:
        names = streams.names
        self.name: str = names.stream(retention)
        self.retention: Retention = retention
        self.start: str = names.stored(retention)
        self.token: str = self.start.removeprefix(f"{names.own}history.").removesuffix(".")
        self.created: str = ""
        self.epoch: str = ""
        self.renewal: int = 0
        self.direct: bool = True
        self.newest: int = 0
        self.followed: dict[bytes, Followed] = {}
        self.waiting: list[StoredPublish] = []
        self.opening: bool = False
        self.marked_at: float = 0.0
        self.seconds: float = retention.ttl + max(retention.ttl, EXTRA_SECONDS)
        self._streams = streams

    @property
    def ready(self) -> bool:
        """Whether publishes and messages need not wait."""
        return bool(self.created) and not self.opening

    @property
    def config(self) -> dict[str, Any]:
        """The settings that the stream must have."""
        return {
            "subjects": [f"{self.start}>"],
            "max_age": round(self.seconds * NANOSECONDS),
            # One more than readers see: its presence proves that no other was dropped after it.
            "max_msgs_per_subject": self.retention.size + 1 + MARK_ROOM,
            "duplicate_window": DUPLICATE_SECONDS * NANOSECONDS,
            "allow_direct": True,
            "republish": {"src": f"{self.start}>", "dest": f"{self._streams.names.channels}>"},
        }

    async def refresh(self, create: bool = True) -> StreamState:
        """Read the state of the stream and its epoch. Unless `create` is false, make it.

        Raises:
            BrokerError: JetStream refused or is off, or the stream's configuration is wrong.
        """
        info = await self._streams.info(self.name, self.config, create)
        created = info["created"]
        if created != self.created:
            self._check(info["config"])
            await self._streams.requests.until_heard(f"{self.start}-")
        record = await self._streams.get(
            self._renewals_stream, {"last_by_subj": f"{self._renewals(created)}*"}, False
        )
        self.renewal = 0 if record is None else _number(record.subject.rpartition(".")[2])
        epoch = f"{_digits(created)}-{self.renewal}"
        if epoch != self.epoch:
            self.followed.clear()
            self.newest = 0
        self.epoch = epoch
        self.created = created
        self.direct = info["config"]["num_replicas"] == 1
        state = info["state"]
        self.newest = min(self.newest, state["last_seq"])  # A forged message may have raised it.
        return StreamState(state["first_seq"], state["last_seq"])

    def _check(self, found: dict[str, Any]) -> None:
        differences = [
            f"{name} is {found.get(name)!r} and must be {value!r}"
            for name, value in self.config.items()
            if found.get(name) != value
        ]
        if differences:
            raise BrokerError(
                f"The stream {self.name!r} of JetStream exists with another configuration: "
                f"{'; '.join(differences)}. Delete it, or change it (see History in NATS in "
                "docs/scaling.md; the NATS server must be 2.9 or newer)"
            )

    async def renew(self) -> None:
        """Give the histories a new epoch, unless another process has done so since `refresh`.

        Raises:
            BrokerError: JetStream refused or is off.
        """
        own = self._streams.names.own
        subject = f"{self._renewals(self.created)}{self.renewal + 1}"
        # The stream takes one message of each subject: that of the first process. Comparing the
        # last sequence of the subject would not do. In clusters before NATS 2.9.21 several
        # processes may succeed (nats-server issue 4320).
        config = {
            "subjects": [f"{own}epoch.>"],
            "max_age": 0,
            "max_msgs_per_subject": 1,
            "discard": "new",
            "discard_new_per_subject": True,
            "republish": {"src": f"{own}epoch.>", "dest": f"{own}renewed.>"},
        }
        await self._streams.info(self._renewals_stream, config)
        await self._streams.requests.until_heard(f"{own}epoch.-")
        answer = await self._streams.requests.ask(subject)
        try:
            checked(answer)
        except ApiError as error:
            if error.number != STORE_FAILED:
                raise
        self.created = ""

    @property
    def _renewals_stream(self) -> str:
        return f"{self._streams.names.streams}epochs"

    def _renewals(self, created: str) -> str:
        """Return what the subjects of renewals of a stream begin with; their number follows."""
        return f"{self._streams.names.own}epoch.{self.token}.{_digits(created)}."


class Histories:
    """The streams of histories that a link has met.

    Attributes:
        by_name: those, by their names.
    """

    def __init__(self, streams: Streams) -> None:
        self.by_name: dict[str, HistoryStream] = {}
        self._streams = streams
        self._by_retention: dict[Retention, HistoryStream] = {}

    def of(self, retention: Retention) -> HistoryStream:
        """Return the stream of a retention."""
        stream = self._by_retention.get(retention)
        if stream is None:
            made = HistoryStream(self._streams, retention)
            stream = self.by_name.setdefault(made.name, made)
            self._by_retention[retention] = stream
        return stream

    def find(self, name: str) -> HistoryStream | None:
        """Return the stream with a name; None if it is another program's."""
        stream = self.by_name.get(name)
        if stream is None and len(self.by_name) < MAX_STREAMS:
            retention = self._streams.names.retention(name)
            return None if retention is None else self.of(retention)
        return stream


def _number(text: str) -> int:
    """Return the number of a renewal: a number for any text, since other programs can renew."""
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    return int(text) if is_number else crc32(text.encode())


def _digits(text: str) -> str:
    return re.sub(r"[^0-9]", "", text)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
