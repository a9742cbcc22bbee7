"""The checks and the answers of an upgrade, without a connection."""

from __future__ import annotations

from typing import Any

import pytest

from socketcluster.engines.request_limits import MAX_HEADERS, MAX_REQUEST_HEAD, head_too_large
from socketcluster.engines.upgrade import refusal, request_fault

KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="
VALID = [
    (b"host", b"a"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", KEY),
]


def scope(**changes: Any) -> dict[str, Any]:
    return {"method": "GET", "http_version": "1.1", "headers": VALID, **changes}


def test_a_valid_request_has_no_fault() -> None:
    assert request_fault(scope()) is None
    assert request_fault(scope(headers=[*VALID, (b"content-length", b"0")])) is None
    padded = [*VALID[:2], (b"sec-websocket-key", b" " + KEY + b" ")]
    assert request_fault(scope(headers=padded)) is None


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"method": "POST"}, 400, "GET"),
        ({"http_version": "1.0"}, 400, "HTTP/1.1"),
        ({"headers": [*VALID, (b"content-length", b"1")]}, 400, "without a body"),
        ({"headers": [*VALID, (b"transfer-encoding", b"chunked")]}, 400, "without a body"),
        ({"headers": VALID[1:]}, 400, "one Host"),
        ({"headers": [*VALID, (b"host", b"b")]}, 400, "one Host"),
        ({"headers": [VALID[0], VALID[2]]}, 426, "must be 13"),
        ({"headers": VALID[:2]}, 400, "one Sec-WebSocket-Key"),
        ({"headers": [*VALID, VALID[2]]}, 400, "one Sec-WebSocket-Key"),
        ({"headers": [*VALID[:2], (b"sec-websocket-key", b"AAAA")]}, 400, "16 bytes"),
        ({"headers": [*VALID[:2], (b"sec-websocket-key", b"?" * 24)]}, 400, "16 bytes"),
    ],
)
def test_faults(changes: dict[str, Any], status: int, text: str) -> None:
    fault = request_fault(scope(**changes))
    assert fault is not None
    assert fault[0] == status
    assert text in fault[1]


def test_a_refusal_is_a_whole_response() -> None:
    head, _, body = refusal(403, "Not you: ü").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n")
    assert body.decode() == "Not you: ü"
    assert f"Content-Length: {len(body)}".encode() in head
    assert refusal(499, "").startswith(b"HTTP/1.1 499 Refused\r\n")
    assert b"Sec-WebSocket-Version: 13" in refusal(426, "")


def test_limits_of_a_head() -> None:
    assert not head_too_large(b"/", [(b"a", b"b")] * MAX_HEADERS)
    assert head_too_large(b"/", [(b"a", b"b")] * (MAX_HEADERS + 1))
    value = b"x" * (MAX_REQUEST_HEAD - len(b"/" + b"a: \r\n"))
    assert not head_too_large(b"/", [(b"a", value)])
    assert head_too_large(b"/", [(b"a", value + b"x")])
