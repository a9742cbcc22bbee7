"""Events, states and middleware: each name leads to its type, and a wrong one is found."""

from __future__ import annotations

from typing import Any, Literal, assert_type

from socketcluster import (
    AGAction,
    AGChannel,
    AGClientSocket,
    AGServer,
    AGServerSocket,
    AuthenticateEvent,
    BrokerGapEvent,
    ConnectEvent,
    ConnectionEvent,
    ConsumableStream,
    DisconnectionEvent,
    KickOutEvent,
    MiddlewareType,
    OccupiedEvent,
    ServerEventName,
    SocketEventName,
    SubscribeFailEvent,
    VacatedEvent,
)
from socketcluster.middleware import MIDDLEWARE_INBOUND, MiddlewareStream


async def listeners(server: AGServer, socket: AGServerSocket, client: AGClientSocket) -> None:
    assert_type(server.listener("connection"), ConsumableStream[ConnectionEvent])
    assert_type(socket.listener("authenticate"), ConsumableStream[AuthenticateEvent])
    assert_type(client.listener("connect"), ConsumableStream[ConnectEvent])
    assert_type(server.exchange.listener("brokerGap"), ConsumableStream[BrokerGapEvent])
    assert_type(server.exchange.listener("occupied"), ConsumableStream[OccupiedEvent])
    assert_type(server.exchange.listener("vacated"), ConsumableStream[VacatedEvent])
    assert_type(server.listener("occupied"), ConsumableStream[OccupiedEvent])
    assert_type(server.listener("vacated"), ConsumableStream[VacatedEvent])
    assert_type(client.channel("c").listener("kickOut"), ConsumableStream[KickOutEvent])
    assert_type(server.listener("mine"), ConsumableStream[Any])
    async for event in server.listener("connection"):
        assert_type(event, ConnectionEvent)
        assert_type(event.socket, AGServerSocket)
        print(event.sockets)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
    item = await server.listener("disconnection").next()
    assert_type(item.value, DisconnectionEvent | None)
    failed = await client.listener("subscribeFail").once(timeout=100)
    assert_type(failed, SubscribeFailEvent)


def of_any_kind(event: ServerEventName | SocketEventName) -> None:
    """A function of a program that takes an event's name."""


def names(server: AGServer) -> None:
    of_any_kind("connection")
    of_any_kind("conection")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def states(socket: AGServerSocket, client: AGClientSocket, channel: AGChannel) -> None:
    assert_type(socket.state, Literal["connecting", "open", "closed"])
    assert_type(client.state, Literal["connecting", "open", "closed"])
    assert_type(socket.auth_state, Literal["authenticated", "unauthenticated"])
    assert_type(channel.state, Literal["pending", "subscribed", "unsubscribed"])
    assert_type(socket.OPEN, Literal["open"])
    if client.state == client.CLOSED or socket.auth_state == socket.AUTHENTICATED:
        client.connect()

    if socket.state == "opened":  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
        client.disconnect()
    if channel.state == "subscribe":  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
        channel.unsubscribe()


async def middleware(stream: MiddlewareStream) -> None:
    assert_type(stream.type, MiddlewareType)
    async for action in stream:
        assert_type(action, AGAction)
        assert_type(action.outcome, Literal["allowed", "blocked"] | None)
        if action.type == action.PUBLISH_IN:
            action.block("Read only")
        elif action.type == "publishin":  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
            action.block()
        else:
            action.allow()


async def no_middleware(stream: MiddlewareStream, other: int) -> None:
    """It takes two arguments."""


def plain(stream: MiddlewareStream) -> None:
    """It is not async."""


def middlewares(server: AGServer) -> None:
    server.set_middleware("inbound", middleware)
    server.set_middleware(server.MIDDLEWARE_OUTBOUND, middleware)
    server.set_middleware(MIDDLEWARE_INBOUND, middleware)
    assert_type(server.has_middleware("handshake"), bool)
    server.remove_middleware("inboundRaw")

    server.set_middleware("inbond", middleware)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    server.set_middleware("inbound", no_middleware)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    server.set_middleware("inbound", plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    server.has_middleware("inboundraw")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    server.remove_middleware("in")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
