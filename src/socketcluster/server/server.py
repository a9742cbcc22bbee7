"""AGServer: the face of a server; it makes the parts below and wires them."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any, Unpack

from socketcluster.brokers.base import Broker
from socketcluster.brokers.registry import resolve_broker
from socketcluster.codecs.base import CodecEngine
from socketcluster.codecs.json import JSONCodec
from socketcluster.describe.site import DescriptionSite
from socketcluster.engines.base import ASGIApp, Engine
from socketcluster.engines.registry import resolve_engine
from socketcluster.handlers.tables import HandlerTables
from socketcluster.literals import MiddlewareType
from socketcluster.middleware import MiddlewareFunction
from socketcluster.nodes.messages import NodeMessages
from socketcluster.options import invalid_option
from socketcluster.protocol.payloads import Payloads
from socketcluster.protocol.wire import Wire, largest_uncounted
from socketcluster.pubsub.exchange import AGExchange
from socketcluster.pubsub.rule_table import RuleTable
from socketcluster.runtime.loop_binding import ThreadMixin, binding_of
from socketcluster.runtime.reporting import Reporter
from socketcluster.server.asgi import ServerApp, Site
from socketcluster.server.channel_backlog import channel_bound
from socketcluster.server.channel_names import ChannelNames
from socketcluster.server.channel_policy import ChannelPolicy
from socketcluster.server.configured import ConfiguredMixin, server_options
from socketcluster.server.context import SocketContext
from socketcluster.server.endpoint import ServerEndpoint
from socketcluster.server.handling import HandlersMixin, report_invalid, server_sources
from socketcluster.server.health import Health
from socketcluster.server.histories import serve_histories
from socketcluster.server.history_check import check_histories
from socketcluster.server.hub import ClientsMixin, Hub
from socketcluster.server.keepalive import Keepalive
from socketcluster.server.lifecycle import Lifecycle
from socketcluster.server.listeners import ServerListeners
from socketcluster.server.memory_limit import MemoryLimit
from socketcluster.server.metering import Metering, ticking
from socketcluster.server.nodes import NodesMixin, connect_nodes, node_messages
from socketcluster.server.option_methods import OptionsMixin
from socketcluster.server.option_types import ServerOptionsDict
from socketcluster.server.option_warnings import log_option_warnings
from socketcluster.server.options import ServerOptions
from socketcluster.server.origins import AllowedOrigins
from socketcluster.server.packets.batch import dispatch_batch
from socketcluster.server.packets.dispatch import SYSTEM, make_dispatch
from socketcluster.server.packets.limited import limit_packets, refuse_message
from socketcluster.server.parts.rate_limits import RateLimits
from socketcluster.server.parts.tokens import Tokens
from socketcluster.server.presence import ServerPresence
from socketcluster.server.reporting import ServerReports
from socketcluster.server.serving import ServingMixin
from socketcluster.server.sessions.wiring import serve_sessions
from socketcluster.server.ticker import Ticker
from socketcluster.server.token_methods import TokensMixin
from socketcluster.server.tracing import ServerTracing
from socketcluster.server.users import UserIndex, UsersMixin
from socketcluster.server.watchdog import Watchdog
from socketcluster.sockets.handling import Handling

if TYPE_CHECKING:
    from socketcluster.metrics.service import ServerMetrics

logger: logging.Logger = logging.getLogger("socketcluster")


class AGServer(
    ConfiguredMixin,
    OptionsMixin,
    ServingMixin,
    ClientsMixin,
    TokensMixin,
    UsersMixin,
    NodesMixin,
    ThreadMixin,
    HandlersMixin,
    ServerListeners,
):
    """A SocketCluster server: `AGServer(auth_key="…", ping_interval=8000)`.

    Give it the options of `ServerOptions` as keywords, which environment variables and a file can
    set, too (`from_config`), and an ASGI application as `app` to serve
    everything but WebSocket connections at `path`. Declare handlers with its decorators, such as
    `@server.procedure("add")`. It listens by itself (`listen`) or is an ASGI
    3 application for any ASGI server. It can be made before an event loop runs, and is used from
    one loop: a call from elsewhere raises UsageError and changes nothing; threads use
    `from_thread`.

    Attributes:
        options: the ServerOptions.
        exchange: the AGExchange, the server's own pub/sub client.
        handlers: the tables of all handlers.
        engine: the WebSocket engine.
        rate_limits: the `limits`, with the counts `limited` and `paused`.
        node_messages: messages to other servers on the same backend; None if they are off.
        metrics: the ServerMetrics of a server with the option `metrics`; None without.

    Events: 'error', 'warning', 'ready', 'handshake', 'connection', 'connectionAbort',
    'disconnection', 'closure', 'subscription', 'unsubscription', 'authentication',
    'deauthentication', 'authenticationStateChange', 'badSocketAuthToken', 'occupied', 'vacated'.

    Raises:
        InvalidOptionsError: an option is unknown or its value is invalid; the error names it.

    Source: AGServer specification.
    """

    engine: Engine
    options: ServerOptions
    node_messages: NodeMessages | None

    def __init__(self, *, app: ASGIApp | None = None, **options: Unpack[ServerOptionsDict]) -> None:
        super().__init__(binding_of("AGServer", "server"))
        self.reporter: Reporter = Reporter(logger)
        self.options = opts = server_options(options)
        log_option_warnings(opts, logger)
        if app is not None and not callable(app):
            raise invalid_option("app", "an ASGI application", app)
        self.reports: ServerReports = ServerReports(self, self.reporter)
        self.tokens: Tokens = _tokens(opts, self.reports)
        tracing = None if opts.tracing is None else ServerTracing(opts.tracing)
        self.wire: Wire = _wire(opts, tracing)
        metering = Metering.of(opts.metrics)
        broker = resolve_broker(opts.broker_engine, opts.history_memory)
        self.node_messages = node_messages(opts, broker, self.reporter, self.reports)
        self.channel_rules: RuleTable = RuleTable(opts.channels)
        self.exchange: AGExchange = AGExchange(
            broker if tracing is None else tracing.broker(broker),
            self.wire.payloads,
            self.reports.broker_failed,
            self.loop_binding,
            self.reporter,
            channel_bound(opts, self.reports.report_fault),
            opts.max_outbound_buffer,
            self.channel_rules,
        )
        self.channel_policy: ChannelPolicy = ChannelPolicy()
        for rule in opts.channels:
            self.channel_policy.add(rule.pattern)
        self.rate_limits: RateLimits = RateLimits(opts.limits, refuse_message)
        self.engine = resolve_engine(opts.ws_engine, opts.ws_engine_server_options)
        self.middleware_functions: dict[MiddlewareType, MiddlewareFunction] = {}
        self.handlers: HandlerTables = HandlerTables()
        self.users: UserIndex = UserIndex(opts, self.rate_limits.count, self.reports.report_fault)
        self.reporter.identify = self.users.identify
        self.hub: Hub = Hub(self.emit, self.users)
        handling = Handling(
            self.handlers, server_sources(self, self.exchange), self.reporter, report_invalid
        )
        watchdog = Watchdog(self.reporter, self.ack_timeout, handling)
        durations = [self.ping_interval, self.ping_timeout, self.handshake_timeout]
        self.ticker: Ticker = Ticker(durations, ticking(metering, watchdog.ticked))
        self._context = self._make_context(handling, tracing)
        memory_limit = MemoryLimit(opts.max_buffered, self.reporter)
        self.keepalive: Keepalive = Keepalive(self._context, self.hub, memory_limit, watchdog)
        self.ticker.on_tick = self.keepalive.tick
        self.lifecycle: Lifecycle = Lifecycle(self._context, self.hub, watchdog)
        connect_nodes(self.node_messages, self.lifecycle, self.exchange.listing)
        self.presence: ServerPresence = ServerPresence(
            self._context, self.hub, self.users, self.channel_rules
        )
        self._begin_presence()
        self._begin_recovery(broker)
        self.endpoint: ServerEndpoint = ServerEndpoint(
            self, self._context, self.hub, self.lifecycle
        )
        self.metrics: ServerMetrics | None = None
        if metering is not None:
            self.metrics = metering.serve(self, self._context)
        self.asgi: ServerApp = ServerApp(self.endpoint, self, app, _sites(self))
        self._connect_handlers()

    def _make_context(self, handling: Handling, tracing: ServerTracing | None) -> SocketContext:
        refuses = self.options.channels_default == "refuse"
        system = dict(SYSTEM)
        self._channel_names = names = ChannelNames(self.channel_policy.names if refuses else None)
        context = SocketContext(
            options=self.options,
            loop_binding=self.loop_binding,
            reporter=self.reporter,
            reports=self.reports,
            emitter=self,
            wire=self.wire,
            exchange=self.exchange,
            channel_names=names if refuses else None,
            middleware=self.middleware_functions,
            tokens=self.tokens,
            ticker=self.ticker,
            observer=self.hub,
            handling=handling,
            dispatch=make_dispatch(system),
            dispatch_batch=dispatch_batch,
            rate_limits=self.rate_limits,
        )
        if tracing is not None:
            tracing.trace_calls(context)
        limit_packets(context, self.rate_limits)
        serve_histories(context, system, self.users.identify)
        return context

    def _begin_presence(self) -> None:
        self.presence.connect(self._channel_names, self.node_messages, self.lifecycle)

    def _begin_recovery(self, broker: Broker) -> None:
        serve_sessions(self._context, self.node_messages, broker, self.lifecycle)
        check_histories(self.channel_rules, broker, self.lifecycle)

    @property
    def allowed_origins(self) -> AllowedOrigins:
        """The origins that pages may connect from."""
        return self.endpoint.allowed_origins

    def generate_id(self) -> str:
        """Make a socket id: 20 URL-safe characters, 120 random bits."""
        return secrets.token_urlsafe(15)

    @property
    def app(self) -> ASGIApp | None:
        """The ASGI application behind it, or None."""
        return self.asgi.app

    @app.setter
    def app(self, app: ASGIApp | None) -> None:
        self.asgi.app = app

    # The codec

    @property
    def codec(self) -> CodecEngine:
        """The codec, which encodes and decodes messages."""
        return self.wire.codec

    # Errors

    def emit_error(self, error: BaseException) -> None:
        """Emit 'error', and without a listener log the error with its traceback."""
        self.reports.emit_error(error)

    def emit_warning(self, warning: BaseException) -> None:
        """Emit 'warning', and without a listener log it at DEBUG, in one line."""
        self.reports.emit_warning(warning)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve as an ASGI 3 application."""
        await self.asgi(scope, receive, send)

    def __repr__(self) -> str:
        state = "ready" if self.is_ready else "not ready"
        where = f" on {self.host}:{self.source_port}" if self.source_port else ""
        return f"<AGServer {state}{where} clients={self.clients_count}>"


