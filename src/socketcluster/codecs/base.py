"""What a codec is: any object with `encode` and `decode`."""

from __future__ import annotations

from typing import Any, Protocol


class CodecEngine(Protocol):
    """Turns packets (dicts, and lists of them for a batch) into messages and back.

    `encode` returns str for a text message, bytes for a binary one. `decode` is given str for a
    text message and bytes for a binary one; whatever it raises counts as a malformed message.
    """

    def encode(self, obj: Any) -> str | bytes:
        """The message for a packet, or for any published data."""

    def decode(self, message: Any) -> Any:
        """The reverse."""
