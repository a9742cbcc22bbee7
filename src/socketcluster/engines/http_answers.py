"""Answers of the server's own HTTP sites: who may read them, and their headers.

Source: RFC 6750 (bearer tokens), RFC 6454 (origins).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from socketcluster.engines.base import ASGIScope, ASGISend

Response = tuple[int, list[tuple[bytes, bytes]], bytes]
"""(status, headers, body)"""

_PLAIN = (b"content-type", b"text/plain; charset=utf-8")
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


def refusal(scope: ASGIScope, token: str | None) -> Response | None:
    """Return the answer to a request that may not read; None if it may.

    It is 403 for another origin, and 401 without the token.
    """
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    origin = headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2] != headers.get(b"host"):
        return 403, [_PLAIN], b"Pages of other origins may not read this"
    if token is not None:
        wanted = f"Bearer {token}".encode()
        if not hmac.compare_digest(headers.get(b"authorization", b""), wanted):
            return 401, [_PLAIN, (b"www-authenticate", b"Bearer")], b"Unauthorized"
    return None


def own_path(scope: ASGIScope) -> str:
    """Return the path of a request, below the path that the application is mounted at."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "").rstrip("/"))


async def send_response(scope: ASGIScope, send: ASGISend, response: Response) -> None:
    """Answer a request, without the body if it is a HEAD, and with headers that protect it."""
    status, headers, body = response
    headers = [*_HEADERS, *headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": body})
