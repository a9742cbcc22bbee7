"""Broker URLs: host, credentials, options, and what is wrong with them."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from socketcluster.brokers.adapter import BrokerOptions
from socketcluster.brokers.address import parse_address
from socketcluster.errors import InvalidOptionsError
from support import self_signed


def test_all_parts() -> None:
    address = parse_address("REDIS+Sentinel://us%40er:p%3Aw@a:1,b,[::1]:3/ma%20in?prefix=x&nkey=y")
    assert address.scheme == "redis+sentinel"
    assert address.hosts == (("a", 1), ("b", None), ("::1", 3))
    assert address.path == "ma in"
    assert (address.username, address.password) == ("us@er", "p:w")
    assert address.options == BrokerOptions(prefix="x")
    assert address.query == {"nkey": "y"}


def test_the_url_for_people_has_no_credentials_and_no_options() -> None:
    address = parse_address("redis://user:secret@a,[::1]:3/x%20y?prefix=x")
    assert address.display_url(6379) == "redis://a:6379,[::1]:3/x%20y"


def test_parameters_override_options() -> None:
    options = BrokerOptions(prefix="a", away="fail", heartbeat_interval=9.0)
    query = "prefix=&required=true&heartbeat_timeout=0.5&max_unconfirmed=7&max_buffered=3KiB"
    assert parse_address(f"redis://a?{query}", options).options == BrokerOptions(
        prefix="",
        away="fail",
        required=True,
        heartbeat_interval=9.0,
        heartbeat_timeout=0.5,
        max_unconfirmed=7,
        max_buffered=3072,
    )


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("required=yes", "the parameter required must be true or false, not 'yes'"),
        ("connect_timeout=0", "the parameter connect_timeout must be a number above 0, not '0'"),
        ("connect_timeout=inf", "must be a number above 0, not 'inf'"),
        ("connect_timeout=nan", "must be a number above 0, not 'nan'"),
        ("max_unconfirmed=1.5", "must be a number above 0, not '1.5'"),
        ("away=remote", "the parameter away must be 'local' or 'fail', not 'remote'"),
    ],
)
def test_a_wrong_parameter(query: str, problem: str) -> None:
    with pytest.raises(InvalidOptionsError) as raised:
        parse_address(f"redis://user:secret@a?{query}")
    assert problem in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", ""])
def test_a_wrong_port(port: str) -> None:
    with pytest.raises(InvalidOptionsError, match=f"'{port}' is no port"):
        parse_address(f"redis://a:{port}")


def test_a_parameter_that_the_adapter_does_not_have() -> None:
    address = parse_address("nats://a?creds=x&nkye=y")
    with pytest.raises(InvalidOptionsError) as raised:
        address.check_parameters("creds", "nkey")
    assert "the URL of a nats broker has no parameter 'nkye'; it has away" in str(raised.value)
    assert "nkey" in str(raised.value)
    parse_address("nats://a?creds=x").check_parameters("creds", "nkey")


def test_tls(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    query = f"ssl_ca_certs={certificate}&ssl_certfile={certificate}&ssl_keyfile={key}"
    context = parse_address(f"rediss://a?{query}").tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509"] == 1
    unverified = parse_address("rediss://a?ssl_verify=0").tls_context()
    assert unverified.verify_mode is ssl.CERT_NONE
    with pytest.raises(InvalidOptionsError, match=r"TLS files .* cannot be used \(/nowhere\)"):
        parse_address("rediss://a?ssl_certfile=/nowhere").tls_context()


@pytest.mark.parametrize("host", ["ho[st", "[::1", "a\u2100b"])
def test_a_malformed_host_is_one_error_without_the_password(host: str) -> None:
    with pytest.raises(InvalidOptionsError) as caught:
        parse_address(f"redis://user:topsecret@{host}")
    assert str(caught.value) == "The broker_engine option: the URL's host is malformed"
    assert caught.value.__suppress_context__
