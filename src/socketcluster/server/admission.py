"""Admission: how many connections a server takes, in all and of each address.

Addresses are IPv4 addresses and /64 networks of IPv6, because a host chooses its address in its /64
as it likes.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from socketcluster.engines.base import Seat, UpgradeRefusedError, UpgradeRequest
from socketcluster.engines.proxies import TrustedProxies
from socketcluster.server.limits import Bucket, Limits

MAX_ADDRESSES = 100_000
"""Addresses whose rate is remembered; past it the one that connected longest ago is forgotten."""

_FULL_TEXT = "The server has as many connections as it takes; try again later"
_RETRY_SECONDS = 10
"""When to try again: it is not known when a connection ends."""


class AddressLimits:
    """Counts the connections of each address, and their rate. See `Limits`.

    Args:
        limited: counts the refused connections, by the name of the limit.
        clock: seconds that never go back.
    """

    __slots__ = ("_bucket", "_clock", "_levels", "_limited", "_most", "_open", "_proxies")

    def __init__(
        self,
        limits: Limits,
        proxies: TrustedProxies,
        limited: dict[str, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = limits.connections_per_ip
        rate = limits.connect_per_ip
        self._bucket = Bucket(rate) if rate is not None else None
        self._proxies = proxies
        self._limited = limited
        self._clock = clock
        self._open: dict[str, int] = {}
        self._levels: OrderedDict[str, float] = OrderedDict()

    def seat_peer(self, peer: str | None) -> Seat | None:
        """See `Gate.seat_peer`: no seat for proxies, and for Unix sockets."""
        if peer is None or self._proxies.trusts(peer):
            return None
        return self._seat(network_of(peer))

    def seat_client(self, request: UpgradeRequest) -> Seat | None:
        """Give a client a seat whose peer has none: behind a proxy, or under an ASGI server.

        A proxy that names no client is not limited.

        Raises:
            UpgradeRefusedError: 429.
        """
        address = request.client_address
        if address is None or self._proxies.trusts(address):
            return None
        return self._seat(network_of(address))

    def _seat(self, network: str) -> Seat:
        count = self._open.get(network, 0)
        if self._most is not None and count >= self._most:
            self._limited["connections_per_ip"] += 1
            raise UpgradeRefusedError(
                429, "Too many connections from this address", retry_after=_RETRY_SECONDS
            )
        if self._bucket is not None:
            self._count_rate(self._bucket, network)
        self._open[network] = count + 1
        return _Seat(self._open, network)

    def _count_rate(self, bucket: Bucket, network: str) -> None:
        now, levels = self._clock(), self._levels
        level = levels.get(network, 0.0)
        if not bucket.has_room(level, now):
            self._limited["connect_per_ip"] += 1
            raise UpgradeRefusedError(
                429,
                "Too many new connections from this address",
                retry_after=math.ceil(bucket.wait(level, now)),
            )
        levels[network] = bucket.add(level, now)
        levels.move_to_end(network)
        if len(levels) > MAX_ADDRESSES:
            levels.popitem(last=False)


class _Seat:
    """See `Seat`."""

    __slots__ = ("_network", "_open")

    def __init__(self, open_: dict[str, int], network: str) -> None:
        self._open = open_
        self._network: str | None = network

    def release(self) -> None:
        """See `Seat.release`."""
        network, self._network = self._network, None
        if network is None:
            return
        left = self._open[network] - 1
        if left:
            self._open[network] = left
        else:
            del self._open[network]


class Admission:
    """Decides whether a server takes one more connection.

    Attributes:
        addresses: the limits of addresses; None without any.
    """

    __slots__ = ("_count", "_limited", "_most", "_refused", "addresses")

    def __init__(
        self,
        max_connections: int | None,
        limits: Limits | None,
        proxies: TrustedProxies,
        count: Callable[[], int],
        refused: Callable[[], None],
        limited: dict[str, int],
    ) -> None:
        """`count()` returns how many there are; `refused()` counts a refusal of the engine.

        See `AddressLimits` for `limited`.
        """
        self._refused = refused
        self._most = max_connections
        self._count = count
        self._limited = limited
        self.addresses: AddressLimits | None = None
        if limits is not None and (limits.connections_per_ip or limits.connect_per_ip):
            self.addresses = AddressLimits(limits, proxies, limited)

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return self._most is not None or self.addresses is not None

    def check_room(self) -> None:
        """See `Gate.check_room`."""
        try:
            self.check_count()
        except UpgradeRefusedError:
            self._refused()
            raise

    def check_count(self) -> None:
        """Check `max_connections`.

        Raises:
            UpgradeRefusedError: 503.
        """
        if self._most is not None and self._count() >= self._most:
            self._limited["max_connections"] += 1
            raise UpgradeRefusedError(503, _FULL_TEXT, retry_after=_RETRY_SECONDS)

    def seat_peer(self, peer: str | None) -> Seat | None:
        """See `Gate.seat_peer`."""
        return None if self.addresses is None else self.addresses.seat_peer(peer)

    def seat_client(self, request: UpgradeRequest) -> None:
        """See `AddressLimits.seat_client`; the seat is the request's."""
        if self.addresses is not None and request.seat is None:
            request.seat = self.addresses.seat_client(request)


def network_of(address: str) -> str:
    """The address itself, or the /64 network of an IPv6 address."""
    if ":" not in address:
        return address
    try:
        ip = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return ip.packed[:8].hex()
