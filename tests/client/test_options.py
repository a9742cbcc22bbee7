"""ClientOptions: every option, its default, and the error for a wrong value."""

from __future__ import annotations

import ssl
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

import socketcluster
from socketcluster import AGClientSocket, ClientOptions, MemoryTokenStore, ReconnectOptions
from socketcluster.client.options import url_options
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import InvalidActionError, InvalidOptionsError

DEFAULTS: dict[str, Any] = {
    "hostname": None,
    "port": None,
    "host": None,
    "secure": False,
    "protocol_scheme": None,
    "socket_path": None,
    "path": "/socketcluster/",
    "query": {},
    "auto_connect": True,
    "auto_reconnect": True,
    "auto_reconnect_options": ReconnectOptions(),
    "auto_subscribe_on_connect": True,
    "connect_timeout": 20_000,
    "ack_timeout": 10_000,
    "ping_timeout_disabled": False,
    "timestamp_requests": False,
    "timestamp_param": "t",
    "auth_token_name": None,
    "auth_engine": None,
    "codec_engine": None,
    "channel_prefix": None,
    "subscription_retry_options": None,
    "batch_on_handshake": False,
    "batch_on_handshake_duration": 100,
    "batch_interval": 50,
    "protocol_version": 2,
    "ws_options": {},
    "client_id": None,
    "tracing": None,
    "version": None,
    "clone_data": False,
    "connector": None,
    "max_payload": 1024 * 1024,
    "max_inbound_backlog": 1000,
    "max_inbound_backlog_bytes": 4 * 1024 * 1024,
    "max_outbound_buffer": 4 * 1024 * 1024,
}


def test_defaults() -> None:
    options = ClientOptions()
    assert {f.name: getattr(options, f.name) for f in fields(options)} == DEFAULTS


WRONG: list[tuple[str, Any]] = [
    ("hostname", 5),
    ("hostname", ""),
    ("hostname", "a b"),
    ("hostname", "a/b"),
    ("port", 0),
    ("port", 65536),
    ("port", "80"),
    ("port", True),
    ("host", "example.com"),
    ("host", "a b:80"),
    ("host", 5),
    ("secure", 1),
    ("protocol_scheme", "http"),
    ("socket_path", 5),
    ("path", "socketcluster/"),
    ("path", "/a b"),
    ("path", "/a\r\nX: y"),
    ("path", "/a?b=c"),
    ("path", 5),
    ("query", 5),
    ("auto_connect", None),
    ("auto_reconnect", "yes"),
    ("auto_reconnect_options", 5),
    ("auto_subscribe_on_connect", 0),
    ("connect_timeout", -1),
    ("connect_timeout", float("nan")),
    ("ack_timeout", "1"),
    ("ack_timeout", True),
    ("ping_timeout_disabled", 1),
    ("timestamp_requests", 1),
    ("timestamp_param", 5),
    ("auth_token_name", 5),
    ("auth_engine", object()),
    ("codec_engine", object()),
    ("tracing", True),
    ("channel_prefix", 5),
    ("subscription_retry_options", 5),
    ("batch_on_handshake", 1),
    ("batch_on_handshake_duration", -1),
    ("batch_interval", 0),
    ("protocol_version", 3),
    ("protocol_version", "2"),
    ("protocol_version", True),
    ("ws_options", 5),
    ("ws_options", {"unknown": 1}),
    ("ws_options", {"ssl": True}),
    ("ws_options", {"headers": {"X": 5}}),
    ("ws_options", {"headers": {"X": "a\r\nY: b"}}),
    ("ws_options", {"headers": {"X Y": "a"}}),
    ("ws_options", {"headers": ["X"]}),
    ("ws_options", {"proxy": 5}),
    ("ws_options", {"proxy": "ftp://host"}),
    ("ws_options", {"per_message_deflate": {}}),
    ("client_id", 5),
    ("clone_data", 1),
    ("connector", object()),
    ("max_payload", 0),
    ("max_inbound_backlog", 1.5),
    ("max_inbound_backlog_bytes", 0),
    ("max_outbound_buffer", True),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: repr(value)[:14])
def test_an_error_for_a_wrong_value_names_its_option(name: str, value: Any) -> None:
    with pytest.raises(InvalidOptionsError, match=name) as raised:
        AGClientSocket(**{"auto_connect": False, name: value})
    assert raised.value.option == name


def test_every_option_was_tested_with_a_wrong_value() -> None:
    assert {name for name, _ in WRONG} == set(DEFAULTS) - {"version"}


def test_an_error_for_an_unknown_option_names_it() -> None:
    with pytest.raises(InvalidOptionsError, match="hostnam"):
        socketcluster.create(hostnam="x", auto_connect=False)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["hostname", "port"])
def test_host_stands_alone(name: str) -> None:
    given: Any = {"host": "a:80", name: {"hostname": "a", "port": 80}[name]}
    with pytest.raises(InvalidOptionsError, match=name):
        ClientOptions.of(**given)


def test_durations_may_be_timedeltas() -> None:
    options = ClientOptions(
        ack_timeout=timedelta(seconds=1.5), connect_timeout=timedelta(minutes=1)
    )
    assert (options.ack_timeout, options.connect_timeout) == (1500, 60_000)


