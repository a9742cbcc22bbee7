"""The interface of codecs: any object with `encode` and `decode`."""

from __future__ import annotations

from typing import Any, Protocol


class CodecEngine(Protocol):
    """Turns packets (dicts, and lists of them for a batch) into messages and back.

    A text message is str, a binary one bytes, on both ways. Any error that `decode` raises counts
    as a malformed message.
    """

    def encode(self, obj: Any) -> str | bytes:
        """Encode a packet, or any published data, to a message."""
        ...

    def decode(self, message: Any) -> Any:
        """Decode a message."""
        ...
