"""Origins: the pages that may open a connection. Source: RFC 6454, section 7."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from itertools import product

FORM = "'host:port' or 'scheme://host:port' entries, with '*' for any host or port"

_ORIGIN = re.compile(
    r"(?:([a-z][a-z0-9+.-]*)://)?(\*|\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\*|[0-9]{1,5}))?"
)


class AllowedOrigins:
    """Which Origin headers are let in.

    Args:
        entries: "example.com:443" is that host and port with any scheme; "https://example.com" is
            that scheme and host with the scheme's default port. "*" stands for any host or port.

    Raises:
        ValueError: an entry that can never match.
    """

    __slots__ = ("_entries", "all")

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = frozenset(_entry(entry) for entry in entries)
        if not self._entries:
            raise ValueError("there is no entry")
        self.all = ("*", "*", "*") in self._entries
        """Whether every origin is let in, and connections without one."""

    def allow(self, origin: str | None) -> bool:
        """Whether an Origin header is let in.

        It has to be a serialized origin as browsers send it: one with a path or a user name is
        not. Hosts are compared whole, in lower case; one that ends in a dot is another host.
        """
        if self.all:
            return True
        parts = _parts(origin or "")
        if parts is None or "*" in parts:
            return False
        return any(entry in self._entries for entry in product(*((part, "*") for part in parts)))


def _parts(origin: str) -> tuple[str, str, str] | None:
    """(scheme, host, port), the scheme "*" where there is none."""
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


def _entry(entry: str) -> tuple[str, str, str]:
    parts = _parts(entry)
    if parts is None:
        raise ValueError(f"{entry!r} is neither")
    scheme, _, port = parts
    if scheme in ("ws", "wss"):
        raise ValueError(f"{entry!r}: the origin of a page begins with http:// or https://")
    if port != "*" and not 1 <= int(port) <= 65535:
        raise ValueError(f"{entry!r}: ports are 1 to 65535")
    return parts
