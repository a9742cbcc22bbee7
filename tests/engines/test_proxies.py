"""Whom a server takes for its client, behind proxies."""

from __future__ import annotations

from typing import Any

import pytest

from socketcluster import AGServer
from socketcluster.engines.base import UpgradeRequest
from socketcluster.engines.proxies import TrustedProxies
from socketcluster.errors import InvalidOptionsError

OURS = ["10.0.0.0/8", "192.168.1.7", "2001:db8::/32"]


def address(peer: str | None, *lines: str, trusted: list[str] = OURS) -> str | None:
    headers = [(b"X-Forwarded-For", line.encode("latin-1")) for line in lines]
    scope: dict[str, Any] = {"headers": headers, "client": peer and (peer, 1)}
    request = UpgradeRequest(scope)
    request.trust(TrustedProxies(trusted))
    return request.client_address


@pytest.mark.parametrize(
    ("peer", "lines", "expected"),
    [
        # Nobody vouches.
        ("1.2.3.4", [], "1.2.3.4"),
        ("1.2.3.4", ["6.6.6.6"], "1.2.3.4"),
        ("192.168.1.8", ["6.6.6.6"], "192.168.1.8"),
        ("::ffff:1.2.3.4", [], "1.2.3.4"),
        ("2001:DB9::0:1", ["6.6.6.6"], "2001:db9::1"),
        (None, ["6.6.6.6"], None),
        ("", ["6.6.6.6"], None),
        ("testclient", ["6.6.6.6"], "testclient"),
        # A proxy does.
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6"], "6.6.6.6"),
        ("::ffff:10.0.0.1", ["6.6.6.6"], "6.6.6.6"),
        ("2001:db8::5", ["2001:DB9:0::1"], "2001:db9::1"),
        ("192.168.1.7", ["6.6.6.6"], "6.6.6.6"),
        # What a client says itself is left of its address.
        ("10.0.0.1", ["10.0.0.9, 6.6.6.6"], "6.6.6.6"),
        ("10.0.0.1", ["forged, 6.6.6.6"], "6.6.6.6"),
        ("10.0.0.1", ["1.1.1.1", "2.2.2.2, 6.6.6.6"], "6.6.6.6"),
        # Several proxies, each a header line or an entry.
        ("10.0.0.1", ["1.1.1.1, 6.6.6.6, 10.0.0.2"], "6.6.6.6"),
        ("10.0.0.1", ["1.1.1.1, 6.6.6.6", "10.0.0.2"], "6.6.6.6"),
        ("10.0.0.1", ["6.6.6.6,,10.0.0.2, ", " "], "6.6.6.6"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # As proxies write them.
        ("10.0.0.1", ["6.6.6.6:1234"], "6.6.6.6"),
        ("10.0.0.1", ["[2001:db9::1]:1234"], "2001:db9::1"),
        ("10.0.0.1", ["[2001:db9::1]"], "2001:db9::1"),
        ("10.0.0.1", ["::ffff:6.6.6.6"], "6.6.6.6"),
        ("10.0.0.1", ["6.6.6.6, [::ffff:10.0.0.2]:80"], "6.6.6.6"),
        # A trusted proxy that says nothing of use.
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, _hidden"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, 10.0.0.2:x"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6"], "10.0.0.1"),
        ("10.0.0.1", ["fe80::1%<b>"], "10.0.0.1"),
        ("10.0.0.1", ["[6.6.6.6"], "10.0.0.1"),
        ("10.0.0.1", ["\xe96.6.6.6"], "10.0.0.1"),
    ],
)
def test_the_rightmost_address_that_is_not_trusted(
    peer: str | None, lines: list[str], expected: str | None
) -> None:
    assert address(peer, *lines) == expected
    assert address(peer, *lines) == expected  # Asked again.


def test_peers_of_a_unix_socket_are_trusted_by_name() -> None:
    assert address(None, "1.1.1.1, 6.6.6.6", trusted=["unix"]) == "6.6.6.6"
    assert address(None, "6.6.6.6, 10.0.0.1", trusted=["unix", "10.0.0.0/8"]) == "6.6.6.6"
    assert address(None, trusted=["unix"]) is None
    assert address(None, "unknown", trusted=["unix"]) is None
    assert address("10.0.0.1", "6.6.6.6", trusted=["unix"]) == "10.0.0.1"


def test_nobody_is_trusted_by_default() -> None:
    scope = {"headers": [(b"x-forwarded-for", b"6.6.6.6")], "client": ("::ffff:127.0.0.1", 5)}
    request = UpgradeRequest(scope)
    assert request.client_address == "127.0.0.1"
    assert request.forwarded_for_address == "6.6.6.6"


@pytest.mark.parametrize(
    "entry",
    ["*", "nginx", "10.0.0.1/8", "10.0.0.0/33", "::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "[::1]"],
)
def test_entries_that_are_no_network_are_refused(entry: str) -> None:
    with pytest.raises(InvalidOptionsError, match="The trusted_proxies option must be IP") as wrong:
        AGServer(trusted_proxies=["10.0.0.0/8", entry])
    assert wrong.value.option == "trusted_proxies"


@pytest.mark.parametrize("value", [5, None, [5], b"10.0.0.1", {"10.0.0.1"}])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(InvalidOptionsError, match="The trusted_proxies option must be IP") as wrong:
        AGServer(trusted_proxies=value)
    assert wrong.value.option == "trusted_proxies"
