"""The client's address behind proxies, from X-Forwarded-For."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX = "unix"
"""The entry for every peer of a Unix socket."""

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([\d.]+)(?::\d+)")


class TrustedProxies:
    """The proxies whose X-Forwarded-For is believed.

    Args:
        entries: addresses ("10.0.0.7"), networks ("10.0.0.0/8"), or "unix".

    Raises:
        ValueError: an entry is none of these, or can never match.
    """

    __slots__ = ("_networks", "_unix")

    def __init__(self, entries: Iterable[str]) -> None:
        entries = list(entries)
        self._unix = UNIX in entries
        self._networks = [_network(entry) for entry in entries if entry != UNIX]

    def client_address(self, peer: str | None, forwarded_for: Callable[[], str]) -> str | None:
        """Return the client's address.

        If the peer is a trusted proxy, it is the right-most address in X-Forwarded-For that is not
        a trusted proxy's, else the peer's. Each proxy appends the address of its own peer, so the
        entries left of an untrusted address can be forged. If a trusted proxy wrote an entry that
        is not an address, such as "unknown", the peer's address is returned.

        Args:
            peer: the address of the connection's other end; None on a Unix socket.
            forwarded_for: returns all lines of the header, in order, joined by commas.
        """
        address = _address(peer) if peer else None
        peer_address = str(address) if address is not None else peer or None
        if not (self._unix if not peer else self._trusts(address)):
            return peer_address
        client = peer_address
        for entry in reversed(forwarded_for().split(",")):
            if entry := entry.strip():
                hop = _address(_without_port(entry))
                if hop is None or "%" in entry:  # A zone has a meaning on one machine only.
                    return peer_address
                client = str(hop)
                if not self._trusts(hop):
                    break
        return client

    def trusts(self, peer: str | None) -> bool:
        """Whether an address is a proxy's; None is the peer of a Unix socket."""
        return self._trusts(_address(peer)) if peer else self._unix

    def _trusts(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


NO_PROXIES = TrustedProxies(())


def _network(entry: str) -> _Network:
    network = ipaddress.ip_network(entry)
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        raise ValueError(f"{entry!r} is IPv4 written as IPv6: write it as IPv4")
    return network


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def _without_port(entry: str) -> str:
    """Strip the port that some proxies write: "1.2.3.4:56", "[2001:db8::1]:56"."""
    match = _WITH_PORT.fullmatch(entry)
    return entry if match is None else match[1] or match[2]