def _wire(options: ServerOptions, tracing: ServerTracing | None) -> Wire:
    unparsed_above = largest_uncounted(
        options.max_inbound_backlog, options.max_inbound_backlog_bytes
    )
    payloads = Payloads if tracing is None else tracing.payloads
    return Wire(options.codec_engine or JSONCodec(), options.droppable, unparsed_above, payloads)


def _tokens(options: ServerOptions, reports: ServerReports) -> Tokens:
    return Tokens(
        options.auth_engine,
        _keys(options),
        options.auth_algorithm,
        list(options.auth_verify_algorithms or [options.auth_algorithm]),
        options.auth_default_expiry,
        reports.report_auth_engine,
    )


def _keys(options: ServerOptions) -> tuple[str | bytes, str | bytes]:
    """The keys that sign and verify tokens."""
    if options.auth_private_key is not None and options.auth_public_key is not None:
        return options.auth_private_key, options.auth_public_key
    key = options.auth_key or secrets.token_hex(32)
    return key, key


def _sites(server: AGServer) -> list[Site]:
    """The parts that answer HTTP requests."""
    options = server.options
    sites: list[Site] = []
    if options.health_probes:
        sites.append(Health(server.lifecycle, server.exchange, options.ready_without_broker))
    if options.asyncapi is not None:
        can_publish = options.allow_client_publish
        sites.append(
            DescriptionSite(
                options.asyncapi, server.handlers, options.path, can_publish=can_publish
            )
        )
    if server.metrics is not None and server.metrics.port is None:
        sites += filter(None, [server.metrics.site])
    return sites
