"""Options: defaults, units, names, and what a wrong one says."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

import socketcluster
from socketcluster import AGServer, ServerOptions
from socketcluster.engines.base import DeflateOptions
from socketcluster.engines.deflate import DeflateCache, negotiate
from socketcluster.errors import InvalidOptionsError
from socketcluster.protocol.frames import text_frame
from support import connected

DOCUMENTED = {
    "authKey": None,
    "perMessageDeflate": False,
    "authPrivateKey": None,
    "authPublicKey": None,
    "authDefaultExpiry": 86400,
    "authAlgorithm": "HS256",
    "protocolVersion": 2,
    "handshakeTimeout": 10000,
    "ackTimeout": 10000,
    "origins": "*:*",
    "socketChannelLimit": 1000,
    "pingInterval": 8000,
    "pingTimeout": 20000,
    "middlewareEmitFailures": True,
    "path": "/socketcluster/",
    "allowClientPublish": True,
    "batchOnHandshake": False,
    "batchOnHandshakeDuration": 400,
    "batchInterval": 50,
    "socketStreamCleanupMode": "kill",
}


def test_documented_names_and_defaults() -> None:
    defaults = ServerOptions()
    assert ServerOptions.from_mapping(DOCUMENTED) == defaults
    assert defaults.origins == "*:*"
    origins = ServerOptions(origins="A.com:* *:80").allowed_origins()
    assert origins.allow("https://a.com")
    assert origins.allow("http://b.com")
    assert not origins.allow("https://b.com")
    assert ServerOptions.from_mapping({"wsEngine": "asgi", "ws_engine": "asgi"}).ws_engine == "asgi"
    assert (defaults.max_payload, defaults.max_batch_items) == (1024 * 1024, 2000)
    assert (defaults.max_channel_name_length, defaults.max_pending_clients) == (255, 10_000)
    assert (defaults.max_inbound_backlog, defaults.max_outbound_buffer) == (1000, 4 * 1024 * 1024)
    assert defaults.max_inbound_backlog_bytes == 4 * 1024 * 1024
    assert defaults.max_buffered == 1024**3
    assert defaults.history_memory == 64 * 1024 * 1024
    assert ServerOptions.from_mapping({"historyMemory": 5}).history_memory == 5
    assert defaults.max_channel_backlog == 10_000
    assert defaults.max_channel_backlog_bytes == 16 * 1024 * 1024
    assert (defaults.max_malformed_messages, defaults.drain_timeout) == (100, 10_000)


def test_options_without_effect_warn() -> None:
    with pytest.warns(UserWarning, match="authSignAsync option has no effect"):
        ServerOptions.from_mapping({"authSignAsync": True})


def test_durations_may_be_timedeltas() -> None:
    options = ServerOptions(ping_interval=timedelta(seconds=2), ack_timeout=1.5)
    assert options.ping_interval == 2000
    assert options.milliseconds("ack_timeout") == 1.5


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("nonsense", 1),
        ("ping_interval", "8000"),
        ("ping_interval", 0),
        ("ping_timeout", -1),
        ("ack_timeout", True),
        ("ack_timeout", float("nan")),
        ("auth_key", 5),
        ("auth_key", ""),
        ("auth_private_key", "x"),
        ("auth_public_key", "x"),
        ("auth_algorithm", "none"),
        ("auth_verify_algorithms", "HS256"),
        ("auth_verify_algorithms", ["none"]),
        ("auth_default_expiry", 0),
        ("auth_engine", object()),
        ("broker_engine", object()),
        ("codec_engine", object()),
        ("history_memory", 0),
        ("history_memory", "64MiB"),
        ("history_memory", None),
        ("protocol_version", 3),
        ("origins", 5),
        ("origins", "example.com"),
        ("socket_channel_limit", -1),
        ("socket_stream_cleanup_mode", "burn"),
        ("path", "socketcluster"),
        ("allow_client_publish", 1),
        ("per_message_deflate", "yes"),
        ("per_message_deflate", {"nonsense": 1}),
        ("per_message_deflate", {"level": 99}),
        ("per_message_deflate", {"level": 0}),
        ("per_message_deflate", {"level": None}),
        ("per_message_deflate", {"level": True}),
        ("per_message_deflate", {"threshold": -1}),
        ("per_message_deflate", {"threshold": "1024"}),
        ("per_message_deflate", {"serverMaxWindowBits": 8}),
        ("per_message_deflate", {"server_max_window_bits": 16}),
        ("per_message_deflate", {"client_max_window_bits": 7}),
        ("per_message_deflate", {"server_no_context_takeover": 1}),
        ("per_message_deflate", {"client_no_context_takeover": None}),
        ("max_payload", 0),
        ("max_payload", 1.5),
        ("handle_protocols", 5),
        ("droppable_channels", "abc"),
        ("ws_engine_server_options", 5),
        ("ws_engine", "nothing"),
    ],
)
def test_a_wrong_option_is_named(option: str, value: Any) -> None:
    with pytest.raises(InvalidOptionsError) as refused:
        AGServer(**{option: value})
    assert refused.value.option is not None
    named = {"auth_private_key": "auth_public_key", "auth_public_key": "auth_private_key"}
    assert refused.value.option == named.get(option, option)
    assert option in str(refused.value)


def test_wrong_deflate_options_are_refused_when_they_are_made() -> None:
    with pytest.raises(InvalidOptionsError, match="as level an integer from 1 to 9, not 99"):
        DeflateOptions(level=99)


@pytest.mark.parametrize("bits", [9, 15, None])
@pytest.mark.parametrize("level", [1, 9])
def test_all_that_deflate_options_allow_can_be_negotiated(bits: Any, level: int) -> None:
    options = DeflateOptions(
        server_max_window_bits=bits, client_max_window_bits=bits and bits - (bits == 9), level=level
    )
    offer = "permessage-deflate; client_max_window_bits"
    agreed = negotiate(offer, options, DeflateCache())
    assert agreed is not None
    frame = text_frame(b"a" * 5000)
    assert len(agreed[1].compress([frame])[0]) < len(frame)


def test_deflate_in_three_forms() -> None:
    assert ServerOptions(per_message_deflate=True).deflate() == DeflateOptions()
    assert DeflateOptions().threshold == 1024
    documented: Any = {"threshold": 5, "serverMaxWindowBits": 10}
    given = ServerOptions(per_message_deflate=documented)
    assert given.deflate() == DeflateOptions(threshold=5, server_max_window_bits=10)
    assert ServerOptions(per_message_deflate=DeflateOptions(level=1)).deflate() is not None


def test_properties_of_the_server() -> None:
    server = AGServer(auth_key="secret", ack_timeout=5)
    assert server.signature_key == server.verification_key == "secret"
    assert server.ack_timeout == 5
    assert (server.clients, server.clients_count) == ({}, 0)
    assert (server.pending_clients, server.pending_clients_count) == ({}, 0)
    assert (server.host, server.source_port, server.secure) == (None, None, False)
    assert server.get_path() == server.path == "/socketcluster/"
    assert not server.is_ready
    assert len(str(AGServer().signature_key)) == 64


async def test_engines_can_be_set_later(make_server: Any) -> None:
    class Engine:
        def verify_token(self, signed_token: Any, key: Any, options: Any) -> Any:
            return {"from": "engine"}

        def sign_token(self, token: Any, key: Any, options: Any) -> str:
            return "token"

    class Codec:
        def encode(self, obj: Any) -> str:
            return json.dumps({"wrapped": obj})

        def decode(self, message: str | bytes) -> Any:
            return json.loads(message)["wrapped"]

    server = await make_server()
    server.set_auth_engine(Engine())
    codec = Codec()
    server.set_codec_engine(codec)
    assert server.codec is codec
    async with connected(server, handshake=False) as client:
        packet = {"event": "#handshake", "data": {"authToken": "x"}, "cid": 1}
        await client.send({"wrapped": packet})
        answer = (await client.event())["wrapped"]
        assert answer["data"]["isAuthenticated"] is True
        (socket,) = server.clients.values()
        assert socket.auth_token == {"from": "engine"}


def test_everything_promised_is_exported() -> None:
    classes = "AGServer AGServerSocket AGExchange AGChannel AGAction AGRequest ServerOptions"
    streams = "AsyncStreamEmitter StreamDemux WritableConsumableStream ConsumableStream"
    for name in [*classes.split(), *streams.split(), "listen", "attach", "errors"]:
        assert name in socketcluster.__all__
        assert getattr(socketcluster, name)


async def test_listen_ready_and_context_manager() -> None:
    async with AGServer() as server:
        ready = server.listener("ready").create_consumer()
        await server.listen(0)
        assert await ready.__anext__() == socketcluster.ReadyEvent()
        assert server.is_ready
        assert server.host == "127.0.0.1"
        assert isinstance(server.source_port, int)
    assert not server.is_ready
    server = await socketcluster.listen(0, path="/x/")
    assert server.path == "/x/"
    await server.close()
    await server.serve_forever()
    assert not server.is_ready


async def test_background_functions(caplog: Any) -> None:
    server = AGServer()
    heard: list[Any] = []

    @server.background
    async def watch() -> None:
        async for event in server.listener("ready"):
            heard.append(event)

    async def fail() -> None:
        raise ValueError("oops")

    errors = server.listener("error").create_consumer()
    server.background(fail)
    await server.listen(0)
    assert str((await errors.__anext__()).error) == "oops"
    assert heard == [socketcluster.ReadyEvent()]
    await server.close()
    assert "oops" in caplog.text


@pytest.mark.parametrize(
    ("limit", "expected"), [(5000, 6000), (1, 1001), (0, 10_000), (None, 10_000), (1000, 2000)]
)
def test_a_batch_may_subscribe_to_all_channels(limit: int | None, expected: int) -> None:
    """Guarantee 4: the limits fit each other by default."""
    assert ServerOptions(socket_channel_limit=limit).max_batch_items == expected


@pytest.mark.parametrize(("items", "channels"), [(1000, 5000), (5000, 5000), (1, 3)])
def test_limits_that_contradict_each_other_are_refused(items: int, channels: int) -> None:
    with pytest.raises(InvalidOptionsError) as raised:
        AGServer(max_batch_items=items, socket_channel_limit=channels)
    assert raised.value.option == "max_batch_items"
    assert f"max_batch_items option ({items})" in str(raised.value)
    assert f"socket_channel_limit ({channels})" in str(raised.value)


def test_a_batch_limit_below_the_default_channel_limit_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    AGServer(max_batch_items=10, auth_key="k" * 32)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "max_batch_items option (10) must be above socket_channel_limit (1000)" in record.message
    caplog.clear()
    AGServer(max_batch_items=10, socket_channel_limit=5, auth_key="k" * 32)
    assert not caplog.records
