"""ClientOptions: every option of AGClientSocket, validated at construction."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Unpack
from urllib.parse import parse_qs, urlencode, urlsplit

from socketcluster.client.option_types import ClientOptionsDict, ReconnectOptionsDict, WsOptions
from socketcluster.client.reconnect import ReconnectOptions
from socketcluster.client.token_store import TokenStore
from socketcluster.codecs.base import CodecEngine
from socketcluster.engines.connect_errors import redacted
from socketcluster.engines.connector import Connector
from socketcluster.errors import InvalidOptionsError
from socketcluster.options import (
    Duration,
    check_entries,
    check_names,
    from_documented,
    has_methods,
    invalid_option,
    milliseconds,
    snake_case,
)
from socketcluster.tracing.options import Tracing

WITHOUT_EFFECT = frozenset({"binaryType", "cloneData", "disconnectOnUnload"})
"""Options of the original that have no effect here: data is encoded at the call."""

_DURATIONS = (
    "connect_timeout",
    "ack_timeout",
    "batch_on_handshake_duration",
    "batch_interval",
)
_FLAGS = (
    "secure",
    "auto_connect",
    "auto_reconnect",
    "auto_subscribe_on_connect",
    "ping_timeout_disabled",
    "timestamp_requests",
    "batch_on_handshake",
    "clone_data",
)
_LIMITS = (
    "max_payload",
    "max_inbound_backlog",
    "max_inbound_backlog_bytes",
    "max_outbound_buffer",
)
WS_OPTIONS: frozenset[str] = WsOptions.__optional_keys__
_HOST = re.compile(r"[^\s/?#@]+:\d{1,5}").fullmatch
_PROXY = re.compile(r"(https?|socks[45])://[^\s/?#]+/?").fullmatch
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_SCHEMES = {"ws": False, "http": False, "wss": True, "https": True}


def _is_header(header: tuple[Any, Any]) -> bool:
    name, value = header
    if not isinstance(name, str) or not _HEADER_NAME(name) or not isinstance(value, str):
        return False
    return value.isascii() and value.isprintable()


def _invalid_address(name: str, expected: str, value: Any) -> InvalidOptionsError:
    # A part of a URL in the wrong option may be a secret.
    return invalid_option(name, expected, redacted(value) if isinstance(value, str) else value)


def _invalid_kind(name: str, expected: str, value: Any) -> InvalidOptionsError:
    return InvalidOptionsError(
        f"The {name} option must be {expected}, not {type(value).__name__}", name
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """The options of an AGClientSocket. Durations are milliseconds or a timedelta.

    `ClientOptionsDict` describes them.

    Source: SocketCluster documentation, socketClusterClient.create.
    """

    hostname: str | None = None
    port: int | None = None
    host: str | None = None
    secure: bool = False
    protocol_scheme: Literal["ws", "wss"] | None = None
    socket_path: str | None = None
    path: str = "/socketcluster/"
    query: Mapping[str, Any] | str = field(default_factory=dict, repr=False)
    auto_connect: bool = True
    auto_reconnect: bool = True
    auto_reconnect_options: ReconnectOptionsDict | ReconnectOptions = field(
        default_factory=ReconnectOptions
    )
    auto_subscribe_on_connect: bool = True
    connect_timeout: Duration = 20_000
    ack_timeout: Duration = 10_000
    ping_timeout_disabled: bool = False
    timestamp_requests: bool = False
    timestamp_param: str = "t"
    auth_token_name: str | None = None
    auth_engine: TokenStore | None = None
    codec_engine: CodecEngine | None = None
    tracing: Tracing | None = None
    channel_prefix: str | None = None
    subscription_retry_options: ReconnectOptionsDict | ReconnectOptions | None = None
    batch_on_handshake: bool = False
    batch_on_handshake_duration: Duration = 100
    batch_interval: Duration = 50
    protocol_version: Literal[1, 2] = 2
    ws_options: WsOptions = field(default_factory=WsOptions, repr=False)
    client_id: str | None = None
    version: Any = None
    clone_data: bool = False
    connector: Connector | None = None
    max_payload: int = 1024 * 1024
    max_inbound_backlog: int = 1000
    max_inbound_backlog_bytes: int = 4 * 1024 * 1024
    max_outbound_buffer: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            object.__setattr__(self, name, milliseconds(name, getattr(self, name)))
        if self.milliseconds("batch_interval") <= 0:
            raise invalid_option("batch_interval", "a duration above 0", self.batch_interval)
        for name in _LIMITS:
            if type(getattr(self, name)) is not int or getattr(self, name) <= 0:
                raise invalid_option(name, "an integer above 0", getattr(self, name))
        for name in _FLAGS:
            if type(getattr(self, name)) is not bool:
                raise invalid_option(name, "True or False", getattr(self, name))
        self._check_address()
        self._check_rest()
        for name in ("auto_reconnect_options", "subscription_retry_options"):
            value = getattr(self, name)
            if value is not None or name == "auto_reconnect_options":
                object.__setattr__(self, name, ReconnectOptions.of(name, value))

    def _check_address(self) -> None:
        if self.host is not None:
            if not isinstance(self.host, str) or not _HOST(self.host):
                raise _invalid_address("host", "of the form 'hostname:port'", self.host)
            for name in ("hostname", "port"):
                if getattr(self, name) is not None:
                    raise InvalidOptionsError(
                        f"The host option includes the {name}: do not give both", name
                    )
        if self.hostname is not None and (
            not isinstance(self.hostname, str) or not re.fullmatch(r"[^\s/?#@]+", self.hostname)
        ):
            raise _invalid_address("hostname", "a host name or address", self.hostname)
        if self.port is not None and (type(self.port) is not int or not 0 < self.port < 65536):
            raise invalid_option("port", "an integer from 1 to 65535", self.port)
        if self.protocol_scheme not in (None, "ws", "wss"):
            raise invalid_option("protocol_scheme", "'ws' or 'wss'", self.protocol_scheme)
        if not isinstance(self.path, str) or not re.fullmatch(r"/[^\s?#]*", self.path):
            raise _invalid_address(
                "path", "a URL path that starts with '/', without a query", self.path
            )
        if not isinstance(self.query, Mapping | str):
            raise _invalid_kind("query", "a mapping or a text", self.query)

    def _check_rest(self) -> None:
        if type(self.protocol_version) is not int or self.protocol_version not in (1, 2):
            raise invalid_option("protocol_version", "1 or 2", self.protocol_version)
        methods = ("save_token", "load_token", "remove_token")
        if self.auth_engine is not None and not has_methods(self.auth_engine, *methods):
            raise invalid_option(
                "auth_engine", f"an object with {', '.join(methods)}", self.auth_engine
            )
        if self.codec_engine is not None and not has_methods(self.codec_engine, "encode", "decode"):
            raise invalid_option(
                "codec_engine", "an object with encode and decode", self.codec_engine
            )
        if self.tracing is not None and not isinstance(self.tracing, Tracing):
            raise invalid_option("tracing", "Tracing() or None", self.tracing)
        if self.connector is not None and not has_methods(self.connector, "connect"):
            raise invalid_option("connector", "an object with a connect method", self.connector)
        for name in ("channel_prefix", "auth_token_name", "socket_path", "client_id"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise invalid_option(name, "a text", value)
        if not isinstance(self.timestamp_param, str) or not self.timestamp_param:
            raise invalid_option("timestamp_param", "a text", self.timestamp_param)
        self._check_ws_options()

    def _check_ws_options(self) -> None:
        if not isinstance(self.ws_options, Mapping):
            raise _invalid_kind("ws_options", "a mapping", self.ws_options)
        check_entries("ws_options", self.ws_options, WS_OPTIONS)
        context = self.ws_options.get("ssl")
        if context is not None and not isinstance(context, ssl.SSLContext):
            raise invalid_option("ws_options", "given an ssl.SSLContext as 'ssl'", context)
        deflate = self.ws_options.get("per_message_deflate")
        if deflate is not None and type(deflate) is not bool:
            raise invalid_option(
                "ws_options", "given True or False as 'per_message_deflate'", deflate
            )
        proxy = self.ws_options.get("proxy")
        if proxy is not None and not (isinstance(proxy, str) and _PROXY(proxy)):
            expected = "given a URL like 'http://host:3128' or 'socks5://host:1080' as 'proxy'"
            raise _invalid_address("ws_options", expected, proxy)
        headers = self.ws_options.get("headers") or {}
        expected = "given a mapping of header lines as 'headers'"
        if not isinstance(headers, Mapping):
            raise _invalid_kind("ws_options", expected, headers)
        for name, value in headers.items():
            if not _is_header((name, value)):  # Its value may be a secret.
                raise InvalidOptionsError(
                    f"The ws_options option must be {expected}: the one of {name!r} is wrong",
                    "ws_options",
                )

    @property
    def scheme(self) -> str:
        """Either "ws" or "wss"."""
        return self.protocol_scheme or ("wss" if self.secure else "ws")

    def milliseconds(self, name: str) -> float:
        """Return a duration option in milliseconds."""
        value: float = getattr(self, name)
        return value

    def place(self) -> str:
        """Return the "hostname:port" of the server, without the port if it is the default."""
        if self.host is not None:
            return self.host
        hostname = self.hostname or "localhost"
        if ":" in hostname and not hostname.startswith("["):
            hostname = f"[{hostname}]"
        default = 443 if self.scheme == "wss" else 80
        return hostname if self.port in (None, default) else f"{hostname}:{self.port}"

    def uri(self) -> str:
        """Return the URL of a connection made now."""
        query: dict[str, Any] = (
            parse_qs(self.query, True) if isinstance(self.query, str) else dict(self.query)
        )
        if self.timestamp_requests:
            query[self.timestamp_param] = int(time.time() * 1000)
        texts = {True: "true", False: "false"}
        query = {n: texts[v] if isinstance(v, bool) else v for n, v in query.items()}
        encoded = urlencode(query, doseq=True)
        return f"{self.scheme}://{self.place()}{self.path}{'?' if encoded else ''}{encoded}"

    def token_name(self) -> str:
        """Return `auth_token_name`, or a name made from the server's address."""
        if self.auth_token_name is not None:
            return self.auth_token_name
        port = self.port or (443 if self.scheme == "wss" else 80)
        place = self.host or f"{self.hostname or 'localhost'}:{port}"
        return f"socketcluster.authToken.{place}"

    @classmethod
    def of(cls, **options: Unpack[ClientOptionsDict]) -> ClientOptions:
        """Like the constructor, but report an unknown name as `InvalidOptionsError` too."""
        check_names(options, {f.name for f in fields(cls)})
        return cls(**options)

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> ClientOptions:
        """Make options from their documented camelCase names (or those of this class).

        Raises:
            InvalidOptionsError: an unknown name or a wrong value.
        """
        values = from_documented(options, WITHOUT_EFFECT, {f.name for f in fields(cls)})
        ws_options = values.get("ws_options")
        if isinstance(ws_options, Mapping):
            values["ws_options"] = {snake_case(str(n)): value for n, value in ws_options.items()}
        return cls.of(**values)


def url_options(url: str) -> ClientOptionsDict:
    """Return the options that a URL such as "wss://example.com:8000/socketcluster/?a=b" stands for.

    Raises:
        InvalidOptionsError: the text is no ws, wss, http or https URL.
    """
    expected = "The URL must be like 'ws://localhost:8000/socketcluster/'"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # The error's text may repeat a password.
        raise InvalidOptionsError(
            f"{expected}, with a port up to 65535, not {redacted(url)!r}", "url"
        ) from None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise InvalidOptionsError(f"{expected}, not {redacted(url)!r}", "url")
    options: ClientOptionsDict = {"hostname": parts.hostname, "secure": _SCHEMES[parts.scheme]}
    if port is not None:
        options["port"] = port
    if parts.path not in ("", "/"):
        options["path"] = parts.path
    if parts.query:
        options["query"] = parts.query
    return options
