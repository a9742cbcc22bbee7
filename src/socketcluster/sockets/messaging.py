"""Messaging parts of both sides: the codec, packets and errors."""

from __future__ import annotations

from typing import Any

from socketcluster.errors import BadConnectionError, UnknownProcedureError
from socketcluster.options import check_text
from socketcluster.protocol.wire import Wire


class CodecMixin:
    """The codec of a socket, for messages that the application sends and reads itself."""

    __slots__ = ()

    wire: Wire

    def encode(self, object: Any) -> str | bytes:
        """Encode an object with the codec.

        Raises:
            EncodeError: the codec cannot encode it.
        """
        return self.wire.encode(object)

    def decode(self, message: str | bytes) -> Any:
        """Decode a message with the codec, and return its value.

        Raises:
            InvalidMessageError: the message is not valid in the codec.
        """
        return self.wire.codec.decode(message)


def event_packet(event: str, data: Any) -> dict[str, Any]:
    """The packet of an event. With a `cid` it is that of a call.

    Raises:
        InvalidArgumentsError: `event` is no text.
    """
    check_text("The name of an event or procedure", event)
    return {"event": event} if data is None else {"event": event, "data": data}


def not_open() -> BadConnectionError:
    """The error for a raw message or an answer on a socket that is not open."""
    return BadConnectionError("WebSocket is not open", "disconnect")


def unknown_procedure(procedure: str) -> UnknownProcedureError:
    """The answer to a call of a procedure without a handler."""
    shown = procedure if len(procedure) <= 100 else procedure[:100] + "…"
    return UnknownProcedureError(f"There is no procedure {shown!r}")
