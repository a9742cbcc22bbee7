"""What each packet of a client does. `dispatch` does it at once, or returns what is left to await.

Source: SocketCluster protocol 2; the order of checks is that of the original server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from socketcluster.codecs.fingerprint import fingerprint
from socketcluster.codecs.json import SHORT
from socketcluster.error_text import describe_error
from socketcluster.errors import (
    BrokerError,
    InvalidActionError,
    InvalidMessageError,
    InvalidRequestError,
    SocketClusterError,
)
from socketcluster.middleware import MIDDLEWARE_INBOUND
from socketcluster.middleware.action import AGAction
from socketcluster.protocol.packets import (
    AnyPacket,
    Packet,
    Unparsed,
    channel_and_data,
    checked_channel,
)
from socketcluster.protocol.state import CLOSE_HANDSHAKE_REJECTED, CLOSED
from socketcluster.server.context import SocketContext
from socketcluster.server.packets.delivery import (
    deliver,
    deliver_unparsed,
    refuse_unknown,
)
from socketcluster.server.packets.handshake import authenticate, shake_hands
from socketcluster.server.packets.replies import (
    acknowledge,
    acknowledge_publish,
    answer_error,
    parsed,
    refuse,
)
from socketcluster.server.parts.decision import Decision, Pending
from socketcluster.server.parts.sequencer import Rest
from socketcluster.server.parts.subscriptions import subscription_error
from socketcluster.server.socket import AGServerSocket

MAX_UNCONFIRMED_PUBLISHES = 1000
"""Publishes of one socket that the broker has not answered; more wait for it, and so do those past
`max_inbound_backlog_bytes`."""


def dispatch(socket: AGServerSocket, packet: AnyPacket, message: bytes) -> Rest:
    """Carry out one packet; None when that is done, else the rest of it."""
    event = packet.event
    if socket.life.phase != "open" and (socket.closing.last_words is None or event == "#subscribe"):
        return _before_handshake(socket, packet)
    if event is None:
        assert isinstance(packet, Packet)
        if packet.rid is not None:
            socket.messaging.take_answer(packet)
        else:
            socket.inbound.show_raw(message)
        return None
    handler = _SYSTEM.get(event)
    if handler is not None:
        if type(packet.data) is not Unparsed:
            return handler(socket, packet)
        _without_value(socket, packet)
        return None
    if MIDDLEWARE_INBOUND in socket.context.middleware:
        return _user_event_through_middleware(socket, packet)
    if socket.auth.expires_at is not None:
        socket.auth.check_expiry()
    cid, data, procedures = packet.cid, packet.data, socket.streams.procedures
    if type(data) is Unparsed:
        deliver_unparsed(socket, event, cid, data)
    elif cid is None or procedures is None:
        deliver(socket, event, cid, data)
    else:
        # A call, as `deliver` does it.
        request = socket.context.make_request(socket, cid, event, data)
        socket.messaging.unanswered[cid] = event
        if not procedures.put(event, request):
            refuse_unknown(socket, event, request)
    return None


def _without_value(socket: AGServerSocket, packet: AnyPacket) -> None:
    """Refuse an event of the protocol whose data was left unparsed because it has no value."""
    try:
        packet.data.parse()  # type: ignore[union-attr]
    except InvalidMessageError as error:
        refuse(socket, packet, error, True)


def _before_handshake(socket: AGServerSocket, packet: AnyPacket) -> Pending | None:
    if socket.life.state == CLOSED:
        return None
    if packet.event == "#handshake":
        if packet.cid is None:
            socket.emit_error(InvalidRequestError("Handshake request was malformatted"))
            socket.disconnect(CLOSE_HANDSHAKE_REJECTED)
            return None
        assert isinstance(packet, Packet)
        if type(packet.data) is Unparsed:
            packet.data.parse()  # It has no value, and is malformed.
        return shake_hands(socket, _request(socket, packet))
    if not socket.context.options.strict_handshake and packet.cid is not None:
        error = InvalidRequestError("Cannot handle a call before the handshake is complete")
        refuse(socket, packet, error)
    else:
        socket.inbound.rejections.reject_before_handshake()
    return None


def _request(socket: AGServerSocket, packet: AnyPacket) -> Any:
    """The AGRequest of a call."""
    assert packet.cid is not None
    assert packet.event is not None
    request = socket.context.make_request(socket, packet.cid, packet.event, packet.data)
    socket.messaging.unanswered[packet.cid] = packet.event
    return request


def _user_event_through_middleware(socket: AGServerSocket, packet: AnyPacket) -> Rest:
    event, cid, data, size = packet.event, packet.cid, packet.data, 0
    assert event is not None
    if type(data) is Unparsed:
        size = data.size
        try:
            data = data.parse()
        except InvalidMessageError as error:
            refuse(socket, packet, error, True)
            return None
    if cid is None:
        kind, name = AGAction.TRANSMIT, {"receiver": event}
    else:
        kind, name = AGAction.INVOKE, {"procedure": event}
    return _through_middleware(
        socket,
        packet,
        kind,
        lambda data: deliver(socket, event, cid, data, size),
        data=data,
        **name,
    )


def _through_middleware(
    socket: AGServerSocket,
    packet: AnyPacket,
    kind: str,
    accept: Callable[[Any], Pending | None],
    **fields: Any,
) -> Decision:
    """Go on with `accept(data)` if middleware allows the action of this kind and these fields."""

    def proceed(error: BaseException | None, data: Any) -> Pending | None:
        if error is not None:
            answer_error(socket, packet, error)
        elif not socket.life.ended:
            return accept(data)
        return None

    return socket.middleware.put(
        MIDDLEWARE_INBOUND,
        kind,
        proceed,
        auth_token_expired_error=socket.auth.check_expiry(),
        **fields,
    )


# The protocol's own events


def _handshake_again(socket: AGServerSocket, packet: AnyPacket) -> None:
    refuse(socket, packet, InvalidRequestError("The handshake has already been completed"))
    socket.inbound.rejections.count_malformed()


def _authenticate(socket: AGServerSocket, packet: AnyPacket) -> Pending | None:
    if packet.cid is None:
        socket.emit_error(InvalidRequestError("Authenticate request was malformatted"))
        socket.disconnect(CLOSE_HANDSHAKE_REJECTED)
        return None
    return authenticate(socket, _request(socket, packet))


def _remove_auth_token(socket: AGServerSocket, packet: AnyPacket) -> None:
    socket.auth.drop()
    socket.streams.put_event("#removeAuthToken", packet.data)
    if packet.cid is not None:
        _request(socket, packet).end()


def _publish(socket: AGServerSocket, packet: AnyPacket) -> Rest:
    if not socket.context.options.allow_client_publish:
        refuse(socket, packet, InvalidRequestError("Client publish feature is disabled"))
        return None
    channel, data = channel_and_data(packet.data)
    if (channel := _check_channel(socket, packet, channel, "Publish")) is None:
        return None
    if MIDDLEWARE_INBOUND in socket.context.middleware:
        try:
            value = parsed(socket, data)
        except SocketClusterError as error:
            refuse(socket, packet, error)
            return None
        unchanged = _change_detector(data, value)
        return _through_middleware(
            socket,
            packet,
            AGAction.PUBLISH_IN,
            lambda new: _accept_publish(socket, packet, channel, data if unchanged(new) else new),
            channel=channel,
            data=value,
        )
    if socket.auth.expires_at is not None:
        socket.auth.check_expiry()
    return _accept_publish(socket, packet, channel, data)


def _change_detector(data: Any, value: Any) -> Callable[[Any], bool]:
    """Whether what middleware allows is still the value of the payload received: a long one need
    not be encoded again then."""
    if type(data) is not msgspec.Raw or len(bytes(data)) <= SHORT:
        return lambda new: False
    seen = fingerprint(value)
    return lambda new: new is value and seen is not None and fingerprint(new) == seen


def _accept_publish(
    socket: AGServerSocket, packet: AnyPacket, channel: str, data: Any
) -> Pending | None:
    context = socket.context
    try:
        payload = context.wire.payloads.encode(data)
        accepted = context.exchange.publish_payload(channel, payload)
    except Exception as error:
        refuse(socket, packet, _broker_error(context, error))
        return None
    if accepted is None:
        acknowledge_publish(socket, packet.cid, channel, payload)
        return None
    # Answered when the broker has it; what follows is not held up, for the broker keeps the order.
    # It goes out even if the client leaves meanwhile.
    confirmed = asyncio.ensure_future(accepted)
    inbound = socket.inbound
    inbound.unconfirmed += 1
    inbound.unconfirmed_size += len(payload)
    confirmed.add_done_callback(partial(_published, socket, packet, channel, payload))
    if (
        inbound.unconfirmed >= MAX_UNCONFIRMED_PUBLISHES
        or inbound.unconfirmed_size >= context.options.max_inbound_backlog_bytes
    ):
        return _settled(confirmed)
    return None


def _published(
    socket: AGServerSocket,
    packet: AnyPacket,
    channel: str,
    payload: bytes,
    confirmed: asyncio.Future[None],
) -> None:
    socket.inbound.unconfirmed -= 1
    socket.inbound.unconfirmed_size -= len(payload)
    if confirmed.cancelled():
        return
    error = confirmed.exception()
    if error is not None:
        refuse(socket, packet, _broker_error(socket.context, error))
    elif socket.life.state != CLOSED:
        acknowledge_publish(socket, packet.cid, channel, payload)


async def _settled(future: asyncio.Future[None]) -> None:
    await asyncio.wait([future])


def _subscribe(socket: AGServerSocket, packet: AnyPacket) -> Rest:
    channel, data = channel_and_data(packet.data)
    if (channel := _check_channel(socket, packet, channel, "Subscribe")) is None:
        return None
    try:  # Before middleware, which may change it.
        kept = None if data is None else socket.context.wire.payloads.encode_decoded(data)
    except SocketClusterError as error:
        refuse(socket, packet, error)
        return None
    if MIDDLEWARE_INBOUND in socket.context.middleware:
        losses = socket.auth.losses

        def accept(data: Any) -> Pending | None:
            left = _accept_subscribe(socket, packet, channel, data, kept)
            socket.subscribed.reauthorize_since(losses, channel)
            return left

        return _through_middleware(
            socket, packet, AGAction.SUBSCRIBE, accept, channel=channel, data=data
        )
    if socket.auth.expires_at is not None:
        socket.auth.check_expiry()
    return _accept_subscribe(socket, packet, channel, data, kept)


def _accept_subscribe(
    socket: AGServerSocket, packet: AnyPacket, channel: str, data: Any, kept: bytes | None
) -> Pending | None:
    if socket.life.state == CLOSED:
        return None
    if packet.cid is None:  # As the original has it: only a call subscribes.
        socket.streams.put_event("#subscribe", data)
        return None
    given = packet.data if isinstance(packet.data, dict) else {}
    options = {name: value for name, value in given.items() if name != "channel"}
    if data is not None or "data" in options:
        options["data"] = data
    try:
        pending = socket.subscribed.subscribe(channel, options, kept)
    except SocketClusterError as error:
        refuse(socket, packet, error)
        return None
    if pending is not None:
        return _subscribe_later(socket, packet, channel, options, pending)
    acknowledge(socket, packet, {"channel": channel, **options})
    return None


async def _subscribe_later(
    socket: AGServerSocket,
    packet: AnyPacket,
    channel: str,
    options: dict[str, Any],
    pending: Awaitable[None],
) -> None:
    try:
        await pending
    except SocketClusterError as error:
        if socket.life.state != CLOSED:
            refuse(socket, packet, error)
        return
    acknowledge(socket, packet, {"channel": channel, **options})


def _unsubscribe(socket: AGServerSocket, packet: AnyPacket) -> None:
    if (channel := _check_channel(socket, packet, packet.data, "Unsubscribe")) is None:
        return
    socket.auth.check_expiry()
    try:
        socket.subscribed.unsubscribe(channel)
    except InvalidActionError as error:
        text = f"Failed to unsubscribe socket from the {channel} channel - {describe_error(error)}"
        refuse(socket, packet, subscription_error(text))
        return
    acknowledge(socket, packet, channel)


_SYSTEM: dict[str, Callable[[AGServerSocket, AnyPacket], Rest]] = {
    "#handshake": _handshake_again,
    "#authenticate": _authenticate,
    "#removeAuthToken": _remove_auth_token,
    "#publish": _publish,
    "#subscribe": _subscribe,
    "#unsubscribe": _unsubscribe,
}


# Parts of them


def _check_channel(
    socket: AGServerSocket, packet: AnyPacket, channel: Any, what: str
) -> str | None:
    try:
        return checked_channel(channel, what, socket.context.options.max_channel_name_length)
    except InvalidRequestError as error:
        refuse(socket, packet, error, True)
        return None


def _broker_error(context: SocketContext, error: BaseException) -> BaseException:
    if isinstance(error, BrokerError):
        context.report_broker("publish", error)
    if isinstance(error, SocketClusterError):
        return error
    context.report_fault(error)
    return BrokerError("The broker failed to accept the publish")
