"""Storing over ZeroMQ: the proxy keeps the histories, and loses them when it ends.

A process sends stored publishes in records of the kind STORE: the size and the seconds of the rule,
then the id and the payload of each in turn, the id empty if there is none. The proxy passes them on
as ordinary publishes, in their envelopes. All else is a REQUEST: a JSON object, then binary values.
Each gets an ANSWER of the same form with the same number. A long page comes in batches, each of
which is asked for, so that it neither fills the queue of the process nor delays publishes. The
proxy keeps the rest of it meanwhile, one page for each process.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count, groupby
from operator import attrgetter
from typing import Any

from socketcluster.brokers.adapter import StoredPublish
from socketcluster.brokers.memory_store import MemoryStore
from socketcluster.brokers.storing import Page, Position, Retention, StoredMessage
from socketcluster.brokers.zeromq_wire import (
    ANSWER,
    BATCH_BYTES,
    PUBLISH,
    RECORD_OVERHEAD,
    REQUEST,
    STORE,
    WINDOW_BYTES,
    WRONG_FORM,
    LinkError,
    body_of,
    payloads_in,
    record_of,
)
from socketcluster.errors import BrokerError
from socketcluster.protocol.envelopes import envelop_stored

MAX_REQUEST_BYTES = WINDOW_BYTES
"""How long a request may be: a proxy with the smallest `max_buffered` takes it."""

_RULE = struct.Struct(">Qd")

Head = dict[str, Any]

Answer = asyncio.Future[tuple[Head, list[bytes]]]

PageRest = deque[list[StoredMessage]]
"""The batches of a page that the proxy has not sent yet."""


class Requests:
    """A link's requests to the proxy.

    Args:
        send: sends a record.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._numbers = count(1)
        self._answers: dict[int, Answer] = {}
        self._long_page = asyncio.Lock()

    def answered(self, message: bytes, start: int, end: int) -> None:
        """Take an answer.

        Raises:
            LinkError: it has a wrong form.
        """
        head, values = _read(message, start, end)
        answer = self._answers.get(head.get("number", 0))
        if answer is not None and not answer.done():
            answer.set_result((head, values))

    async def _ask(
        self, topic: bytes, head: Head, values: Sequence[bytes] = ()
    ) -> tuple[Head, list[bytes]]:
        number = next(self._numbers)
        record = record_of(REQUEST, topic, _body({"number": number, **head}, values))
        if len(record) > MAX_REQUEST_BYTES:
            raise BrokerError(
                f"A request to the ZeroMQ proxy has {len(record)} bytes, above the limit of "
                f"{MAX_REQUEST_BYTES}. Keep smaller values, under shorter names"
            )
        answer: Answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._send(record)
            return await answer
        finally:
            del self._answers[number]

    async def history(
        self,
        topic: bytes,
        retention: Retention,
        since: Position | None,
        limit: int | None,
        reverse: bool,
    ) -> Page:
        """See `StoringBroker.history`."""
        head: Head = {"do": "history", "since": since, "limit": limit, "reverse": reverse}
        head["rule"] = [retention.size, retention.ttl]
        fields, payloads = await self._ask(topic, {**head, "long": False})
        if not fields["long"]:
            page = _page(fields)
            _extend(page, fields, payloads)
            return page
        async with self._long_page:
            return await self._long_history(topic, {**head, "long": True})

    async def _long_history(self, topic: bytes, head: Head) -> Page:
        fields, payloads = await self._ask(topic, head)
        page = _page(fields)
        _extend(page, fields, payloads)
        try:
            while fields["more"]:
                fields, payloads = await self._ask(b"", {"do": "go on"})
                _extend(page, fields, payloads)
        except BaseException:  # Cancelled, for one.
            with suppress(BrokerError):
                self._send(record_of(REQUEST, b"", _body({"do": "forget"})))
            raise
        return page

    async def renew_epoch(self, topic: bytes, retention: Retention, seen: Position) -> Position:
        """See `StoringBroker.renew_epoch`."""
        fields, _ = await self._ask(topic, {"do": "renew", "seen": seen})
        return Position(*fields["top"])

    async def keep(self, values: Mapping[bytes, bytes], seconds: float) -> None:
        """See `StoringBroker.keep`."""
        for part in _batches(values.items(), lambda item: len(item[0]) + len(item[1])):
            texts = [text for item in part for text in item]
            await self._ask(b"", {"do": "keep", "seconds": seconds}, texts)

    async def take(self, key: bytes) -> bytes | None:
        """See `StoringBroker.take`."""
        _, values = await self._ask(b"", {"do": "take"}, [key])
        return values[0] if values else None


def store_records(topic: bytes, publishes: Sequence[StoredPublish]) -> Iterator[bytes]:
    """Return records that store publishes to one channel, in their order."""
    for rule, items in groupby(publishes, attrgetter("retention")):
        head = _RULE.pack(rule.size, rule.ttl)
        for part in _batches(items, lambda item: len(item.payload)):
            texts: list[bytes] = []
            for item in part:
                texts.append((item.id or "").encode("utf-8", "surrogatepass"))
                texts.append(item.payload)
            yield record_of(STORE, topic, head + body_of(texts))


