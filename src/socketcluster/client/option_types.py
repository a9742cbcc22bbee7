"""The options of a client as TypedDicts: what type checkers check, and what editors show.

`ClientOptions` and `ReconnectOptions` have the same options; a test compares them.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from socketcluster.client.reconnect import ReconnectOptions
from socketcluster.client.token_store import TokenStore
from socketcluster.codecs.base import CodecEngine
from socketcluster.engines.connector import Connector
from socketcluster.options import Duration
from socketcluster.tracing.options import Tracing


class ReconnectOptionsDict(TypedDict, total=False):
    """The fields of `ReconnectOptions`, for the options that take them."""

    initial_delay: Duration
    """The delay before the first attempt, without `randomness`. Default: 10000."""
    randomness: Duration
    """The most that is added to the first delay, at random. Default: 10000."""
    multiplier: float
    """The factor from one delay to the next. Default: 1.5."""
    max_delay: Duration
    """The longest delay. Default: 60000."""


class WsOptions(TypedDict, total=False):
    """The option `ws_options`: the connection below the protocol."""

    ssl: ssl.SSLContext | None
    """The context of a TLS connection. Default: None, for the system's certificates."""
    headers: Mapping[str, str] | None
    """More headers of the upgrade request. Default: None."""
    proxy: str | None
    """The URL of an HTTP or SOCKS proxy. Default: None."""
    per_message_deflate: bool
    """Offer compression. Default: False."""


class ClientOptionsDict(TypedDict, total=False):
    """The options of an AGClientSocket, for `**options: Unpack[ClientOptionsDict]`.

    Durations are milliseconds or a timedelta.
    """

    hostname: str | None
    """The server. Default: None, for "localhost"."""
    port: int | None
    """The server's port. Default: None, for 80, or 443 with `secure`."""
    host: str | None
    """The server and its port, "hostname:port", in place of both. Default: None."""
    secure: bool
    """Connect with TLS. Default: False."""
    protocol_scheme: Literal["ws", "wss"] | None
    """The scheme, "ws" or "wss", in place of `secure`. Default: None."""
    socket_path: str | None
    """A Unix socket to connect to. Default: None."""
    path: str
    """The URL path of the server. Default: "/socketcluster/"."""
    query: Mapping[str, Any] | str
    """Parameters of the URL, as a mapping (a list gives one several values) or a text.
    Default: {}."""
    auto_connect: bool
    """Connect at construction. Default: True."""
    auto_reconnect: bool
    """Connect again after the connection is lost. Default: True."""
    auto_reconnect_options: ReconnectOptionsDict | ReconnectOptions
    """The delays between attempts to connect. Default: ReconnectOptions()."""
    auto_subscribe_on_connect: bool
    """Subscribe to pending channels on connect; otherwise call `process_pending_subscriptions` of
    the 'connect' event. Default: True."""
    connect_timeout: Duration
    """The time allowed for connecting, including the HTTP upgrade. Default: 20000."""
    ack_timeout: Duration
    """The time allowed for an answer, counted from the call. Default: 10000."""
    ping_timeout_disabled: bool
    """Do not close the connection when the server's pings stop. Default: False."""
    timestamp_requests: bool
    """Add the time to the URL, under the name `timestamp_param`. Default: False."""
    timestamp_param: str
    """The name of the time in the URL. Default: "t"."""
    auth_token_name: str | None
    """The name under which the token store keeps the token. Default: None, for a name made of the
    server's address."""
    auth_engine: TokenStore | None
    """Keeps the token between connections. Default: None, which keeps it in memory."""
    codec_engine: CodecEngine | None
    """The server's codec. Default: None, for JSON."""
    tracing: Tracing | None
    """`Tracing()` makes OpenTelemetry spans of calls and publishes. Default: None."""
    channel_prefix: str | None
    """Precedes every channel name on the wire. Default: None."""
    subscription_retry_options: ReconnectOptionsDict | ReconnectOptions | None
    """The delays between attempts of a failed subscription. Default: None, which does not retry
    it."""
    batch_on_handshake: bool
    """Send in batches after the handshake. Default: False."""
    batch_on_handshake_duration: Duration
    """How long to send in batches after the handshake. Default: 100."""
    batch_interval: Duration
    """The time between batches. Default: 50."""
    protocol_version: Literal[1, 2]
    """2, or 1 for servers up to version 14. Default: 2."""
    ws_options: WsOptions
    """TLS, headers, proxy and compression of the connection. Default: {}."""
    client_id: str | None
    """Stays the same over connections. Default: None, for a random one."""
    version: Any
    """The application's version, for its own use. Default: None."""
    clone_data: bool
    """Has no effect; data is encoded at the call. Default: False."""
    connector: Connector | None
    """Makes connections in place of picows; `socketcluster.testing` has one. Default: None."""
    max_payload: int
    """Bytes of one message, also after inflating. Default: 1 MiB."""
    max_inbound_backlog: int
    """Values in a consumer's backlog past which the connection is not read. Default: 1000."""
    max_inbound_backlog_bytes: int
    """The same limit in bytes, for all consumers together. Default: 4 MiB."""
    max_outbound_buffer: int
    """Bytes that may wait to be sent; more raise ResourceLimitError. Default: 4 MiB."""
