"""Decisions of channel handlers on the subscriptions and publishes of clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from socketcluster.errors import SocketClusterError
from socketcluster.handlers.dependencies import Invocation
from socketcluster.literals import ActionType
from socketcluster.middleware.action import UNCHANGED, AGAction
from socketcluster.protocol.packets import AnyPacket
from socketcluster.server.packets.replies import parse_data, reject
from socketcluster.server.parts.deciders import Decider, DecidingFunction
from socketcluster.server.parts.decision import Pending
from socketcluster.server.socket import AGServerSocket

Accept = Callable[[Any], Pending | None]
"""Carries out the subscription or the publish, given its data."""


def decide_on_subscribe(
    socket: AGServerSocket,
    packet: AnyPacket,
    channel: str,
    asked: str,
    data: Any,
    accept: Accept,
) -> Pending | None:
    """Ask the handler of the channel `asked`, if any; call `accept(data)` if it allows."""
    found = socket.context.deciders.find(asked)
    if found is None or found[0].subscribing is None or packet.cid is None:
        return accept(data)
    losses = socket.auth.losses

    def accept_for_now(_: Any) -> Pending | None:
        pending = accept(data)
        socket.subscribed.reauthorize_since(losses, channel)
        return pending

    invocation = Invocation(socket, data, found[1])
    kind = AGAction.SUBSCRIBE
    return _decide(socket, packet, kind, found[0].subscribing, invocation, accept_for_now)


def decide_on_publish(
    socket: AGServerSocket, packet: AnyPacket, channel: str, data: Any, accept: Accept
) -> Pending | None:
    """Check the type of a publish, and ask the channel's handler, if there are any.

    Call `accept(data)`, with the data to publish, if it allows.
    """
    found = socket.context.deciders.find(channel)
    if found is None or not found[0].decides_on_publishes:
        return accept(data)
    decider, names = found
    try:
        decider.check_publishable(channel)
        value = _typed(socket, decider, data)
    except Exception as error:
        _refuse(socket, packet, AGAction.PUBLISH_IN, decider.error_for_client(error, socket))
        return None
    function = decider.publishing
    if function is None:
        return accept(data)

    def accept_replaced(result: Any) -> Pending | None:
        return accept(data if result is UNCHANGED else result)

    invocation = Invocation(socket, value, names)
    return _decide(socket, packet, AGAction.PUBLISH_IN, function, invocation, accept_replaced)


def _typed(socket: AGServerSocket, decider: Decider, data: Any) -> Any:
    kind = decider.data
    if kind is None:
        return parse_data(socket, data)
    return kind.from_json(data) if type(data) is msgspec.Raw else kind.from_value(data)


def _refuse(
    socket: AGServerSocket, packet: AnyPacket, kind: ActionType, error: BaseException
) -> None:
    socket.context.counts.blocked[kind] += 1
    reject(socket, packet, error)


def _decide(
    socket: AGServerSocket,
    packet: AnyPacket,
    kind: ActionType,
    function: DecidingFunction,
    invocation: Invocation,
    accept: Accept,
) -> Pending | None:
    if function.is_async:
        return _decide_later(socket, packet, kind, function, invocation, accept)
    try:
        result = function.call(invocation)
    except SocketClusterError as error:
        _refuse(socket, packet, kind, error)
        return None
    return None if socket.life.ended else accept(result)


async def _decide_later(
    socket: AGServerSocket,
    packet: AnyPacket,
    kind: ActionType,
    function: DecidingFunction,
    invocation: Invocation,
    accept: Accept,
) -> None:
    try:
        result = await function.call_async(invocation)
    except SocketClusterError as error:
        _refuse(socket, packet, kind, error)
        return
    if not socket.life.ended:
        pending = accept(result)
        if pending is not None:
            await pending
