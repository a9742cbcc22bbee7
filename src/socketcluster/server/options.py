"""ServerOptions: the options of AGServer, validated on construction."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, Unpack, cast, get_args

from socketcluster.auth import AuthEngine
from socketcluster.brokers.base import Broker
from socketcluster.brokers.memory_store import HISTORY_MEMORY
from socketcluster.codecs.base import CodecEngine
from socketcluster.describe.options import AsyncAPI
from socketcluster.engines.base import DeflateOptions, Engine
from socketcluster.engines.proxies import TrustedProxies
from socketcluster.engines.upgrade_request import UpgradeRequest
from socketcluster.errors import InvalidArgumentsError, InvalidOptionsError
from socketcluster.literals import ChannelsDefault, CleanupMode
from socketcluster.metrics.options import Metrics
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
from socketcluster.patterns import PatternTable
from socketcluster.protocol.frames import may_be_sent
from socketcluster.protocol.state import CLOSE_NO_STATUS
from socketcluster.pubsub.rules import ChannelRule
from socketcluster.server.batch_limit import (
    DEFAULT_CHANNELS,
    batch_problem,
    default_batch_items,
)
from socketcluster.server.limits import Limits
from socketcluster.server.option_types import DeflateOptionsDict, ServerOptionsDict
from socketcluster.server.origins import ORIGIN_FORM, AllowedOrigins
from socketcluster.server.recovery import Recovery, check_recovery
from socketcluster.tracing.options import Tracing

AUTH_KEY_VARIABLE = "SOCKETCLUSTER_AUTH_KEY"
"""The environment variable that replaces a missing `auth_key` option, so that all processes of one
server share a key."""

CLEANUP_MODES: tuple[str, ...] = get_args(CleanupMode)
WITHOUT_EFFECT = frozenset({"authSignAsync", "authVerifyAsync", "cloneData"})
"""Options of the JavaScript server that are accepted and ignored."""

_T = TypeVar("_T")
_BROKER_METHODS = ("attach", "start", "close", "check", "subscribe", "unsubscribe", "publish")
_DURATIONS = (
    "handshake_timeout",
    "ack_timeout",
    "ping_interval",
    "ping_timeout",
    "batch_on_handshake_duration",
    "batch_interval",
    "drain_delay",
    "drain_spread",
    "drain_timeout",
    "last_words_timeout",
)
_OBJECTS = (
    ("asyncapi", AsyncAPI, "AsyncAPI(title=…)"),
    ("tracing", Tracing, "Tracing()"),
    ("limits", Limits, "limits, such as Limits(invoke=Rate(100)),"),
    ("metrics", Metrics, "Metrics(token=…)"),
)
_LIMITS = (
    "max_payload",
    "max_batch_items",
    "max_channel_name_length",
    "max_subscription_data",
    "max_pending_clients",
    "handshakes_per_turn",
    "max_inbound_backlog",
    "max_inbound_backlog_bytes",
    "max_outbound_buffer",
    "max_buffered",
    "history_memory",
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
    "ready_without_broker",
    "strict_handshake",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """The options of an AGServer. Durations are milliseconds or a timedelta.

    `ServerOptionsDict` describes them.

    Source: AGServer specification, constructor(options).
    """

    ws_engine: str | Engine | type[Engine] = "picows"
    ws_engine_server_options: Mapping[str, Any] = field(default_factory=dict)
    auth_key: str | bytes | None = field(default=None, repr=False)
    auth_private_key: str | bytes | None = field(default=None, repr=False)
    auth_public_key: str | bytes | None = None
    auth_default_expiry: int | float = 86400
    auth_algorithm: str = "HS256"
    auth_verify_algorithms: Sequence[str] | None = None
    per_message_deflate: bool | DeflateOptionsDict | DeflateOptions = False
    protocol_version: Literal[1, 2] = 2
    handshake_timeout: Duration = 10000
    ack_timeout: Duration = 10000
    origins: str | Sequence[str] = "*:*"
    trusted_proxies: str | Sequence[str] = ()
    channels: Sequence[ChannelRule] = ()
    channels_default: ChannelsDefault = "allow"
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
    socket_stream_cleanup_mode: CleanupMode = "kill"
    strict_handshake: bool = True
    broker_engine: str | Broker | None = None
    nodes: bool | None = None
    cluster_key: str | bytes | None = None
    cluster_previous_keys: Sequence[str | bytes] = ()
    auth_engine: AuthEngine | None = None
    codec_engine: CodecEngine | None = None
    handle_protocols: Callable[[set[str], UpgradeRequest], str | None] | None = None
    request_creator: Callable[..., Any] | None = None
    max_payload: int = 1024 * 1024
    max_batch_items: int = cast("int", None)
    max_channel_name_length: int = 255
    max_subscription_data: int = 1024 * 1024
    max_pending_clients: int = 10_000
    max_connections: int | None = None
    handshakes_per_turn: int = 16
    max_inbound_backlog: int = 1000
    max_inbound_backlog_bytes: int = 4 * 1024 * 1024
    max_channel_backlog: int = 10_000
    max_channel_backlog_bytes: int = 16 * 1024 * 1024
    max_outbound_buffer: int = 4 * 1024 * 1024
    max_buffered: int = 1024 * 1024 * 1024
    history_memory: int = HISTORY_MEMORY
    recovery: Recovery | None = None
    droppable_channels: Collection[str] | Callable[[str], bool] = ()
    max_malformed_messages: int = 100
    limits: Limits | None = None
    identify: Callable[[Any], str | None] | None = None
    health_probes: bool = True
    asyncapi: AsyncAPI | None = None
    tracing: Tracing | None = None
    drain_delay: Duration = 0
    metrics: Metrics | None = None
    drain_timeout: Duration = 10000
    drain_spread: Duration = 10000
    drain_code: Literal["auto"] | int = "auto"
    ready_without_broker: bool = False
    last_words_timeout: Duration = 5000

    def __post_init__(self) -> None:
        limit = self.socket_channel_limit
        if limit is not None and (type(limit) is not int or limit < 0):
            raise invalid_option("socket_channel_limit", "an integer of at least 0, or None", limit)
        most = self.max_connections
        if most is not None and (type(most) is not int or most <= 0):
            raise invalid_option("max_connections", "an integer above 0, or None", most)
        if cast("object", self.max_batch_items) is None:
            object.__setattr__(self, "max_batch_items", default_batch_items(limit))
        for name in _DURATIONS:
            object.__setattr__(self, name, milliseconds(name, getattr(self, name)))
        for name in ("ping_interval", "batch_interval"):
            if getattr(self, name) <= 0:
                raise invalid_option(name, "a duration above 0", getattr(self, name))
        for name in _LIMITS:
            value = getattr(self, name)
            if type(value) is not int or value <= 0:
                raise invalid_option(name, "an integer above 0", value)
        for name in _FLAGS:
            if type(getattr(self, name)) is not bool:
                raise invalid_option(name, "True or False", getattr(self, name))
        _check_auth(self)
        _check_nodes(self)
        _check_batch_limit(self)
        _check_protocol(self)
        _check_objects(self)
        _check_channels(self)

    def allowed_origins(self) -> AllowedOrigins:
        """The parsed `origins`."""
        return _parse_entries("origins", self.origins, ORIGIN_FORM, AllowedOrigins)

    def proxies(self) -> TrustedProxies:
        """The parsed `trusted_proxies`."""
        expected = "IP addresses, networks such as '10.0.0.0/8', or 'unix'"
        return _parse_entries("trusted_proxies", self.trusted_proxies, expected, TrustedProxies)

    def channel_rules(self) -> PatternTable[ChannelRule]:
        """The `channels` by their patterns."""
        table: PatternTable[ChannelRule] = PatternTable()
        for rule in self.channels:
            try:
                table.add(rule.pattern, rule)
            except InvalidArgumentsError as error:
                raise InvalidOptionsError(f"The channels option: {error}", "channels") from None
        return table

    def deflate(self) -> DeflateOptions | None:
        """`per_message_deflate` as DeflateOptions; None when it is off."""
        value = self.per_message_deflate
        if isinstance(value, DeflateOptions):
            return value
        if type(value) is bool:
            return DeflateOptions() if value else None
        if not isinstance(value, Mapping):
            raise invalid_option(
                "per_message_deflate", "a bool, a mapping or DeflateOptions", value
            )
        names = {f.name for f in fields(DeflateOptions)}
        entries = {snake_case(str(name)): v for name, v in cast("Mapping[str, Any]", value).items()}
        check_entries("per_message_deflate", entries, names)
        return DeflateOptions(**entries)

    def milliseconds(self, name: str) -> float:
        """A duration option in milliseconds."""
        value: float = getattr(self, name)
        return value

    def droppable(self, channel: str) -> bool:
        """Whether a channel's publishes may be dropped, instead of closing a slow socket."""
        if callable(self.droppable_channels):
            return bool(self.droppable_channels(channel))
        return channel in self.droppable_channels

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> ServerOptions:
        """Make options from their documented camelCase names, or from this class's names.

        Raises:
            InvalidOptionsError: a name is unknown or a value is invalid.
        """
        return cls.of(**from_documented(options, WITHOUT_EFFECT, {f.name for f in fields(cls)}))

    @classmethod
    def of(cls, **options: Unpack[ServerOptionsDict]) -> ServerOptions:
        """Make options like the constructor; an unknown name raises InvalidOptionsError too."""
        check_names(options, {f.name for f in fields(cls)})
        return cls(**options)


