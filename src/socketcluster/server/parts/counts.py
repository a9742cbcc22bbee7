"""Counts of a server's sockets, off the hot path: refusals, failures, and sockets that ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from socketcluster.close_codes import (
    SOCKET_PROTOCOL_ERROR_STATUSES,
    SOCKET_PROTOCOL_IGNORE_STATUSES,
)

KNOWN_CODES = frozenset(SOCKET_PROTOCOL_ERROR_STATUSES) | frozenset(SOCKET_PROTOCOL_IGNORE_STATUSES)
OTHER_CODE = "other"
"""The close codes that clients choose for themselves."""


@dataclass(slots=True, eq=False)
class Counts:
    """The rare events of the sockets of one server, since it was made.

    Attributes:
        refused: upgrade requests that the server refused.
        aborted: connections that were lost before their handshake was complete.
        disconnections: ended connections of clients, by the close code; codes that the protocol
            does not name are counted together as "other".
        received, received_size: messages of the sockets that ended, and their bytes.
        sent_size: bytes of the frames that these sockets wrote.
        blocked: actions that middleware or a channel's handler refused, by type.
        recoveries: recoveries that clients asked for, by result.
        failed_calls: calls without a handler that were answered with an error.
        abandoned_calls: such calls that had no answer when the client left.
    """

    refused: int = 0
    aborted: int = 0
    disconnections: Counter[str] = field(default_factory=Counter)
    received: int = 0
    received_size: int = 0
    sent_size: int = 0
    blocked: Counter[str] = field(default_factory=Counter)
    recoveries: Counter[str] = field(default_factory=Counter)
    failed_calls: int = 0
    abandoned_calls: int = 0

    def ended(
        self, code: int, was_opened: bool, received: int, received_size: int, sent_size: int
    ) -> None:
        """Count a socket that ended."""
        if was_opened:
            self.disconnections[str(code) if code in KNOWN_CODES else OTHER_CODE] += 1
        else:
            self.aborted += 1
        self.received += received
        self.received_size += received_size
        self.sent_size += sent_size
