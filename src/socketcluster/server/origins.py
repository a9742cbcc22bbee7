"""Allowed origins: which pages may open a connection. Source: RFC 6454, section 7."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from itertools import product

ORIGIN_FORM = "'host:port' or 'scheme://host:port' entries, with '*' for any host or port"

_ORIGIN = re.compile(
    r"(?:([a-z][a-z0-9+.-]*)://)?(\*|\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\*|[0-9]{1,5}))?"
)


class AllowedOrigins:
    """The origins that the server allows.

    Args:
        entries: "example.com:443" allows this host and port with any scheme; "https://example.com"
            allows this scheme and host with the scheme's default port. "*" is any host or port.

    Raises:
        ValueError: an entry can never match, or there is none.
    """

    __slots__ = ("_entries", "all")

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = frozenset(_parse_entry(entry) for entry in entries)
        if not self._entries:
            raise ValueError("there is no entry")
        self.all: bool = ("*", "*", "*") in self._entries
        """Whether every origin is allowed, and connections without one."""

    def allow(self, origin: str | None) -> bool:
        """Whether an Origin header is allowed.

        The header must be a serialized origin, as browsers send it, without a path or a user name.
        Whole hosts are compared, in lower case; a trailing dot makes another host.
        """
        if self.all:
            return True
        parts = _split(origin or "")
        if parts is None or "*" in parts:
            return False
        return any(entry in self._entries for entry in product(*((part, "*") for part in parts)))


def _split(origin: str) -> tuple[str, str, str] | None:
    """Split an origin into (scheme, host, port); the scheme is "*" if there is none."""
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    if host.startswith("["):
        try:
            host = str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            return None
    if port is None:
        if scheme is None:
            return None
        port = "443" if scheme == "https" else "80"
    return scheme or "*", host, port if port == "*" else str(int(port))


def _parse_entry(entry: str) -> tuple[str, str, str]:
    parts = _split(entry)
    if parts is None:
        raise ValueError(f"{entry!r} is neither")
    scheme, _, port = parts
    if scheme in ("ws", "wss"):
        raise ValueError(f"{entry!r}: the origin of a page begins with http:// or https://")
    if port != "*" and not 1 <= int(port) <= 65535:
        raise ValueError(f"{entry!r}: ports are 1 to 65535")
    return parts
