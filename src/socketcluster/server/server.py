"""AGServer: the whole of it, as users see it."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from typing import Any

from socketcluster.auth import AuthEngine, JWTAuthEngine, warn_of_short_key
from socketcluster.brokers.registry import resolve_broker
from socketcluster.codecs.base import CodecEngine
from socketcluster.codecs.json import JSONCodec
from socketcluster.engines.base import ASGIApp
from socketcluster.engines.registry import resolve_engine
from socketcluster.middleware import MiddlewareFunction
from socketcluster.options import invalid_option
from socketcluster.protocol.frames import text_frame
from socketcluster.protocol.state import PINGS
from socketcluster.protocol.wire import Wire, largest_uncounted
from socketcluster.pubsub.exchange import AGExchange
from socketcluster.runtime.loop_binding import ThreadMixin, binding_of
from socketcluster.runtime.reporting import Reporter
from socketcluster.server.asgi import ServerApp
from socketcluster.server.channel_backlog import channel_bound
from socketcluster.server.endpoint import ServerEndpoint
from socketcluster.server.keepalive import Ticker
from socketcluster.server.lifecycle import Running
from socketcluster.server.memory_limit import Buffered
from socketcluster.server.middleware import MiddlewareMixin
from socketcluster.server.option_warnings import log_cautions
from socketcluster.server.options import ServerOptions
from socketcluster.server.parts.reauthorization import ReauthorizationPace
from socketcluster.server.reporting import Supervision
from socketcluster.server.serving import ServingMixin
from socketcluster.server.socket import AGServerSocket
from socketcluster.server.watchdog import Watch
from socketcluster.sockets.flusher import Flusher
from socketcluster.sockets.request import AGRequest

logger = logging.getLogger("socketcluster")

AUTH_KEY_VARIABLE = "SOCKETCLUSTER_AUTH_KEY"
"""The `auth_key` of servers that are given none, so that all processes of one have the same."""


class AGServer(ServingMixin, ThreadMixin, MiddlewareMixin, Supervision):
    """A SocketCluster server: `AGServer(auth_key="…", ping_interval=8000)`.

    Give it the options of `ServerOptions` as keywords, and an ASGI application as `app` to serve
    everything but WebSocket connections at `path`. It listens by itself (`listen`) or is an ASGI
    3 application for any ASGI server. It can be made before an event loop runs, and is used from
    one loop: elsewhere a call raises UsageError and changes nothing; threads use `from_thread`.

    Events: 'error', 'warning', 'ready', 'handshake', 'connection', 'connectionAbort',
    'disconnection', 'closure', 'subscription', 'unsubscription', 'authentication',
    'deauthentication', 'authenticationStateChange', 'badSocketAuthToken'.

    Raises:
        InvalidOptionsError: an unknown option or a wrong value; it names the option.

    Source: AGServer specification.
    """

    def __init__(self, *, app: ASGIApp | None = None, **options: Any) -> None:
        super().__init__(binding_of("AGServer", "server"))
        self.reporter = Reporter(logger)
        self.options = ServerOptions.of(**options)
        opts = self.options
        log_cautions(opts, logger)
        if app is not None and not callable(app):
            raise invalid_option("app", "an ASGI application", app)
        self.app = app
        self.signature_key: str | bytes
        self.verification_key: str | bytes
        if opts.auth_private_key is not None and opts.auth_public_key is not None:
            self.signature_key = opts.auth_private_key
            self.verification_key = opts.auth_public_key
        else:
            self.signature_key = self.verification_key = (
                opts.auth_key or os.environ.get(AUTH_KEY_VARIABLE) or secrets.token_hex(32)
            )
        self.default_signature_options = {"algorithm": opts.auth_algorithm}
        accepted = opts.auth_verify_algorithms or [opts.auth_algorithm]
        self.default_verification_options = {"algorithms": list(accepted)}
        self.auth: AuthEngine = opts.auth_engine or JWTAuthEngine()
        if isinstance(self.auth, JWTAuthEngine):
            warn_of_short_key(self.signature_key, opts.auth_algorithm)
        self.codec: CodecEngine = opts.codec_engine or JSONCodec()
        unparsed_above = largest_uncounted(opts.max_inbound_backlog, opts.max_inbound_backlog_bytes)
        self.wire = Wire(self.codec, opts.droppable, unparsed_above)
        broker = resolve_broker(opts.broker_engine)
        self.exchange = AGExchange(
            broker,
            self.wire,
            self.broker_failed,
            self.loop_binding,
            self.reporter,
            channel_bound(opts, self.report_fault),
        )
        self.engine = resolve_engine(opts.ws_engine, opts.ws_engine_server_options)
        self.allowed_origins = opts.allowed_origins()
        self.middleware: dict[str, MiddlewareFunction] = {}
        self.clients: dict[str, AGServerSocket] = {}
        self.pending_clients: dict[str, AGServerSocket] = {}
        self.is_ready = False
        self.host: str | None = None
        self.secure = False
        self.ping_frame = text_frame(PINGS[opts.protocol_version][0])
        self.watch = Watch(self.reporter, self.ack_timeout)
        self.ticker = Ticker(
            [float(d) for d in (self.ping_interval, self.ping_timeout, self.handshake_timeout)],
            self.tick,
            self.watch.ticked,
        )
        self.buffered = Buffered(opts.max_buffered, self.reporter)
        self.reauthorization_pace = ReauthorizationPace()
        self.make_request: Callable[..., Any] = opts.request_creator or AGRequest
        self.flusher = Flusher()
        self.running = Running(self)
        self.endpoint = ServerEndpoint(self)
        self._asgi = ServerApp(self)

    # Properties of the specification

    @property
    def clients_count(self) -> int:
        """How many clients are connected."""
        return len(self.clients)

    @property
    def pending_clients_count(self) -> int:
        """How many clients are in the handshake phase."""
        return len(self.pending_clients)

    @property
    def source_port(self) -> int | None:
        """The port it listens on; None before `listen` and on a Unix socket."""
        return self.running.port

    @property
    def ack_timeout(self) -> float:
        """Milliseconds that `invoke` waits for an answer."""
        return self.options.milliseconds("ack_timeout")

    @property
    def handshake_timeout(self) -> float:
        """Milliseconds that a client has for its handshake."""
        return self.options.milliseconds("handshake_timeout")

    @property
    def ping_interval(self) -> float:
        """Milliseconds between pings."""
        return self.options.milliseconds("ping_interval")

    @property
    def ping_timeout(self) -> float:
        """Milliseconds without a message after which a client is taken for lost."""
        return self.options.milliseconds("ping_timeout")

    @property
    def path(self) -> str:
        """The URL path it serves."""
        return self.options.path

    def get_path(self) -> str:
        """`path`."""
        return self.options.path

    def set_auth_engine(self, auth_engine: AuthEngine) -> None:
        """Have another engine sign and verify tokens from now on."""
        self.loop_binding.check()
        self.auth = auth_engine

    def set_codec_engine(self, codec_engine: CodecEngine) -> None:
        """Have another codec encode and decode messages from now on."""
        self.loop_binding.check()
        self.codec = codec_engine
        self.wire.use(codec_engine)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve as an ASGI 3 application."""
        await self._asgi(scope, receive, send)

    def generate_id(self) -> str:
        """A new socket id: 20 URL-safe characters, 120 random bits."""
        return secrets.token_urlsafe(15)
