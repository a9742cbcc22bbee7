"""The interface of codecs: any object with `encode` and `decode`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from socketcluster.errors import InvalidDataError


class CodecEngine(Protocol):
    """Encodes packets (dicts, and lists of them for a batch) to messages, and decodes messages.

    In both directions a text message is str, and a binary one bytes. Any error that `decode`
    raises counts as a malformed message.
    """

    def encode(self, obj: Any) -> str | bytes:
        """Encode a packet, or any published data, to a message."""
        ...

    def decode(self, message: Any) -> Any:
        """Decode a message."""
        ...


COLLISIONS_FROM = 16 * 1024
"""Bytes of data from which values with one hash could take long."""


class TypedDecoder(Protocol):
    """Decodes and checks data of one type: an engine's `decode_as` takes it.

    A decoder raises msgspec's ValidationError for data of another type. For any other ValueError or
    RecursionError the data is decoded to a plain value, within all limits, and `from_value`
    decides on it; and so for binary data of JSON, and for long data that `may_collide`.
    """

    has_binary: bool
    has_floats: bool
    may_collide: bool
    json_decoder: Callable[[bytes], Any] | None
    msgpack_decoder: Callable[[bytes], Any] | None

    def from_value(self, value: Any) -> Any:
        """Check a decoded value, and return it as the type."""
        ...

    def refusal(self, error: msgspec.ValidationError) -> InvalidDataError:
        """Return the error for the peer."""
        ...
