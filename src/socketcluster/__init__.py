"""SocketCluster for Python: a real-time server that every SocketCluster client understands."""

from typing import Any

from socketcluster import errors
from socketcluster.action import AGAction
from socketcluster.channel import AGChannel
from socketcluster.engines.base import ASGIApp
from socketcluster.events import (
    AuthenticateEvent,
    AuthenticationEvent,
    AuthenticationStateChangeEvent,
    AuthStateChangeEvent,
    AuthTokenSignedEvent,
    BadAuthTokenEvent,
    BadSocketAuthTokenEvent,
    BrokerAwayEvent,
    BrokerGapEvent,
    ChannelSubscribeEvent,
    ChannelSubscribeFailEvent,
    ChannelUnsubscribeEvent,
    CloseEvent,
    ClosureEvent,
    ConnectAbortEvent,
    ConnectEvent,
    ConnectionAbortEvent,
    ConnectionEvent,
    DeauthenticateEvent,
    DeauthenticationEvent,
    DisconnectEvent,
    DisconnectionEvent,
    EndEvent,
    ErrorEvent,
    HandshakeEvent,
    MessageEvent,
    RawEvent,
    ReadyEvent,
    SubscribeEvent,
    SubscriptionEvent,
    UnsubscribeEvent,
    UnsubscriptionEvent,
    WarningEvent,
)
from socketcluster.exchange import AGExchange
from socketcluster.request import AGRequest
from socketcluster.server.options import ServerOptions
from socketcluster.server.server import AGServer
from socketcluster.server.socket import AGServerSocket
from socketcluster.streams import (
    AsyncStreamEmitter,
    ConsumableStream,
    StreamDemux,
    WritableConsumableStream,
)


async def listen(port: int = 8000, host: str = "127.0.0.1", **options: Any) -> AGServer:
    """An AGServer made with `options` that is listening. See `AGServer` and `AGServer.listen`."""
    server = AGServer(**options)
    await server.listen(port, host)
    return server


def attach(app: ASGIApp, **options: Any) -> AGServer:
    """An AGServer in front of an ASGI application: itself an ASGI application, to be served."""
    return AGServer(app=app, **options)


__version__ = "0.1.0"

__all__ = [
    "AGAction",
    "AGChannel",
    "AGExchange",
    "AGRequest",
    "AGServer",
    "AGServerSocket",
    "AsyncStreamEmitter",
    "AuthStateChangeEvent",
    "AuthTokenSignedEvent",
    "AuthenticateEvent",
    "AuthenticationEvent",
    "AuthenticationStateChangeEvent",
    "BadAuthTokenEvent",
    "BadSocketAuthTokenEvent",
    "BrokerAwayEvent",
    "BrokerGapEvent",
    "ChannelSubscribeEvent",
    "ChannelSubscribeFailEvent",
    "ChannelUnsubscribeEvent",
    "CloseEvent",
    "ClosureEvent",
    "ConnectAbortEvent",
    "ConnectEvent",
    "ConnectionAbortEvent",
    "ConnectionEvent",
    "ConsumableStream",
    "DeauthenticateEvent",
    "DeauthenticationEvent",
    "DisconnectEvent",
    "DisconnectionEvent",
    "EndEvent",
    "ErrorEvent",
    "HandshakeEvent",
    "MessageEvent",
    "RawEvent",
    "ReadyEvent",
    "ServerOptions",
    "StreamDemux",
    "SubscribeEvent",
    "SubscriptionEvent",
    "UnsubscribeEvent",
    "UnsubscriptionEvent",
    "WarningEvent",
    "WritableConsumableStream",
    "attach",
    "errors",
    "listen",
]
