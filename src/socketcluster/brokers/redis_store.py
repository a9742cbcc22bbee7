"""Stored publishes in Redis: the part of a `StoringLink` that `RedisLink` forwards to.

Each channel has at most one script that the server has not answered. Publishes that come meanwhile
share the next one: a script that the server has forgotten can then be sent again, without a later
publish going first.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from socketcluster.brokers.adapter import LinkListener, StoredPublish
from socketcluster.brokers.redis_connection import AwaitedReply, Command, RedisConnection, refusal
from socketcluster.brokers.redis_keys import StoreKeys
from socketcluster.brokers.redis_scripts import HISTORY, PUBLISH, RENEW, TAKE, Script
from socketcluster.brokers.storing import Page, Position, Retention, StoredMessage
from socketcluster.errors import BrokerError
from socketcluster.protocol.envelopes import STORED, open_envelope, read_stored

MAX_PUBLISHES = 500
MAX_BYTES = 1024 * 1024
"""The publishes, and the bytes of them, that one script stores: it holds up the whole server."""

FIRST_PART = 100
PART_BYTES = 256 * 1024
PARTS_AT_ONCE = 8
"""The publishes of the first part of a page, about the bytes of each part, and how many parts are
read at once. Redis cuts off a subscriber for which more than 32 MiB wait to be sent."""

NO_LIMIT = 1_000_000
MAX_OFFSET = 2**53

_FOREIGN = ("WRONGTYPE", "equal or smaller", "last possible ID")
"""Parts of errors that another program caused, by the type of a key or the id of an entry."""

_PROCESS = secrets.token_hex(4)
"""Begins the epochs that this process makes; the server's time makes each unique."""


class RedisStore:
    """Stores the publishes of one link, and reads them."""

    def __init__(
        self, connection: RedisConnection, listener: LinkListener, prefix: str, publish: str
    ) -> None:
        self._connection = connection
        self._listener = listener
        self._prefix = prefix
        self._command = publish
        self._keys = StoreKeys(prefix)
        # Channel → publishes that wait until the server has answered those before them.
        self._waiting: dict[str, list[StoredPublish]] = {}
        self._free = asyncio.Semaphore(PARTS_AT_ONCE)

    def publish(self, publishes: Sequence[StoredPublish]) -> None:
        """See `StoringLink.publish_stored`."""
        waiting = self._waiting
        begun: list[str] = []
        for publish in publishes:
            channel = publish.channel
            queue = waiting.get(channel)
            if queue is None:
                queue = waiting[channel] = []
                begun.append(channel)
            queue.append(publish)
        if begun:
            self._send([self._next_batch(channel) for channel in begun])

    def _send(self, batches: list[tuple[Command, list[StoredPublish]]]) -> None:
        awaited: list[AwaitedReply] = [
            (None, partial(self._handle_reply, command, batch)) for command, batch in batches
        ]
        self._connection.send([command for command, _ in batches], awaited)

    def _next_batch(self, channel: str) -> tuple[Command, list[StoredPublish]]:
        queue = self._waiting[channel]
        batch = _cut(queue)
        del queue[: len(batch)]
        stream, position = self._keys.of_channel(channel)
        keys = [stream, position]
        if any(publish.id is not None for publish in batch):
            for publish in batch:
                id = publish.id
                keys.append(position if id is None else self._keys.of_id(channel, id))
        retention = batch[0].retention
        command: Command = (
            *("EVALSHA", PUBLISH.sha, len(keys), *keys, _PROCESS),
            *(_milliseconds(retention.ttl), retention.size),
            *(self._command, self._prefix + channel),
            *[publish.payload for publish in batch],
        )
        return command, batch

    def _handle_reply(self, command: Command, batch: list[StoredPublish], reply: Any) -> None:
        channel = batch[0].channel
        if isinstance(reply, BrokerError):  # The link is lost, and all publishes with it.
            self._waiting.clear()
            return
        if isinstance(reply, Exception) and _forgotten(reply):
            self._send([(("EVAL", PUBLISH.text, *command[2:]), batch)])
            return
        if isinstance(reply, Exception):
            self._refuse(batch, self._refusal(reply, channel))
        else:
            done, failed = reply
            self._listener.publishes_confirmed(batch[:done])
            if failed is not None:
                self._refuse(batch[done:], self._refusal(Exception(failed.decode()), channel))
        if self._waiting.get(channel):
            self._send([self._next_batch(channel)])
        else:
            self._waiting.pop(channel, None)

    def _refuse(self, batch: Sequence[StoredPublish], error: BrokerError) -> None:
        for publish in batch:
            self._listener.publish_refused(publish, error)

    def _refusal(self, error: Exception, channel: str) -> BrokerError:
        """Return the error of a script, and report the link as lost if the slot moved."""
        text = str(error)
        if text.startswith("MOVED"):
            self._listener.link_lost(BrokerError("The server handed channels over to another"))
            self._waiting.clear()
        if text.startswith(("ASK", "TRYAGAIN")):
            return BrokerError(
                f"The history of the channel {channel!r} is moving to another server ({text})"
            )
        if any(part in text for part in _FOREIGN):
            names = " or ".join(repr(key) for key in self._keys.of_channel(channel))
            return BrokerError(
                f"The channel {channel!r} has no history: another program uses the key {names}. "
                f"Delete it, or use another prefix ({text})"
            )
        return refusal(error)

    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None,
        limit: int | None,
        reverse: bool,
    ) -> Page:
        """See `StoringLink.history`."""
        first = 0
        if since is not None:
            first = min(max(0, since.offset), MAX_OFFSET) + (not reverse)
        # With a start, one message tells whether the page is complete.
        count = NO_LIMIT if limit is None else max(limit, int(since is not None))
        epoch, position, envelopes = _known(since.epoch) if since else "", None, list[Any]()
        most = FIRST_PART
        while position is None or (first and len(envelopes) < count):
            async with self._free:
                found, top, part, first = await self._run(
                    *(HISTORY, channel, _milliseconds(retention.ttl), epoch, first),
                    *(min(count - len(envelopes), most), int(reverse), PART_BYTES),
                )
            if envelopes and found.decode() != epoch:  # It began anew between the parts.
                return await self.history(channel, retention, since, limit, reverse)
            epoch = found.decode()
            position = Position(epoch, top)
            envelopes += part
            # The server looks at so many, whether they fit or not.
            most = 1 + PART_BYTES * len(part) // max(1, sum(map(len, part)))
        messages = _opened(envelopes, position.offset, reverse)
        complete = _is_complete(messages, position, since, count, reverse)
        return Page(messages[:limit], position, complete)

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        """See `StoringLink.renew_epoch`."""
        epoch, top = await self._run(
            RENEW, channel, _milliseconds(retention.ttl), _known(seen.epoch), seen.offset
        )
        return Position(epoch.decode(), top)

    async def _run(self, script: Script, channel: str, *arguments: str | int) -> Any:
        try:
            return await self._evaluate(
                script, *self._keys.of_channel(channel), arguments=(_PROCESS, *arguments)
            )
        except BrokerError as error:
            raise self._refusal(error, channel) from error

    async def _evaluate(self, script: Script, *keys: str, arguments: Sequence[str | int]) -> Any:
        rest = (str(len(keys)), *keys, *map(str, arguments))
        try:
            return await self._connection.call("EVALSHA", script.sha, *rest)
        except BrokerError as error:
            if not _forgotten(error):
                raise
            return await self._connection.call("EVAL", script.text, *rest)

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None:
        """See `StoringLink.keep`."""
        if not values:
            return
        time = _milliseconds(seconds)
        commands = [
            ("SET", self._keys.of_value(key), value, "PX", time) for key, value in values.items()
        ]
        kept: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        replies: list[Any] = []

        def handle_reply(reply: Any) -> None:
            replies.append(reply)
            if len(replies) == len(commands) and not kept.done():
                kept.set_result(replies)

        self._connection.send(commands, [(None, handle_reply)] * len(commands))
        for reply in await kept:
            if isinstance(reply, Exception):
                raise self._refusal(reply, "")

    async def take(self, key: str) -> bytes | None:
        """See `StoringLink.take`."""
        value: bytes | None
        value = await self._evaluate(TAKE, self._keys.of_value(key), arguments=())
        return value


