"""ServerOptions: every option of AGServer, validated when it is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

from socketcluster.engines.base import DeflateOptions
from socketcluster.engines.proxies import TrustedProxies
from socketcluster.errors import InvalidOptionsError
from socketcluster.options import (
    Duration,
    check_entries,
    check_names,
    from_documented,
    has_methods,
    milliseconds,
    snake_case,
)
from socketcluster.options import (
    invalid_option as _wrong,
)
from socketcluster.server.batch_limit import (
    DEFAULT_CHANNELS,
    batch_problem,
    default_batch_items,
)
from socketcluster.server.origins import FORM, AllowedOrigins

CLEANUP_MODES = ("kill", "close", "none")
WITHOUT_EFFECT = frozenset({"authSignAsync", "authVerifyAsync", "cloneData"})
"""Options that servers in the field still pass and that mean nothing here."""

_Made = TypeVar("_Made")
_BROKER = ("attach", "start", "close", "check", "subscribe", "unsubscribe", "publish")
_DURATIONS = (
    "handshake_timeout",
    "ack_timeout",
    "ping_interval",
    "ping_timeout",
    "batch_on_handshake_duration",
    "batch_interval",
    "drain_timeout",
    "last_words_timeout",
)
_LIMITS = (
    "max_payload",
    "max_batch_items",
    "max_channel_name_length",
    "max_subscription_data",
    "max_pending_clients",
    "max_inbound_backlog",
    "max_inbound_backlog_bytes",
    "max_outbound_buffer",
    "max_buffered",
    "max_channel_backlog",
    "max_channel_backlog_bytes",
    "max_malformed_messages",
)
_FLAGS = (
    "allow_client_publish",
    "batch_on_handshake",
    "health_probes",
    "middleware_emit_failures",
    "ping_timeout_disabled",
    "strict_handshake",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """The options of an AGServer. Durations are milliseconds or a timedelta.

    Attributes:
        ws_engine: "picows", "asgi", a "module:attribute" path, or an engine object.
        ws_engine_server_options: handed to the engine as keyword arguments when it is made.
        auth_key: the secret for HMAC algorithms; if None, SOCKETCLUSTER_AUTH_KEY of the
            environment or 256 random bits in hex.
        auth_private_key, auth_public_key: PEM, for RSA and ECDSA algorithms; both or neither.
        auth_default_expiry: seconds that a token is good for.
        auth_algorithm: signs, and is the one accepted unless `auth_verify_algorithms` is set.
        per_message_deflate: a bool, `DeflateOptions`, or a mapping of its fields.
        protocol_version: 2, or 1 for clients up to version 14.
        origins: where the pages may come from that connect, in a list or one string:
            "host:port", with any scheme, or "scheme://host" and a port unless it is the scheme's
            default; "*" for any host or port.
        trusted_proxies: addresses and networks of proxies ("10.0.0.0/8"), "unix" for the peers of
            a Unix socket, in a list or one string: `client_address` is what they put into
            X-Forwarded-For.
        socket_channel_limit: channels that one socket may subscribe to; 0 or None for no limit.
        ping_timeout_disabled: neither ping nor close for want of a pong.
        strict_handshake: close a socket (4009) whose first packet is not '#handshake'.
        socket_stream_cleanup_mode: what happens to a socket's streams at 'end': "kill" drops
            their backlog, "close" lets it be taken, "none" leaves them.
        broker_engine: a URL or a `Broker` object; None for SOCKETCLUSTER_BROKER of the
            environment, or the one in process.
        auth_engine, codec_engine: objects; None for the defaults.
        handle_protocols: called with (set of offered sub-protocols, request), returns one or None.
        request_creator: called with (socket, id, procedure, data), returns an AGRequest.
        max_payload: bytes of one message, after inflating too.
        max_batch_items: packets in one batch; None for `socket_channel_limit` + 1,000, as a client
            may subscribe to all its channels in one batch, or 10,000 without such a limit.
        max_channel_name_length: characters.
        max_subscription_data: bytes of the data given with a socket's subscriptions, which is kept
            for middleware that is asked again; a subscription past it is refused.
        max_pending_clients: sockets in the handshake phase; more are refused with 503.
        max_inbound_backlog: messages of a socket that wait, for middleware or in one loop over
            its streams, before it is no longer read from.
        max_inbound_backlog_bytes: the same in bytes, as received.
        max_outbound_buffer: bytes waiting per socket, the transport's included.
        max_buffered: bytes that all sockets of the server together may hold, received and to be
            sent; past it the largest backlogs are not read on, then the largest outbound
            buffers and unfinished messages closed.
        droppable_channels: channel names, or a predicate: past `max_outbound_buffer` their
            oldest publishes are dropped instead of closing the socket.
        max_channel_backlog: values that one loop over a channel of the exchange may be behind;
            past it the loop raises BackpressureError, or on `droppable_channels` loses the oldest.
        max_channel_backlog_bytes: the same in bytes, as published.
        max_malformed_messages: a socket that sends more is closed.
        health_probes: answer GET /health/live and /health/ready over HTTP.
        drain_timeout: how long `close()` waits for unanswered calls.
        last_words_timeout: how long messages received before a client left are still carried out,
            before 'disconnect'.

    Source: AGServer specification, constructor(options).
    """

    ws_engine: Any = "picows"
    ws_engine_server_options: Mapping[str, Any] = field(default_factory=dict)
    auth_key: str | bytes | None = None
    auth_private_key: str | bytes | None = None
    auth_public_key: str | bytes | None = None
    auth_default_expiry: int | float = 86400
    auth_algorithm: str = "HS256"
    auth_verify_algorithms: Sequence[str] | None = None
    per_message_deflate: bool | Mapping[str, Any] | DeflateOptions = False
    protocol_version: int = 2
    handshake_timeout: Duration = 10000
    ack_timeout: Duration = 10000
    origins: str | Sequence[str] = "*:*"
    trusted_proxies: str | Sequence[str] = ()
    socket_channel_limit: int | None = DEFAULT_CHANNELS
    ping_interval: Duration = 8000
    ping_timeout: Duration = 20000
    ping_timeout_disabled: bool = False
    middleware_emit_failures: bool = True
    path: str = "/socketcluster/"
    allow_client_publish: bool = True
    batch_on_handshake: bool = False
    batch_on_handshake_duration: Duration = 400
    batch_interval: Duration = 50
    socket_stream_cleanup_mode: str = "kill"
    strict_handshake: bool = True
    broker_engine: Any = None
    auth_engine: Any = None
    codec_engine: Any = None
    handle_protocols: Callable[..., Any] | None = None
    request_creator: Callable[..., Any] | None = None
    max_payload: int = 1024 * 1024
    max_batch_items: int = cast(int, None)
    max_channel_name_length: int = 255
    max_subscription_data: int = 1024 * 1024
    max_pending_clients: int = 10_000
    max_inbound_backlog: int = 1000
    max_inbound_backlog_bytes: int = 4 * 1024 * 1024
    max_channel_backlog: int = 10_000
    max_channel_backlog_bytes: int = 16 * 1024 * 1024
    max_outbound_buffer: int = 4 * 1024 * 1024
    max_buffered: int = 1024 * 1024 * 1024
    droppable_channels: Collection[str] | Callable[[str], bool] = ()
    max_malformed_messages: int = 100
    health_probes: bool = True
    drain_timeout: Duration = 10000
    last_words_timeout: Duration = 5000

    def __post_init__(self) -> None:
        limit = self.socket_channel_limit
        if limit is not None and (type(limit) is not int or limit < 0):
            raise _wrong("socket_channel_limit", "an integer of at least 0, or None", limit)
        if cast(object, self.max_batch_items) is None:
            object.__setattr__(self, "max_batch_items", default_batch_items(limit))
        for name in _DURATIONS:
            object.__setattr__(self, name, milliseconds(name, getattr(self, name)))
        for name in ("ping_interval", "batch_interval"):
            if getattr(self, name) <= 0:
                raise _wrong(name, "a duration above 0", getattr(self, name))
        for name in _LIMITS:
            value = getattr(self, name)
            if type(value) is not int or value <= 0:
                raise _wrong(name, "an integer above 0", value)
        for name in _FLAGS:
            if type(getattr(self, name)) is not bool:
                raise _wrong(name, "True or False", getattr(self, name))
        self._check_auth()
        self._check_rest()

    def _check_auth(self) -> None:
        expiry = self.auth_default_expiry
        if (
            isinstance(expiry, bool)
            or not isinstance(expiry, int | float)
            or not 0 < expiry <= 1e11
        ):
            raise _wrong("auth_default_expiry", "a number of seconds above 0, up to 1e11", expiry)
        for name in ("auth_key", "auth_private_key", "auth_public_key"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str | bytes) or not value):
                raise InvalidOptionsError(
                    f"The {name} option must be a non-empty str or bytes", name
                )
        if (self.auth_private_key is None) != (self.auth_public_key is None):
            there, missing = ("auth_public_key", "auth_private_key")
            if self.auth_public_key is None:
                there, missing = missing, there
            raise InvalidOptionsError(
                f"The {missing} option must be specified if {there} is specified", missing
            )
        if not isinstance(self.auth_algorithm, str) or self.auth_algorithm.lower() == "none":
            raise _wrong("auth_algorithm", "the name of a JWT algorithm", self.auth_algorithm)
        accepted = self.auth_verify_algorithms
        if accepted is not None and (
            isinstance(accepted, str)
            or not isinstance(accepted, Sequence)
            or not accepted
            or any(not isinstance(a, str) or a.lower() == "none" for a in accepted)
        ):
            raise _wrong("auth_verify_algorithms", "a list of JWT algorithms", accepted)
        engine = self.auth_engine
        if engine is not None and not has_methods(engine, "verify_token", "sign_token"):
            raise _wrong("auth_engine", "an object with verify_token and sign_token", engine)

    def _check_rest(self) -> None:
        problem = batch_problem(self.max_batch_items, self.socket_channel_limit)
        if problem is not None and self.socket_channel_limit != DEFAULT_CHANNELS:
            raise InvalidOptionsError(problem, "max_batch_items")
        if type(self.protocol_version) is not int or self.protocol_version not in (1, 2):
            raise _wrong("protocol_version", "1 or 2", self.protocol_version)
        if self.socket_stream_cleanup_mode not in CLEANUP_MODES:
            raise _wrong(
                "socket_stream_cleanup_mode",
                "'kill', 'close' or 'none'",
                self.socket_stream_cleanup_mode,
            )
        if not isinstance(self.path, str) or not self.path.startswith("/"):
            raise _wrong("path", "a URL path that starts with '/'", self.path)
        self.allowed_origins()
        self.proxies()
        if not isinstance(self.ws_engine_server_options, Mapping):
            raise _wrong("ws_engine_server_options", "a mapping", self.ws_engine_server_options)
        if self.codec_engine is not None and not has_methods(self.codec_engine, "encode", "decode"):
            raise _wrong("codec_engine", "an object with encode and decode", self.codec_engine)
        if self.broker_engine is not None and not (
            isinstance(self.broker_engine, str) or has_methods(self.broker_engine, *_BROKER)
        ):
            raise _wrong("broker_engine", "a URL or a Broker object", self.broker_engine)
        for name in ("handle_protocols", "request_creator"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise _wrong(name, "a callable", getattr(self, name))
        droppable = self.droppable_channels
        if isinstance(droppable, str) or not (
            callable(droppable) or isinstance(droppable, Collection)
        ):
            raise _wrong("droppable_channels", "a collection of names or a callable", droppable)
        self.deflate()

    def allowed_origins(self) -> AllowedOrigins:
        """`origins`, ready to be matched."""
        return _made("origins", self.origins, FORM, AllowedOrigins)

    def proxies(self) -> TrustedProxies:
        """`trusted_proxies`, ready to be matched."""
        expected = "IP addresses, networks such as '10.0.0.0/8', or 'unix'"
        return _made("trusted_proxies", self.trusted_proxies, expected, TrustedProxies)

    def deflate(self) -> DeflateOptions | None:
        """`per_message_deflate` in one form; None when it is off."""
        value = self.per_message_deflate
        if isinstance(value, DeflateOptions):
            return value
        if type(value) is bool:
            return DeflateOptions() if value else None
        if not isinstance(value, Mapping):
            raise _wrong("per_message_deflate", "a bool, a mapping or DeflateOptions", value)
        known = {f.name for f in fields(DeflateOptions)}
        given = {snake_case(str(name)): v for name, v in value.items()}
        check_entries("per_message_deflate", given, known)
        try:
            return DeflateOptions(**given)
        except (TypeError, ValueError) as error:
            raise _wrong("per_message_deflate", str(error), value) from error

    def milliseconds(self, name: str) -> float:
        """A duration option in milliseconds."""
        value: float = getattr(self, name)
        return value

    def droppable(self, channel: str) -> bool:
        """Whether publishes on the channel may be dropped rather than a slow socket closed."""
        if callable(self.droppable_channels):
            return bool(self.droppable_channels(channel))
        return channel in self.droppable_channels

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> ServerOptions:
        """Options by their documented camelCase names (or those of this class).

        Raises:
            InvalidOptionsError: an unknown name or a wrong value.
        """
        return cls.of(**from_documented(options, WITHOUT_EFFECT, {f.name for f in fields(cls)}))

    @classmethod
    def of(cls, **options: Any) -> ServerOptions:
        """Like the constructor, but an unknown name is an `InvalidOptionsError` too."""
        check_names(options, {f.name for f in fields(cls)})
        return cls(**options)


def _made(name: str, value: Any, expected: str, make: Callable[[list[str]], _Made]) -> _Made:
    """What is made of an option that is a list, or one string, of entries."""
    entries = re.findall(r"[^\s,]+", value) if isinstance(value, str) else value
    if not isinstance(entries, Sequence) or not all(isinstance(entry, str) for entry in entries):
        raise _wrong(name, expected, value)
    try:
        return make(list(entries))
    except ValueError as error:
        raise InvalidOptionsError(f"The {name} option must be {expected}: {error}", name) from None