URIS: list[tuple[dict[str, Any], str]] = [
    ({}, "ws://localhost/socketcluster/"),
    ({"secure": True}, "wss://localhost/socketcluster/"),
    ({"port": 80}, "ws://localhost/socketcluster/"),
    ({"port": 443, "secure": True}, "wss://localhost/socketcluster/"),
    ({"port": 443}, "ws://localhost:443/socketcluster/"),
    ({"protocol_scheme": "wss", "port": 8000}, "wss://localhost:8000/socketcluster/"),
    ({"hostname": "::1", "port": 8000}, "ws://[::1]:8000/socketcluster/"),
    ({"host": "example.com:81", "path": "/x"}, "ws://example.com:81/x"),
    ({"query": {"a": "é&", "b": [1, 2]}}, "ws://localhost/socketcluster/?a=%C3%A9%26&b=1&b=2"),
    ({"query": {"a": True}}, "ws://localhost/socketcluster/?a=true"),
    ({"query": "a=1&a=2&b="}, "ws://localhost/socketcluster/?a=1&a=2&b="),
]


@pytest.mark.parametrize(("given", "uri"), URIS)
def test_uri(given: dict[str, Any], uri: str) -> None:
    assert ClientOptions(**given).uri() == uri
    assert AGClientSocket(**given, auto_connect=False).uri() == uri


def test_requests_can_be_stamped() -> None:
    uri = ClientOptions(timestamp_requests=True, timestamp_param="time", query={"a": 1}).uri()
    head, _, stamp = uri.partition("&time=")
    assert head == "ws://localhost/socketcluster/?a=1"
    assert int(stamp) > 1_600_000_000_000


TOKEN_NAMES: list[tuple[dict[str, Any], str]] = [
    ({}, "socketcluster.authToken.localhost:80"),
    ({"hostname": "a", "port": 1, "secure": True}, "socketcluster.authToken.a:1"),
    ({"secure": True}, "socketcluster.authToken.localhost:443"),
    ({"host": "a:81"}, "socketcluster.authToken.a:81"),
    ({"auth_token_name": "mine"}, "mine"),
]


@pytest.mark.parametrize(("given", "name"), TOKEN_NAMES)
def test_the_token_is_named_after_the_server(given: dict[str, Any], name: str) -> None:
    assert AGClientSocket(**given, auto_connect=False).auth_token_name == name


def test_documented_names() -> None:
    engine, store, context = MinBinCodec(), MemoryTokenStore(), ssl.create_default_context()
    with pytest.warns(UserWarning, match="cloneData"):
        options = ClientOptions.from_mapping(
            {
                "hostname": "a",
                "port": 8000,
                "secure": True,
                "autoConnect": False,
                "autoReconnectOptions": {"initialDelay": 5, "randomness": 6, "maxDelay": 7},
                "connectTimeout": 8,
                "ackTimeout": 9,
                "pingTimeoutDisabled": True,
                "timestampRequests": True,
                "authTokenName": "name",
                "authEngine": store,
                "codecEngine": engine,
                "channelPrefix": "p.",
                "subscriptionRetryOptions": {"initialDelay": 1},
                "batchOnHandshake": True,
                "batchOnHandshakeDuration": 10,
                "batchInterval": 11,
                "protocolVersion": 1,
                "cloneData": True,
                "wsOptions": {"ssl": context, "perMessageDeflate": True},
            }
        )
    assert options == ClientOptions(
        hostname="a",
        port=8000,
        secure=True,
        auto_connect=False,
        auto_reconnect_options=ReconnectOptions(initial_delay=5, randomness=6, max_delay=7),
        connect_timeout=8,
        ack_timeout=9,
        ping_timeout_disabled=True,
        timestamp_requests=True,
        auth_token_name="name",
        auth_engine=store,
        codec_engine=engine,
        channel_prefix="p.",
        subscription_retry_options=ReconnectOptions(initial_delay=1),
        batch_on_handshake=True,
        batch_on_handshake_duration=10,
        batch_interval=11,
        protocol_version=1,
        ws_options={"ssl": context, "per_message_deflate": True},
    )


def test_a_documented_name_that_does_not_exist() -> None:
    with pytest.raises(InvalidOptionsError, match="did you mean 'autoConnect'"):
        ClientOptions.from_mapping({"autoConnec": True})


def test_urls() -> None:
    assert url_options("wss://example.com:8000/sc/?a=b") == {
        "hostname": "example.com",
        "port": 8000,
        "secure": True,
        "path": "/sc/",
        "query": "a=b",
    }
    assert url_options("http://[::1]/") == {"hostname": "::1", "secure": False}


@pytest.mark.parametrize("url", ["", "x", "ftp://a", "ws://", "ws://a:x", "ws://a:99999", "ws://["])
def test_wrong_urls(url: str) -> None:
    with pytest.raises(InvalidOptionsError):
        url_options(url)


def test_a_client_can_be_made_before_there_is_a_loop() -> None:
    client = AGClientSocket(auto_connect=False)
    assert (client.state, client.auth_state, client.id) == ("closed", "unauthenticated", None)
    assert client.channel("x").state == "unsubscribed"
    client.receiver("x")
    with pytest.raises(InvalidActionError, match="event loop"):
        client.connect()
    with pytest.raises(InvalidActionError, match="auto_connect=False"):
        AGClientSocket()
