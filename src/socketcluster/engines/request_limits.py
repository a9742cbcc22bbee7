"""Limits on HTTP requests that uvicorn does not have."""

from __future__ import annotations

from collections.abc import Iterable

MAX_REQUEST_HEAD = 64 * 1024
"""Bytes in the request line and the headers of one request."""

MAX_HEADERS = 200
"""Headers in one request."""

MAX_EARLY_DATA = 64 * 1024
"""Bytes behind an upgrade request after which the transport pauses until the answer."""

HEAD_SECONDS = 10.0
"""Time for a client to send the head of a request, and for a TLS handshake."""

LINGER_SECONDS = 1.0
"""Time for a refused client to read the answer. The transport reads on meanwhile: a connection that
is closed with unread data is reset, and its client would not see the answer."""


def head_too_large(url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the head of a request exceeds MAX_REQUEST_HEAD or MAX_HEADERS."""
    sizes = [len(name) + len(value) + 4 for name, value in headers]
    return len(sizes) > MAX_HEADERS or len(url) + sum(sizes) > MAX_REQUEST_HEAD
