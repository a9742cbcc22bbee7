"""The interface of codecs: any object with `encode` and `decode`."""

from __future__ import annotations

from typing import Any, Protocol


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