def _known(epoch: str) -> str:
    """Return an epoch that a script may have made, or none: clients may send anything."""
    return epoch if epoch.isascii() else ""


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _forgotten(error: Exception) -> bool:
    """Whether the server does not know the script: it restarted, or someone flushed its scripts."""
    return str(error).startswith("NOSCRIPT")


def _cut(queue: list[StoredPublish]) -> list[StoredPublish]:
    """Return those that one script takes: not too many, and all with the first one's retention."""
    retention, size = queue[0].retention, 0
    for index, publish in enumerate(queue[:MAX_PUBLISHES]):
        size += len(publish.payload)
        other = publish.retention is not retention and publish.retention != retention
        if index and (other or size > MAX_BYTES):
            return queue[:index]
    return queue[:MAX_PUBLISHES]


def _opened(envelopes: list[Any], top: int, reverse: bool) -> list[StoredMessage]:
    """Open the envelopes; skip those that other programs wrote, as far as that can be seen."""
    messages: list[StoredMessage] = []
    for envelope in envelopes:
        kind, fields, payload = open_envelope(envelope) or (0, b"", b"")
        place = read_stored(fields) if kind == STORED else None
        if place is None or place[1] > top:
            continue
        _, offset, previous = place
        if messages and (
            offset >= messages[-1].offset if reverse else offset <= messages[-1].offset
        ):
            continue
        messages.append(StoredMessage(offset, previous, payload))
    return messages


def _is_complete(
    messages: list[StoredMessage], top: Position, since: Position | None, count: int, reverse: bool
) -> bool:
    """Whether no publish is missing: others may have removed some, anywhere in the stream."""
    ordered = messages[::-1] if reverse else messages
    if any(b.previous != a.offset for a, b in pairwise(ordered)):
        return False
    if since is None:
        return True
    if since.epoch != top.epoch or since.offset > top.offset:
        return False
    if reverse:
        return bool(messages) or since.offset == 0
    if not messages:
        return since.offset == top.offset
    whole = len(messages) == count or messages[-1].offset == top.offset
    return whole and messages[0].previous <= since.offset
