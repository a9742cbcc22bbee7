"""Which pages may open a connection."""

from __future__ import annotations

from typing import Any

import pytest

from socketcluster import AGServer
from socketcluster.errors import InvalidOptionsError
from socketcluster.server.origins import AllowedOrigins


@pytest.mark.parametrize(
    ("origin", "entry", "allowed"),
    [
        # Host and port, with any scheme.
        ("http://example.com", "example.com:80", True),
        ("https://example.com", "example.com:443", True),
        ("https://example.com", "example.com:80", False),
        ("https://example.com:80", "example.com:80", True),
        ("http://example.com:8000", "example.com:*", True),
        ("http://example.com:8000", "*:8000", True),
        ("http://example.com:8000", "*:80", False),
        ("http://example.com.evil.net", "example.com:*", False),
        ("http://notexample.com", "example.com:*", False),
        ("http://m", "example.com:*", False),
        ("capacitor://localhost", "localhost:80", True),
        ("chrome-extension://abcdef", "abcdef:*", True),
        # A port of 0 is no default port.
        ("https://example.com:0", "example.com:443", False),
        ("http://example.com:0", "example.com:80", False),
        ("https://example.com:0", "https://example.com", False),
        # Scheme, host and port.
        ("https://example.com", "https://example.com", True),
        ("https://example.com:443", "https://example.com", True),
        ("https://example.com", "https://example.com:443", True),
        ("http://example.com", "https://example.com", False),
        ("http://example.com:443", "https://example.com", False),
        ("https://example.com:8443", "https://example.com", False),
        ("https://example.com:8443", "https://example.com:8443", True),
        ("http://example.com:8443", "https://example.com:8443", False),
        ("http://example.com", "http://example.com", True),
        ("http://example.com:80", "http://example.com", True),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("https://localhost", "capacitor://localhost", False),
        ("https://example.com:9", "https://example.com:*", True),
        ("http://example.com:9", "https://example.com:*", False),
        ("https://other.net", "https://*", True),
        ("http://other.net", "https://*", False),
        # Case, dots, addresses.
        ("HTTPS://Example.COM", "https://example.com", True),
        ("https://example.com", "HTTPS://Example.COM", True),
        ("https://example.com.", "example.com:443", False),
        ("https://example.com.", "example.com.:443", True),
        ("http://[::1]:80", "[::1]:80", True),
        ("http://[::1]", "http://[0:0:0:0:0:0:0:1]", True),
        ("http://[::1]:99999", "*:80", False),
        ("http://[::g]", "*:80", False),
        ("http://127.0.0.1:3000", "127.0.0.1:3000", True),
        # What is no origin of a page.
        (None, "example.com:*", False),
        (None, "*:*", True),
        ("null", "example.com:*", False),
        ("null", "*:*", True),
        ("", "example.com:*", False),
        ("example.com:443", "example.com:443", False),
        ("https://*", "example.com:443", False),
        ("https://*:443", "*:443", False),
        ("https://example.com:*", "example.com:*", False),
        ("https://example.com/", "example.com:443", False),
        ("https://example.com/path", "example.com:443", False),
        ("https://example.com?a", "example.com:443", False),
        ("https://evil.net#@example.com", "example.com:443", False),
        ("https://user@example.com", "example.com:443", False),
        ("https://example.com@evil.net", "example.com:443", False),
        ("https://evil.net\\@example.com", "example.com:443", False),
        ("https://exam\tple.com", "example.com:443", False),
        ("https://example.com:", "example.com:443", False),
        ("https://example.com, https://evil.net", "example.com:443", False),
        ("https://example.com:4430000", "example.com:*", False),
        ("file://", "*:80", False),
    ],
)
def test_origins_are_matched_whole(origin: str | None, entry: str, allowed: bool) -> None:
    assert AllowedOrigins([entry]).allow(origin) is allowed


def test_one_of_several_entries_is_enough() -> None:
    origins = AllowedOrigins(["a.com:*", "https://b.com"])
    assert [origins.allow(f"https://{host}.com") for host in "abc"] == [True, True, False]


@pytest.mark.parametrize(
    "entry",
    [
        "example.com",
        "*",
        "null",
        "",
        "example.com:",
        "example.com:http",
        "example.com:0",
        "example.com:65536",
        "*.example.com:443",
        "https://*.example.com",
        "https://example.com/",
        "https://example.com/path",
        "https://user@example.com",
        "https://",
        "//example.com:443",
        "wss://example.com",
        "ws://example.com:80",
        "[::g]:80",
        "::1:80",
        "münchen.de:443",
        "example.com:-1",
    ],
)
@pytest.mark.parametrize("others", [[], ["example.com:443"]])
def test_an_entry_that_can_never_match_is_refused(entry: str, others: list[str]) -> None:
    with pytest.raises(InvalidOptionsError, match=r"'host:port' or 'scheme://host:port'") as wrong:
        AGServer(origins=[*others, entry])
    assert wrong.value.option == "origins"


@pytest.mark.parametrize("value", [5, None, b"a:1", [5], [], "", {"a.com:1": 1}])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(InvalidOptionsError, match="The origins option must be") as wrong:
        AGServer(origins=value)
    assert wrong.value.option == "origins"
