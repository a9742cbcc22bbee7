"""The options of a server as TypedDicts: what type checkers check, and what editors show.

`ServerOptions` has the same options; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypedDict

from socketcluster.auth import AuthEngine
from socketcluster.brokers.base import Broker
from socketcluster.codecs.base import CodecEngine
from socketcluster.describe.options import AsyncAPI
from socketcluster.engines.base import DeflateOptions, Engine
from socketcluster.engines.upgrade_request import UpgradeRequest
from socketcluster.literals import ChannelsDefault, CleanupMode
from socketcluster.metrics.options import Metrics
from socketcluster.options import Duration
from socketcluster.pubsub.rules import ChannelRule
from socketcluster.server.limits import Limits
from socketcluster.server.recovery import Recovery
from socketcluster.tracing.options import Tracing


class DeflateOptionsDict(TypedDict, total=False):
    """The fields of `DeflateOptions`, for the option `per_message_deflate`."""

    threshold: int
    """Messages shorter than this many bytes are sent uncompressed. Default: 1024."""
    server_no_context_takeover: bool
    """Compress every message on its own; a publish is then compressed once for all subscribers.
    Default: True."""
    client_no_context_takeover: bool
    """Ask the client to do the same. Default: True."""
    server_max_window_bits: int | None
    """9 to 15. Default: None, which is 15."""
    client_max_window_bits: int | None
    """8 to 15. Default: None, which is 15."""
    level: int
    """The level of zlib, 1 to 9. Default: 6."""


class ServerOptionsDict(TypedDict, total=False):
    """The options of an AGServer, for `**options: Unpack[ServerOptionsDict]`.

    Durations are milliseconds or a timedelta.
    """

    ws_engine: str | Engine | type[Engine]
    """The WebSocket engine: "picows", "asgi", a "module:attribute" path, or an engine object.
    Default: "picows"."""
    ws_engine_server_options: Mapping[str, Any]
    """Keyword arguments of the engine's constructor. Default: {}."""
    auth_key: str | bytes | None
    """The secret for HMAC algorithms. Default: None, which takes the environment variable
    SOCKETCLUSTER_AUTH_KEY, or else 256 random bits in hex."""
    auth_private_key: str | bytes | None
    """A key in PEM that signs, for RSA and ECDSA algorithms; with `auth_public_key`.
    Default: None."""
    auth_public_key: str | bytes | None
    """A key in PEM that verifies, for RSA and ECDSA algorithms; with `auth_private_key`.
    Default: None."""
    nodes: bool | None
    """Whether the servers on one backend send each other messages, so that each knows the others.
    True is an error if they cannot. Default: None, which is True if the broker reaches other
    processes and the servers share a key."""
    cluster_key: str | bytes | None
    """The secret that signs messages between servers. Default: None, which takes a key made of
    `auth_key` or `auth_private_key`."""
    cluster_previous_keys: Sequence[str | bytes]
    """Former values of `cluster_key`, or of the key that replaces it, which are accepted, too,
    until all servers have the new one. Default: ()."""
    auth_default_expiry: int | float
    """Seconds until a token expires. Default: 86400."""
    auth_algorithm: str
    """The algorithm that signs tokens, and the only one accepted unless `auth_verify_algorithms`
    is set. Default: "HS256"."""
    auth_verify_algorithms: Sequence[str] | None
    """The algorithms that are accepted. Default: None, which accepts `auth_algorithm`."""
    per_message_deflate: bool | DeflateOptionsDict | DeflateOptions
    """Compression: a bool, or its options. Default: False."""
    protocol_version: Literal[1, 2]
    """2, or 1 for clients up to version 14. Default: 2."""
    handshake_timeout: Duration
    """The time that a client has for its '#handshake'. Default: 10000."""
    ack_timeout: Duration
    """The time that `invoke` waits for an answer. Default: 10000."""
    origins: str | Sequence[str]
    """Allowed origins of the pages that connect, in a list or one string: "host:port" with any
    scheme, or "scheme://host" with a port unless it is the scheme's default; "*" for any host or
    port. Default: "*:*"."""
    trusted_proxies: str | Sequence[str]
    """Addresses and networks of proxies ("10.0.0.0/8"), "unix" for the peers of a Unix socket, in a
    list or one string. `client_address` is the address that these proxies put into X-Forwarded-For.
    Default: ()."""
    channels: Sequence[ChannelRule]
    """The rules for channels. Two rules whose patterns match the same channels while neither is
    more specific are refused. Default: ()."""
    channels_default: ChannelsDefault
    """Whether clients may use the channels that no rule names, "allow" or "refuse". The server's
    own exchange may use all channels. Default: "allow"."""
    socket_channel_limit: int | None
    """Channels that one socket may subscribe to; 0 or None for no limit. Default: 1000."""
    ping_interval: Duration
    """The time between pings. Default: 8000."""
    ping_timeout: Duration
    """The time without a message after which a client counts as lost. Default: 20000."""
    ping_timeout_disabled: bool
    """Send no pings, and close no socket because of a missing pong. Default: False."""
    middleware_emit_failures: bool
    """Emit blocked actions as 'warning'. Default: True."""
    path: str
    """The URL path of WebSocket connections. Default: "/socketcluster/"."""
    allow_client_publish: bool
    """Whether clients can publish. Default: True."""
    batch_on_handshake: bool
    """Send to a new socket in batches, for `batch_on_handshake_duration`. Default: False."""
    batch_on_handshake_duration: Duration
    """How long to send in batches after the handshake. Default: 400."""
    batch_interval: Duration
    """The time between batches. Default: 50."""
    socket_stream_cleanup_mode: CleanupMode
    """How a socket's streams end at 'end': "kill" drops their backlogs, "close" leaves the backlogs
    to their consumers, "none" ends no stream. Default: "kill"."""
    strict_handshake: bool
    """Close a socket (4009) whose first packet is not '#handshake'. Default: True."""
    broker_engine: str | Broker | None
    """A URL or a `Broker` object. Default: None, which takes the environment variable
    SOCKETCLUSTER_BROKER, or else the broker in the process."""
    auth_engine: AuthEngine | None
    """Signs and verifies tokens. Default: None, which takes JSON Web Tokens."""
    codec_engine: CodecEngine | None
    """Encodes and decodes messages. Default: None, which takes JSON."""
    handle_protocols: Callable[[set[str], UpgradeRequest], str | None] | None
    """Chooses one of the offered sub-protocols, or None. Default: None."""
    request_creator: Callable[..., Any] | None
    """Called with (socket, id, procedure, data); returns an AGRequest. Default: None."""
    max_payload: int
    """Bytes of one message, before and after decompression. Default: 1 MiB."""
    max_batch_items: int
    """Packets in one batch. Default: None, for `socket_channel_limit` + 1,000, because a client may
    subscribe to all its channels in one batch, or 10,000 without a limit."""
    max_channel_name_length: int
    """Characters of a channel's name. Default: 255."""
    max_subscription_data: int
    """Bytes of the data of one socket's subscriptions, which the server keeps until middleware
    decides on them again; a subscription that exceeds it is refused. Default: 1 MiB."""
    max_pending_clients: int
    """Sockets in the handshake phase; more are refused with 503. Default: 10000."""
    max_connections: int | None
    """WebSocket connections at a time, those in the handshake phase included; more are refused with
    503. HTTP requests to `app` do not count. Default: None, for no limit."""
    handshakes_per_turn: int
    """Upgrades, and handshakes, of new connections in one turn of the event loop; more wait for the
    next turns, so that connected clients do not wait when many connect at once. While turns take
    longer than 10 ms, fewer. Default: 16."""
    max_inbound_backlog: int
    """A socket's messages that wait for middleware, or in one loop over its streams; past it the
    server pauses reading from the socket. Default: 1000."""
    max_inbound_backlog_bytes: int
    """The same in bytes, as received. Default: 4 MiB."""
    max_channel_backlog: int
    """Backpressure of one loop over a channel of the exchange; past it the loop raises
    BackpressureError, or on `droppable_channels` loses the oldest values. Default: 10000."""
    max_channel_backlog_bytes: int
    """The same in bytes, as published. Default: 16 MiB."""
    max_outbound_buffer: int
    """Bytes that wait to be sent to one socket, the transport's included; past it the socket is
    closed. A single message that is larger raises ResourceLimitError. Default: 4 MiB."""
    max_buffered: int
    """Bytes that all sockets of the server hold together, received and to be sent; past it the
    server pauses reading from the sockets with the largest backlogs, then closes those with the
    largest outbound buffers and unfinished messages. Default: 1024 MiB."""
    history_memory: int
    """Bytes that the in-process broker stores for rules with `history`; past it the channel that
    was used least recently loses its history. If it is configured, the proxy of `serve --workers`
    has it, too; other brokers have bounds of their own. Default: 64 MiB."""
    recovery: Recovery | None
    """`Recovery()` lets stock clients that send a session receive what they missed of channels with
    `history`. Default: None."""
    droppable_channels: Collection[str] | Callable[[str], bool]
    """Channel names, or a predicate: past `max_outbound_buffer` the server drops their oldest
    publishes instead of closing the socket. Default: ()."""
    max_malformed_messages: int
    """Malformed messages of one socket before it is closed. Default: 100."""
    limits: Limits | None
    """The rates that clients may send at, `Limits(invoke=Rate(100, per=1))`. Default: None, for no
    limits."""
    identify: Callable[[Any], str | None] | None
    """Called with a socket when it opens and when its token changes; returns its user, or None.
    Default: None, which takes the token's claim `sub`, else `username`."""
    health_probes: bool
    """Answer GET /health/live and /health/ready over HTTP. Default: True."""
    tracing: Tracing | None
    """`Tracing()` makes OpenTelemetry spans of calls, publishes and deliveries. Default: None."""
    asyncapi: AsyncAPI | None
    """`AsyncAPI(title=…)` serves the description of the handlers over HTTP. Default: None."""
    drain_delay: Duration
    """How long a closing server still accepts connections, while /health/ready says 503. Default:
    0."""
    metrics: Metrics | None
    """`Metrics(token=…)` counts, and serves metrics for Prometheus. Default: None."""
    drain_timeout: Duration
    """How long `close()` waits for unanswered calls, once it has stopped accepting. Default:
    10000."""
    drain_spread: Duration
    """The time within which `close()` closes the idle sockets, at least 500 a second. Default:
    10000."""
    drain_code: Literal["auto"] | int
    """The code that `close()` closes sockets with; 1005 is a close without a code. "auto" is 1005
    if the process knows another node or worker, else 1001. Default: "auto"."""
    ready_without_broker: bool
    """Whether /health/ready does not ask the broker. Default: False."""
    last_words_timeout: Duration
    """How long the server may carry out a lost client's last messages before it emits 'disconnect'.
    Default: 5000."""