def _check_auth(options: ServerOptions) -> None:
    expiry = options.auth_default_expiry
    if isinstance(expiry, bool) or not isinstance(expiry, int | float) or not 0 < expiry <= 1e11:
        raise invalid_option(
            "auth_default_expiry", "a number of seconds above 0, up to 1e11", expiry
        )
    for name in ("auth_key", "auth_private_key", "auth_public_key"):
        value = getattr(options, name)
        if value is not None and (not isinstance(value, str | bytes) or not value):
            raise InvalidOptionsError(f"The {name} option must be a non-empty str or bytes", name)
    if (options.auth_private_key is None) != (options.auth_public_key is None):
        present, missing = "auth_public_key", "auth_private_key"
        if options.auth_public_key is None:
            present, missing = missing, present
        raise InvalidOptionsError(
            f"The {missing} option must be specified if {present} is specified", missing
        )
    if not isinstance(options.auth_algorithm, str) or options.auth_algorithm.lower() == "none":
        raise invalid_option(
            "auth_algorithm", "the name of a JWT algorithm", options.auth_algorithm
        )
    accepted = options.auth_verify_algorithms
    if accepted is not None and (
        isinstance(accepted, str)
        or not isinstance(accepted, Sequence)
        or not accepted
        or any(not isinstance(a, str) or a.lower() == "none" for a in accepted)
    ):
        raise invalid_option("auth_verify_algorithms", "a list of JWT algorithms", accepted)
    engine = options.auth_engine
    if engine is not None and not has_methods(engine, "verify_token", "sign_token"):
        raise invalid_option("auth_engine", "an object with verify_token and sign_token", engine)


