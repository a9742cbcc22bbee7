"""Errors of connections that could not be opened, without secrets.

Query strings and the user part of URLs have tokens and keys in them, so the client's errors, events
and log lines leave them out.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from http import HTTPStatus
from urllib.parse import urlsplit

from picows import WSHandshakeError

from socketcluster.engines.deflate import InflateError
from socketcluster.errors import SOCKET_PROTOCOL_ERROR_STATUSES, SocketProtocolError
from socketcluster.protocol.state import CLOSE_CONNECT_TIMEOUT, CLOSE_HUNG_UP

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)?+(?:[^/?#]*@)?+"
    r"(?P<place>(?:\[[^\]\s]*\]|[^\s/?#@:\[\]]*)(?::\d*)?(?:/[^?#@]*)?)(?:[?#].*)?",
    re.IGNORECASE | re.DOTALL,
)
_STATUSES = frozenset(HTTPStatus)
_LONGEST_TEXT = 200
"""Characters of a server's answer that an error repeats."""


def redacted(url: str) -> str:
    """Remove user, password, query and fragment from a URL; "…" replaces text that is not a URL."""
    match = _URL.fullmatch(url)
    if match is None:
        scheme, separator, _ = url.partition("://")
        return f"{scheme}://…" if separator and scheme.isalnum() else "…"
    return f"{match['scheme'] or ''}{match['place']}"


def not_opened(
    uri: str, reason: str, *, proxy: str | None = None, http_status: int | None = None
) -> SocketProtocolError:
    """The error for a connection that could not be opened, with its address and the reason."""
    for url in (uri, proxy or ""):
        for secret in _secrets(url):
            reason = reason.replace(secret, "…")
    text = f"{redacted(uri)} could not be opened: {reason}"
    error = SocketProtocolError(hung_up(text), CLOSE_HUNG_UP)
    error.reason = hung_up(reason)
    error.http_status = http_status
    return error


def connect_timed_out(uri: str, milliseconds: float) -> SocketProtocolError:
    """The error for a server that did not complete the opening of a connection in time."""
    status = SOCKET_PROTOCOL_ERROR_STATUSES[CLOSE_CONNECT_TIMEOUT]
    reason = f"no answer within {milliseconds:g} ms (the connect_timeout option)"
    error = SocketProtocolError(f"{status}: {redacted(uri)}: {reason}", CLOSE_CONNECT_TIMEOUT)
    error.reason = f"{status}: {reason}"
    return error


def hung_up(reason: str) -> str:
    """A reason as events report it: behind "Socket hung up"."""
    return f"{SOCKET_PROTOCOL_ERROR_STATUSES[CLOSE_HUNG_UP]}: {reason}"


def http_status(error: BaseException) -> int | None:
    """The HTTP status of a server's refusal of the upgrade request; None for any other error."""
    response = error.response if isinstance(error, WSHandshakeError) else None
    return None if response is None else int(response.status)


def _secrets(url: str) -> list[str]:
    # A server may repeat the URL in its answer.
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    user = parts.netloc.rpartition("@")[0]
    return [secret for secret in (parts.query, user) if secret]


def why(error: BaseException | None) -> str:
    """Describe for people why a connection failed or was lost."""
    if error is None:
        return "the server ended the connection without a close frame"
    if isinstance(error, InflateError):
        return "the server chose an extension that was not offered"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    if isinstance(error, socket.gaierror):
        return f"the host name could not be resolved: {error.strerror or error}"
    if isinstance(error, WSHandshakeError) and error.response is not None:
        return _answer(error)
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return _short(str(error)) or type(error).__name__


def _answer(error: WSHandshakeError) -> str:
    response = error.response
    assert response is not None
    status = response.status
    if status == 101:
        return _short(str(error))
    kind = str(response.headers.get("Content-Type", "text/plain"))
    text = (error.raw_body or b"").decode("utf-8", "replace")
    return http_refusal(int(status), text if kind.startswith("text/plain") else "")


def http_refusal(status: int, text: str) -> str:
    """Describe a server's refusal of the upgrade request, with its text if it sent one."""
    short_text = _short(text)
    if short_text:
        return f"HTTP {status}: {short_text}"
    return f"HTTP {status} {HTTPStatus(status).phrase}" if status in _STATUSES else f"HTTP {status}"


def _short(text: str) -> str:
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words if len(words) <= _LONGEST_TEXT else words[:_LONGEST_TEXT] + "…"
