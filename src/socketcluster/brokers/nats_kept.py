"""Kept values: each the newest message of a subject in a stream of JetStream.

To take a value is to delete its message, which succeeds for one process only.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Mapping

from socketcluster.brokers.nats_names import subject_of
from socketcluster.brokers.nats_requests import (
    ANSWER_SECONDS,
    MESSAGE_NOT_FOUND,
    ApiError,
    checked,
    unanswered,
)
from socketcluster.brokers.nats_streams import NANOSECONDS, Streams
from socketcluster.errors import BrokerError

MIN_SECONDS = 0.1
"""The least that a stream takes as the age of its messages."""

_SECONDS = struct.Struct(">d")


class KeptValues:
    """The values that a link keeps and takes.

    Args:
        streams: the link's.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._requests = streams.requests
        self._start = f"{streams.names.own}kept."
        self._stream = f"{streams.names.streams}kept"
        self._seconds = 0.0  # How long the stream keeps values, as far as the link knows.

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None:
        """See `StoringBroker.keep`."""
        if seconds > self._seconds:
            await self._open(seconds)
        age = _SECONDS.pack(seconds)
        stored = [
            self._requests.ask_soon(self._start + subject_of(key), age + value)
            for key, value in values.items()
        ]
        self._requests.flush()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answers = await asyncio.gather(*stored)
        except TimeoutError as error:
            raise unanswered() from error
        try:
            for answer in answers:
                checked(answer)
        except BrokerError:
            self._seconds = 0.0
            raise

    async def _open(self, seconds: float) -> None:
        """Make the stream, or make it keep values for longer; it drops them by itself then."""
        wanted = round(max(seconds, MIN_SECONDS) * NANOSECONDS)
        config = {
            "subjects": [f"{self._start}>"],
            "max_age": wanted,
            "max_msgs_per_subject": 1,
            "duplicate_window": round(MIN_SECONDS * NANOSECONDS),
        }
        found = (await self._streams.info(self._stream, config))["config"]
        if found["max_age"] and found["max_age"] < wanted:
            found["max_age"] = wanted
            await self._requests.api(f"STREAM.UPDATE.{self._stream}", found)
        await self._requests.until_heard(f"{self._start}-")
        self._seconds = seconds

    async def take(self, key: str) -> bytes | None:
        """See `StoringBroker.take`."""
        subject = self._start + subject_of(key)
        while True:
            message = await self._streams.get(self._stream, {"last_by_subj": subject}, False)
            if message is None or len(message.payload) < _SECONDS.size:
                return None
            (seconds,) = _SECONDS.unpack_from(message.payload)
            if message.stored_at + seconds <= time.time():
                return None
            if await self._delete(message.sequence):
                return message.payload[_SECONDS.size :]

    async def _delete(self, sequence: int) -> bool:
        """Delete a message; return whether it was there."""
        query = {"seq": sequence, "no_erase": True}
        try:
            await self._requests.api(f"STREAM.MSG.DELETE.{self._stream}", query, once=True)
        except ApiError as error:
            if error.number == MESSAGE_NOT_FOUND:  # Another process took it, or replaced it.
                return False
            raise
        return True
