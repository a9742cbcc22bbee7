"""A server's options from a file and from environment variables."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from socketcluster import AGServer, AsyncAPI, ChannelRule, ServerOptions
from socketcluster.config.conversion import ConversionError, Variable, convert
from socketcluster.config.defaults import defaults
from socketcluster.config.toml_file import TomlFile
from socketcluster.engines.base import DeflateOptions
from socketcluster.errors import InvalidOptionsError
from socketcluster.server.configured import configured, option_kinds

DURATION = "'ping_interval' must be a number or a duration such as '8s'"
ONLY_IN_CODE = {"auth_engine", "codec_engine", "handle_protocols", "identify", "request_creator"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without variables, and do not warn of them again."""
    import os

    for name in list(os.environ):
        if name.startswith("SOCKETCLUSTER_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(defaults, "file", None)
    monkeypatch.setattr(defaults, "warns", False)


class File:
    """A configuration file of a test."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "app.toml"

    def server(self, text: str, **options: Any) -> AGServer:
        """Make a server from a file with this text."""
        self.path.write_text(text)
        return AGServer.from_config(self.path, **options)

    def fault(self, text: str, **options: Any) -> str:
        """Return the error for a file with this text, without its folder."""
        with pytest.raises(InvalidOptionsError) as raised:
            self.server(text, **options)
        return str(raised.value).replace(f"{self.path.parent}/", "")


@pytest.fixture
def file(tmp_path: Path) -> File:
    """Return a file in a temporary folder."""
    return File(tmp_path)


def test_every_option_is_configurable_or_refused_with_a_reason(file: File) -> None:
    for field in dataclasses.fields(ServerOptions):
        kind = option_kinds()[field.name]
        try:
            convert({}, kind, (field.name,))
        except ConversionError as error:
            refused = "only in code" in str(error)
        else:
            refused = False
        assert refused == (field.name in ONLY_IN_CODE), field.name
    text = "'auth_engine' can be given only in code, not in a file"
    assert file.fault("\nauth_engine = 'a'") == f"app.toml:2: {text}"


def test_options_of_all_types(file: File) -> None:
    options = file.server(
        """
        ping_interval = 5000
        ping_timeout = "20 s"
        handshake_timeout = "1.5s"
        origins = ["*:443", "localhost:*"]
        trusted_proxies = "10.0.0.0/8"
        protocol_version = 1
        socket_stream_cleanup_mode = "close"
        allow_client_publish = false
        max_payload = 65_536
        auth_default_expiry = 1.5
        droppable_channels = ["price"]
        [per_message_deflate]
        threshold = 10
        [asyncapi]
        title = "Chat"
        [ws_engine_server_options]
        [[channels]]
        pattern = "chat/*"
        [[channels]]
        pattern = "news"
        """
    ).options
    assert options.ping_interval == 5000
    assert options.ping_timeout == 20_000
    assert options.handshake_timeout == 1500
    assert options.origins == ["*:443", "localhost:*"]
    assert options.trusted_proxies == "10.0.0.0/8"
    assert options.protocol_version == 1
    assert options.socket_stream_cleanup_mode == "close"
    assert options.allow_client_publish is False
    assert options.max_payload == 65_536
    assert options.auth_default_expiry == 1.5
    assert options.droppable("price")
    assert options.per_message_deflate == DeflateOptions(threshold=10)
    assert options.asyncapi == AsyncAPI(title="Chat")
    assert options.channels == [ChannelRule("chat/*"), ChannelRule("news")]


def test_variables_of_all_types(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "PING_INTERVAL": "5000",
        "PING_TIMEOUT": "20s",
        "ORIGINS": "*:443, localhost:*",
        "AUTH_VERIFY_ALGORITHMS": "HS256, HS512",
        "DROPPABLE_CHANNELS": '["a, b", "c"]',
        "PROTOCOL_VERSION": "1",
        "ALLOW_CLIENT_PUBLISH": "no",
        "STRICT_HANDSHAKE": "FALSE",
        "PER_MESSAGE_DEFLATE": '{"threshold": 10}',
        "ASYNCAPI__TITLE": "Chat",
        "ASYNCAPI__VERSION": "2",
        "CHANNELS": '[{"pattern": "chat/*"}]',
        "MAX_PAYLOAD": "",  # As if it were not set.
    }.items():
        monkeypatch.setenv(f"SOCKETCLUSTER_{name}", text)
    options = AGServer().options
    assert options.ping_interval == 5000
    assert options.ping_timeout == 20_000
    assert options.origins == "*:443, localhost:*"
    assert options.auth_verify_algorithms == ["HS256", "HS512"]
    assert options.droppable_channels == ["a, b", "c"]
    assert options.protocol_version == 1
    assert options.allow_client_publish is False
    assert options.strict_handshake is False
    assert options.per_message_deflate == DeflateOptions(threshold=10)
    assert options.asyncapi == AsyncAPI(title="Chat", version="2")
    assert options.channels == [ChannelRule("chat/*")]
    assert options.max_payload == ServerOptions().max_payload


def test_the_code_wins_over_the_environment_over_the_file(
    monkeypatch: pytest.MonkeyPatch, file: File
) -> None:
    text = (
        "ack_timeout = 1\nping_interval = 1\nping_timeout = 1\n[asyncapi]\ntitle = 'f'\npath='/f'"
    )
    monkeypatch.setenv("SOCKETCLUSTER_PING_INTERVAL", "2")
    monkeypatch.setenv("SOCKETCLUSTER_PING_TIMEOUT", "2")
    monkeypatch.setenv("SOCKETCLUSTER_ASYNCAPI__TITLE", "e")
    options = file.server(text, ping_timeout=3).options
    assert (options.ack_timeout, options.ping_interval, options.ping_timeout) == (1, 2, 3)
    assert options.asyncapi == AsyncAPI(title="e", path="/f")  # Tables are merged.
    assert file.server(text, asyncapi=None).options.asyncapi is None
    monkeypatch.setattr(defaults, "file", TomlFile.read(str(file.path)))
    assert AGServer(ping_timeout=3).options.ack_timeout == 1
    assert AGServer().options.ping_timeout == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "ping_intervall = 1",
            "app.toml:1: unknown option 'ping_intervall' (nearest: 'ping_interval')",
        ),
        (
            "\n\npingInterval = 1",
            "app.toml:3: unknown option 'pingInterval' (nearest: 'ping_interval')",
        ),
        ("[asyncapi]\ntitel = ''", "app.toml:2: unknown option 'titel' (nearest: 'title')"),
        (
            "[[channels]]\n[[channels]]\npattern = 'a'",
            "app.toml:1: 'channels[0].pattern' is missing",
        ),
        (
            "ping_interval = '8 parsecs'",
            f"app.toml:1: {DURATION}, not '8 parsecs'",
        ),
        (
            "ping_interval = true",
            f"app.toml:1: {DURATION}, not true or false",
        ),
        (
            "#\nping_interval = -1",
            "app.toml:2: The ping_interval option must be milliseconds of at least 0, or ",
        ),
        ("max_payload = 1.5", "app.toml:1: 'max_payload' must be an integer, not a number"),
        ("auth_key = 12345", "app.toml:1: 'auth_key' must be a text, not an integer"),
        (
            "channels_default = 'deny'",
            "app.toml:1: 'channels_default' must be 'allow' or 'refuse', not 'deny'",
        ),
        ("origins = ['a', 5]", "app.toml:1: 'origins[1]' must be a text, not an integer"),
        (
            "per_message_deflate = 2",
            "app.toml:1: 'per_message_deflate' must be true or false or a table, not an integer",
        ),
        (
            "#\n[per_message_deflate]\nlevel = 99",
            "app.toml:2: The per_message_deflate option must have as level an integer from 1 to 9",
        ),
        ("#\n[asyncapi]\npath = 'a'", "app.toml:2: The asyncapi.path option must be a URL path"),
        ("max_payload = 2024-01-01", "app.toml:1: 'max_payload' must be an integer, not a date"),
        ("auth_key_file = 'none'", "app.toml:1: cannot read 'none': No such file or directory"),
        ("auth_key_file = 5", "app.toml:1: 'auth_key_file' must be the path of a file"),
        (
            "auth_key_file = 'a'\nauth_key = 'b'",
            "app.toml:1: set either 'auth_key' or 'auth_key_file'",
        ),
        (
            "max_payload_file = 'a'",
            "app.toml:1: unknown option 'max_payload_file' (nearest: 'max_payload')",
        ),
        ("[[channels]]\npattern = ''", "app.toml:1: "),
    ],
)
def test_a_fault_names_its_line(file: File, text: str, message: str) -> None:
    fault = file.fault(text)
    assert fault.startswith(message)
    assert "\n" not in fault


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "PING_INTERVAL",
            "eight",
            f"{DURATION}, not 'eight'",
        ),
        (
            "PING_INTERVAL",
            "-8",
            "The ping_interval option must be milliseconds of at least 0, or a timedelta, not -8",
        ),
        (
            "STRICT_HANDSHAKE",
            "maybe",
            "'strict_handshake' must be true or false, not 'maybe'",
        ),
        ("CHANNELS", "[{", "it is not JSON: "),
        ("CHANNELS", '[{"a_pattern": "a"}]', "unknown option 'a_pattern' (nearest: 'pattern')"),
        ("ASYNCAPI__TITEL", "a", "unknown option 'titel' (nearest: 'title')"),
        (
            "ASYNCAPI__PATH",
            "no",
            "The asyncapi.path option must be a URL path like '/asyncapi', not 'no'",
        ),
        ("AUTH_ENGINE", "mine", "'auth_engine' can be given only in code, not in a file"),
        ("AUTH_KEY_FILE", "none", "cannot read 'none': No such file or directory"),
    ],
)
def test_a_fault_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str
) -> None:
    monkeypatch.setenv(f"SOCKETCLUSTER_{name}", text)
    with pytest.raises(InvalidOptionsError) as raised:
        AGServer()
    assert str(raised.value).startswith(f"SOCKETCLUSTER_{name}: {message}")


def test_an_error_of_the_code_has_no_place(file: File) -> None:
    fault = file.fault("ping_interval = 5", ping_timeout=-1)
    assert fault.startswith("The ping_timeout option")


def test_secrets_from_files(file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("secret\n")
    (tmp_path / "empty").write_text("\n")
    text = f"auth_key_file = '{tmp_path}/key'\n[asyncapi]\ntoken_file = '{tmp_path}/key'"
    server = file.server(text)
    assert server.signature_key == "secret"
    assert server.options.asyncapi is not None
    assert server.options.asyncapi.token == "secret"
    assert "secret" not in repr(server.options)
    assert file.fault(f"auth_key_file = '{tmp_path}/empty'").endswith(
        "/empty' is empty".replace("/", "", 1)
    )
    monkeypatch.setenv("SOCKETCLUSTER_AUTH_KEY_FILE", str(tmp_path / "key"))
    assert AGServer().signature_key == "secret"
    assert file.server("auth_key = 'of the file'").signature_key == "secret"
    monkeypatch.setenv("SOCKETCLUSTER_AUTH_KEY", "other")
    with pytest.raises(InvalidOptionsError, match="set either 'auth_key' or 'auth_key_file'"):
        AGServer()


def test_keys_of_an_upper_layer_replace_all_keys_below(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = "auth_private_key = 'a'\nauth_public_key = 'b'"
    assert file.server(pair).signature_key == "a"
    assert file.server(pair, auth_key=None).signature_key == "a"
    assert file.server(pair, auth_key="code").signature_key == "code"
    monkeypatch.setenv("SOCKETCLUSTER_AUTH_KEY", "environment")
    assert file.server(pair).signature_key == "environment"
    assert file.server(pair, auth_private_key="c", auth_public_key="d").signature_key == "c"


def test_the_broker(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file.server("broker_engine = 'simple:'").options.broker_engine == "simple:"
    monkeypatch.setenv("SOCKETCLUSTER_BROKER", "wrong:")
    with pytest.raises(InvalidOptionsError, match="there is no broker for 'wrong'"):
        file.server("broker_engine = 'simple:'")  # The variable wins.
    assert file.server("", broker_engine="simple:").options.broker_engine == "simple:"


def test_a_misspelled_variable_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(defaults, "warns", True)
    for name, text in {
        "PING_INTERVALL": "5",
        "ZZZ": "5",
        # Of the command line, and those that Kubernetes makes of a Service "socketcluster".
        "URL": "ws://a",
        "PORT": "tcp://10.0.0.1:80",
        "PORT_80_TCP": "tcp://10.0.0.1:80",
        "PORT_80_TCP_ADDR": "10.0.0.1",
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT_HTTP": "80",
        "CHAT_SERVICE_HOST": "10.0.0.1",
    }.items():
        monkeypatch.setenv(f"SOCKETCLUSTER_{name}", text)
    with caplog.at_level(logging.WARNING, "socketcluster"):
        AGServer()
        AGServer()
    text = "The environment variable SOCKETCLUSTER_PING_INTERVALL is no option"
    assert caplog.messages == [
        f"{text} (nearest: SOCKETCLUSTER_PING_INTERVAL)",
        "The environment variable SOCKETCLUSTER_ZZZ is no option",
    ]


@dataclass
class Limit:
    """As the options of later parts are."""

    count: int
    per: float | timedelta = 1.0


@dataclass
class Group:
    """A dataclass of dataclasses."""

    first: Limit | None = None
    others: Mapping[str, Limit] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.first is not None and self.first.count < 0:
            raise ValueError("first must be positive")


def test_nested_dataclasses() -> None:
    value = {"first": {"count": 1, "per": "1m"}, "others": {"add": {"count": 2, "per": 2}}}
    expected = Group(Limit(1, timedelta(minutes=1)), {"add": Limit(2, 2.0)})
    assert convert(value, Group | None, ("limits",)) == expected
    text = Variable.of("V", '{"first": {"count": 1}}')
    assert convert(text, Group, ("limits",)) == Group(Limit(1))
    with pytest.raises(ConversionError) as raised:
        convert({"others": {"add": {"count": "2"}}}, Group, ("limits",))
    assert raised.value.keys == ("limits", "others", "add", "count")
    with pytest.raises(ConversionError, match="first must be positive"):
        convert({"first": {"count": -2}}, Group, ("limits",))


def test_a_layer_that_is_empty() -> None:
    assert configured({}, None).values == {}


def test_a_text_in_place_of_a_table_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the secret that belongs into the table."""
    monkeypatch.setenv("SOCKETCLUSTER_METRICS", "topsecret")
    with pytest.raises(InvalidOptionsError) as raised:
        AGServer()
    assert str(raised.value) == "SOCKETCLUSTER_METRICS: 'metrics' must be a table, not a text"


def test_a_duration_that_is_too_long_is_one_error(file: File) -> None:
    fault = file.fault("ping_interval = '99999999999999999999 d'")
    assert fault == "app.toml:1: 'ping_interval' is longer than a duration can be"