def _page(fields: Head) -> Page:
    return Page([], Position(*fields["top"]), fields["complete"])


def _extend(page: Page, fields: Head, payloads: Sequence[bytes]) -> None:
    for (offset, previous), payload in zip(fields["places"], payloads, strict=True):
        page.messages.append(StoredMessage(offset, previous, payload))


def _batches(items: Iterable[Any], size_of: Callable[[Any], int]) -> Iterator[list[Any]]:
    """Split items into batches of at most `BATCH_BYTES`, or of a single item."""
    batch: list[Any] = []
    size = 0
    for item in items:
        added = size_of(item) + RECORD_OVERHEAD
        if batch and size + added > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += added
    if batch:
        yield batch


def _body(head: Head, values: Sequence[bytes] = ()) -> bytes:
    return body_of([json.dumps(head).encode(), *values])


def _read(message: bytes, start: int, end: int) -> tuple[Head, list[bytes]]:
    texts = payloads_in(message, start, end)
    try:
        head = json.loads(texts[0])
    except (IndexError, ValueError, RecursionError) as error:
        raise LinkError(WRONG_FORM) from error
    if not isinstance(head, dict) or type(head.get("number", 0)) is not int:
        raise LinkError(WRONG_FORM)
    return head, texts[1:]


class ProxyStore:
    """The proxy's store, and its answers to requests.

    Args:
        memory: how many bytes it stores.
        max_buffered: how many bytes a publish may have.
    """

    def __init__(self, memory: int, max_buffered: int) -> None:
        self._store: MemoryStore[bytes] = MemoryStore(memory, time.monotonic)
        self._max_buffered = max_buffered

    def publish(self, topic: bytes, message: bytes, start: int, end: int) -> bytes | None:
        """Store the publishes of a record; return the record to pass on, if any is new.

        Raises:
            LinkError: the record has a wrong form, or a publish is too large.
        """
        if end - start < _RULE.size:
            raise LinkError(WRONG_FORM)
        retention = Retention(*_RULE.unpack_from(message, start))
        texts = payloads_in(message, start + _RULE.size, end)
        if len(texts) % 2:
            raise LinkError(WRONG_FORM)
        stored: list[bytes] = []
        for id, payload in zip(texts[::2], texts[1::2], strict=True):
            if len(payload) > self._max_buffered:
                raise LinkError(f"A publish has {len(payload)} bytes, above max_buffered")
            placed = self._store.publish(topic, payload, retention, id or None)
            if placed is not None:
                stored.append(envelop_stored(*placed, payload))
        return record_of(PUBLISH, topic, body_of(stored)) if stored else None

    def answer(
        self, rest: PageRest, topic: bytes, message: bytes, start: int, end: int
    ) -> bytes | None:
        """Carry out a request and return the record that answers it, if any does.

        `rest` is that of the page which the process reads; this changes it.

        Raises:
            LinkError: the request has a wrong form.
        """
        head, values = _read(message, start, end)
        try:
            answer = self._answer(rest, topic, head, values)
            if answer is None:
                return None
            fields, data = answer
            return record_of(ANSWER, b"", _body({"number": head["number"], **fields}, data))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise LinkError(f"{WRONG_FORM}: {error!r}") from error

    def _answer(
        self, rest: PageRest, topic: bytes, head: Head, values: list[bytes]
    ) -> tuple[Head, list[bytes]] | None:
        match head["do"]:
            case "history":
                return self._history(rest, topic, head)
            case "go on":
                return _batch_answer(rest.popleft(), bool(rest))
            case "forget":
                rest.clear()
                return None
            case "renew":
                return {"top": self._store.renew_epoch(topic, _position(head["seen"]))}, []
            case "keep":
                kept = dict(zip(values[::2], values[1::2], strict=True))
                self._store.keep(kept, float(head["seconds"]))
                return {}, []
            case "take":
                value = self._store.take(values[0])
                return {}, [] if value is None else [value]
            case other:
                raise ValueError(other)

    def _history(self, rest: PageRest, topic: bytes, head: Head) -> tuple[Head, list[bytes]]:
        size, ttl = head["rule"]
        since = None if head["since"] is None else _position(head["since"])
        page = self._store.history(
            topic, Retention(size, ttl), since, head["limit"], head["reverse"]
        )
        batches = list(_batches(page.messages, lambda message: len(message.payload))) or [[]]
        if len(batches) > 1:
            if not head["long"]:
                return {"long": True}, []
            rest.clear()
            rest.extend(batches[1:])
        fields, data = _batch_answer(batches[0], len(batches) > 1)
        return {**fields, "long": False, "top": page.top, "complete": page.complete}, data


def _position(fields: Any) -> Position:
    epoch, offset = fields
    if type(epoch) is not str or type(offset) is not int:
        raise TypeError(fields)
    return Position(epoch, offset)


def _batch_answer(batch: Sequence[StoredMessage], more: bool) -> tuple[Head, list[bytes]]:
    places = [(message.offset, message.previous) for message in batch]
    return {"places": places, "more": more}, [message.payload for message in batch]