def _check_nodes(options: ServerOptions) -> None:
    if cast("object", options.nodes) not in (None, True, False):
        raise invalid_option("nodes", "True, False or None", options.nodes)
    keys = cast("object", options.cluster_previous_keys)
    if isinstance(keys, str | bytes) or not isinstance(keys, Sequence):
        raise InvalidOptionsError(
            "The cluster_previous_keys option must be a list of keys", "cluster_previous_keys"
        )
    for name, key in (
        ("cluster_key", options.cluster_key),
        *(("cluster_previous_keys", key) for key in keys),
    ):
        if not (key is None and name == "cluster_key") and (
            not isinstance(key, str | bytes) or not key
        ):
            # The value is a secret, or was meant to be one.
            raise InvalidOptionsError(f"The {name} option must have non-empty str or bytes", name)


def _check_batch_limit(options: ServerOptions) -> None:
    problem = batch_problem(options.max_batch_items, options.socket_channel_limit)
    if problem is not None and options.socket_channel_limit != DEFAULT_CHANNELS:
        raise InvalidOptionsError(problem, "max_batch_items")


def _check_protocol(options: ServerOptions) -> None:
    if type(options.protocol_version) is not int or options.protocol_version not in (1, 2):
        raise invalid_option("protocol_version", "1 or 2", options.protocol_version)
    if options.socket_stream_cleanup_mode not in CLEANUP_MODES:
        raise invalid_option(
            "socket_stream_cleanup_mode",
            "'kill', 'close' or 'none'",
            options.socket_stream_cleanup_mode,
        )
    if not isinstance(options.path, str) or not options.path.startswith("/"):
        raise invalid_option("path", "a URL path that starts with '/'", options.path)
    code = cast("object", options.drain_code)
    if code != "auto" and not (
        type(code) is int and (code == CLOSE_NO_STATUS or may_be_sent(code))
    ):
        raise invalid_option(
            "drain_code",
            "'auto', 1005 for a close without a code, or a close code (1000 to 1014, 3000 to 4999)",
            code,
        )
    options.allowed_origins()
    options.proxies()
    options.deflate()


