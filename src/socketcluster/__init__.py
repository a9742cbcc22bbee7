"""SocketCluster for Python: a real-time server that every SocketCluster client understands."""

from typing import Unpack

from socketcluster import errors
from socketcluster.brokers.storing import Position
from socketcluster.client.authentication import AuthStatus
from socketcluster.client.option_types import (
    ClientOptionsDict,
    ReconnectOptionsDict,
    WsOptions,
)
from socketcluster.client.options import ClientOptions
from socketcluster.client.reconnect import ReconnectOptions, reconnect_delay
from socketcluster.client.socket import AGClientSocket
from socketcluster.client.token_store import FileTokenStore, MemoryTokenStore, TokenStore
from socketcluster.describe.options import AsyncAPI
from socketcluster.engines.base import ASGIApp
from socketcluster.events import (
    AuthenticateEvent,
    AuthStateChangeEvent,
    AuthTokenSignedEvent,
    BadAuthTokenEvent,
    BrokerAwayEvent,
    BrokerGapEvent,
    CloseEvent,
    ConnectAbortEvent,
    ConnectEvent,
    ConnectingEvent,
    DeauthenticateEvent,
    DisconnectEvent,
    EndEvent,
    ErrorEvent,
    KickOutEvent,
    MessageEvent,
    OccupiedEvent,
    RawEvent,
    ReadyEvent,
    RecoverFailEvent,
    RemoveAuthTokenEvent,
    SubscribeEvent,
    SubscribeFailEvent,
    SubscribeRequestEvent,
    SubscribeStateChangeEvent,
    UnsubscribeEvent,
    VacatedEvent,
    WarningEvent,
)
from socketcluster.handlers.router import Router
from socketcluster.history.options import History
from socketcluster.jwks.engine import JWKSAuthEngine
from socketcluster.literals import (
    ActionOutcome,
    ActionType,
    AuthenticationState,
    ChannelEventName,
    ChannelsDefault,
    CleanupMode,
    ClientEventName,
    Exceeded,
    ExchangeEventName,
    MiddlewareType,
    ServerEventName,
    SocketEventName,
    SocketState,
    SubscriptionState,
)
from socketcluster.metrics.options import Metrics
from socketcluster.middleware.action import AGAction
from socketcluster.presence.options import Presence
from socketcluster.presence.results import ChannelsPage, Occupancy, PresenceState
from socketcluster.pubsub.channel import AGChannel, SubscribeOptionsDict
from socketcluster.pubsub.exchange import AGExchange
from socketcluster.pubsub.pages import HistoryPage, HistoryPublication
from socketcluster.pubsub.publisher import AsyncPublisher, Publisher
from socketcluster.pubsub.rules import ChannelRule
from socketcluster.server.events import (
    AuthenticationEvent,
    AuthenticationStateChangeEvent,
    BadSocketAuthTokenEvent,
    ClosureEvent,
    ConnectionAbortEvent,
    ConnectionEvent,
    DeauthenticationEvent,
    DisconnectionEvent,
    HandshakeEvent,
    SubscriptionEvent,
    UnsubscriptionEvent,
)
from socketcluster.server.limits import Limits, Rate
from socketcluster.server.option_types import DeflateOptionsDict, ServerOptionsDict
from socketcluster.server.options import ServerOptions
from socketcluster.server.recovery import Recovery
from socketcluster.server.server import AGServer
from socketcluster.server.socket import AGServerSocket
from socketcluster.sockets.request import AGRequest
from socketcluster.streams import (
    AsyncStreamEmitter,
    ConsumableStream,
    StreamDemux,
    WritableConsumableStream,
)
from socketcluster.tracing.options import Tracing


def create(**options: Unpack[ClientOptionsDict]) -> AGClientSocket:
    """Create a client: `AGClientSocket(**options)`.

    It connects by itself unless `auto_connect` is off. The options are those of `ClientOptions`.
    """
    return AGClientSocket(**options)


async def listen(
    port: int = 8000,
    host: str = "127.0.0.1",
    *,
    app: ASGIApp | None = None,
    **options: Unpack[ServerOptionsDict],
) -> AGServer:
    """Create a server, `AGServer(app=app, **options)`, and listen.

    Canceling listen() leaves nothing listening. See `AGServer.listen` for its errors.
    """
    server = AGServer(app=app, **options)
    await server.listen(port, host)
    return server


def attach(app: ASGIApp, **options: Unpack[ServerOptionsDict]) -> AGServer:
    """Create a server in front of an ASGI application: itself an ASGI application, to serve.

    Raises:
        InvalidOptionsError: `app` is no application, or an option is invalid.
    """
    if app is None:
        raise errors.InvalidOptionsError(
            "attach() needs an ASGI application; without one, make an AGServer()", "app"
        )
    return AGServer(app=app, **options)


__version__ = "0.1.0"

__all__ = [
    "AGAction",
    "AGChannel",
    "AGClientSocket",
    "AGExchange",
    "AGRequest",
    "AGServer",
    "AGServerSocket",
    "ActionOutcome",
    "ActionType",
    "AsyncAPI",
    "AsyncPublisher",
    "AsyncStreamEmitter",
    "AuthStateChangeEvent",
    "AuthStatus",
    "AuthTokenSignedEvent",
    "AuthenticateEvent",
    "AuthenticationEvent",
    "AuthenticationState",
    "AuthenticationStateChangeEvent",
    "BadAuthTokenEvent",
    "BadSocketAuthTokenEvent",
    "BrokerAwayEvent",
    "BrokerGapEvent",
    "ChannelEventName",
    "ChannelRule",
    "ChannelsDefault",
    "ChannelsPage",
    "CleanupMode",
    "ClientEventName",
    "ClientOptions",
    "ClientOptionsDict",
    "CloseEvent",
    "ClosureEvent",
    "ConnectAbortEvent",
    "ConnectEvent",
    "ConnectingEvent",
    "ConnectionAbortEvent",
    "ConnectionEvent",
    "ConsumableStream",
    "DeauthenticateEvent",
    "DeauthenticationEvent",
    "DeflateOptionsDict",
    "DisconnectEvent",
    "DisconnectionEvent",
    "EndEvent",
    "ErrorEvent",
    "Exceeded",
    "ExchangeEventName",
    "FileTokenStore",
    "HandshakeEvent",
    "History",
    "HistoryPage",
    "HistoryPublication",
    "JWKSAuthEngine",
    "KickOutEvent",
    "Limits",
    "MemoryTokenStore",
    "MessageEvent",
    "Metrics",
    "MiddlewareType",
    "Occupancy",
    "OccupiedEvent",
    "Position",
    "Presence",
    "PresenceState",
    "Publisher",
    "Rate",
    "RawEvent",
    "ReadyEvent",
    "ReconnectOptions",
    "ReconnectOptionsDict",
    "RecoverFailEvent",
    "Recovery",
    "RemoveAuthTokenEvent",
    "Router",
    "ServerEventName",
    "ServerOptions",
    "ServerOptionsDict",
    "SocketEventName",
    "SocketState",
    "StreamDemux",
    "SubscribeEvent",
    "SubscribeFailEvent",
    "SubscribeOptionsDict",
    "SubscribeRequestEvent",
    "SubscribeStateChangeEvent",
    "SubscriptionEvent",
    "SubscriptionState",
    "TokenStore",
    "Tracing",
    "UnsubscribeEvent",
    "UnsubscriptionEvent",
    "VacatedEvent",
    "WarningEvent",
    "WritableConsumableStream",
    "WsOptions",
    "attach",
    "create",
    "errors",
    "listen",
    "reconnect_delay",
]
