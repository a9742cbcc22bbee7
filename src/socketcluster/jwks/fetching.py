"""Fetches a document over HTTPS, bounded in time and size, from one host."""

from __future__ import annotations

import ipaddress
import time
import urllib.request
from http.client import HTTPMessage, HTTPResponse
from typing import IO, Any, cast
from urllib.parse import urlsplit

from socketcluster.errors import InvalidOptionsError

MAX_BYTES = 1024 * 1024
_CHUNK = 64 * 1024


class FetchError(Exception):
    """The document cannot be fetched."""


def check_url(url: Any) -> str:
    """Return a URL that may be fetched: HTTPS, or HTTP to this machine.

    Raises:
        InvalidOptionsError: it is another.
    """
    parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    allowed = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
    if not allowed or not parts.hostname:
        raise InvalidOptionsError(
            f"The url must be a URL with https://, or http:// on this machine, not {url!r}", "url"
        )
    return str(url)


def fetch(url: str, seconds: float) -> bytes:
    """Fetch a document. It blocks its thread for about twice `seconds` at most.

    Raises:
        FetchError: there is no answer, or none that can be used.
    """
    deadline = time.monotonic() + seconds
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    opener = urllib.request.build_opener(_SameOrigin())
    try:
        with cast("HTTPResponse", opener.open(request, timeout=seconds)) as response:
            found = bytearray()
            while chunk := response.read1(_CHUNK):
                found += chunk
                if len(found) > MAX_BYTES:
                    raise FetchError(f"the answer is larger than {MAX_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise FetchError(f"the answer was not complete within {seconds:g} s")
            return bytes(found)
    except FetchError:
        raise
    except Exception as error:  # OSError, HTTPException, ValueError of a header.
        raise FetchError(f"{type(error).__name__}: {error}") from error


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    """Follows redirects on one host only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if _origin(newurl) != _origin(req.full_url):
            raise FetchError("it redirects to another host")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