def _check_objects(options: ServerOptions) -> None:
    if not isinstance(options.ws_engine_server_options, Mapping):
        raise invalid_option(
            "ws_engine_server_options", "a mapping", options.ws_engine_server_options
        )
    if options.codec_engine is not None and not has_methods(
        options.codec_engine, "encode", "decode"
    ):
        raise invalid_option(
            "codec_engine", "an object with encode and decode", options.codec_engine
        )
    if options.broker_engine is not None and not (
        isinstance(options.broker_engine, str)
        or has_methods(options.broker_engine, *_BROKER_METHODS)
    ):
        raise invalid_option("broker_engine", "a URL or a Broker object", options.broker_engine)
    for name in ("handle_protocols", "identify", "request_creator"):
        if getattr(options, name) is not None and not callable(getattr(options, name)):
            raise invalid_option(name, "a callable", getattr(options, name))
    for name, kind, expected in _OBJECTS:
        if getattr(options, name) is not None and not isinstance(getattr(options, name), kind):
            raise invalid_option(name, f"{expected} or None", getattr(options, name))
    check_recovery(options.recovery, has_pings=not options.ping_timeout_disabled)
    droppable = options.droppable_channels
    if isinstance(droppable, str) or not (callable(droppable) or isinstance(droppable, Collection)):
        raise invalid_option("droppable_channels", "a collection of names or a callable", droppable)


def _check_channels(options: ServerOptions) -> None:
    rules = cast("object", options.channels)
    if isinstance(rules, str) or not (
        isinstance(rules, Sequence) and all(isinstance(rule, ChannelRule) for rule in rules)
    ):
        raise invalid_option("channels", "a list of rules, such as ChannelRule('chat/*')", rules)
    options.channel_rules()
    if options.channels_default not in get_args(ChannelsDefault):
        raise invalid_option("channels_default", "'allow' or 'refuse'", options.channels_default)


def _parse_entries(name: str, value: Any, expected: str, make: Callable[[list[str]], _T]) -> _T:
    """Parse an option that is a list of entries, or one string of them."""
    entries = re.findall(r"[^\s,]+", value) if isinstance(value, str) else value
    if not isinstance(entries, Sequence) or not all(isinstance(entry, str) for entry in entries):
        raise invalid_option(name, expected, value)
    try:
        return make(list(entries))
    except ValueError as error:
        raise InvalidOptionsError(f"The {name} option must be {expected}: {error}", name) from None
