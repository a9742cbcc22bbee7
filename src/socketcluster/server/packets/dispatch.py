"""Dispatch: carries out each packet of a client at once, or returns a continuation to await.

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
    answer_unknown_procedure,
    deliver,
    deliver_unparsed,
)
from socketcluster.server.packets.handshake import authenticate, shake_hands
from socketcluster.server.packets.replies import (
    answer_error,
    answer_ok,
    answer_publish,
    parse_data,
    reject,
)
from socketcluster.server.parts.decision import Decision, Pending
from socketcluster.server.parts.sequencer import Continuation
from socketcluster.server.parts.subscriptions import subscription_error
from socketcluster.server.socket import AGServerSocket

MAX_UNCONFIRMED_PUBLISHES = 1000
"""How many publishes of one socket may be unconfirmed by the broker before the next waits.

Their bytes are bounded too, by `max_inbound_backlog_bytes`."""


def dispatch(socket: AGServerSocket, packet: AnyPacket, message: bytes) -> Continuation:
    """Carry out one packet; return None if it is done, else its continuation."""
    event = packet.event
    if socket.life.phase != "open" and (socket.closing.last_words is None or event == "#subscribe"):
        return _before_handshake(socket, packet)
    if event is None:
        assert isinstance(packet, Packet)
        if packet.rid is not None:
            socket.messaging.take_answer(packet)
        else:
            socket.inbound.emit_raw(message)
        return None
    handler = _SYSTEM.get(event)
    if handler is not None:
        if type(packet.data) is not Unparsed:
            return handler(socket, packet)
        _reject_without_value(socket, packet)
        return None
    if MIDDLEWARE_INBOUND in socket.context.middleware:
        return _user_event_through_middleware(socket, packet)
    # The first half of `check_expiry`, which would cost 0.6 % of a call, 1.1 % of a pipelined one.
    if socket.auth.expires_at is not None:
        socket.auth.check_expiry()
    cid, data, procedures = packet.cid, packet.data, socket.streams.procedures
    if type(data) is Unparsed:
        deliver_unparsed(socket, event, cid, data)
    elif cid is None or procedures is None:
        deliver(socket, event, cid, data)
    else:
        # Inlined from `deliver`, which would cost 2 % of a call, and 4 % of a pipelined one.
        request = socket.context.make_request(socket, cid, event, data)
        socket.messaging.unanswered[cid] = event
        if not procedures.put(event, request):
            answer_unknown_procedure(socket, event, request)
    return None


def _reject_without_value(socket: AGServerSocket, packet: AnyPacket) -> None:
    """Reject a packet of the protocol whose data has no value, and is therefore unparsed."""
    try:
        packet.data.parse()  # type: ignore[union-attr]
    except InvalidMessageError as error:
        reject(socket, packet, error, True)


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
            packet.data.parse()  # Raises, because the data has no value.
        return shake_hands(socket, _request(socket, packet))
    if not socket.context.options.strict_handshake and packet.cid is not None:
        error = InvalidRequestError("Cannot handle a call before the handshake is complete")
        reject(socket, packet, error)
    else:
        socket.inbound.rejections.reject_before_handshake()
    return None


def _request(socket: AGServerSocket, packet: AnyPacket) -> Any:
    """Make the AGRequest of a call."""
    assert packet.cid is not None
    assert packet.event is not None
    request = socket.context.make_request(socket, packet.cid, packet.event, packet.data)
    socket.messaging.unanswered[packet.cid] = packet.event
    return request


def _user_event_through_middleware(socket: AGServerSocket, packet: AnyPacket) -> Continuation:
    event, cid, data, size = packet.event, packet.cid, packet.data, 0
    assert event is not None
    if type(data) is Unparsed:
        size = data.size
        try:
            data = data.parse()
        except InvalidMessageError as error:
            reject(socket, packet, error, True)
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
    """Run an action through middleware; call `accept(data)` if it is allowed."""

    def on_verdict(error: BaseException | None, data: Any) -> Pending | None:
        if error is not None:
            answer_error(socket, packet, error)
        elif not socket.life.ended:
            return accept(data)
        return None

    return socket.middleware.put(
        MIDDLEWARE_INBOUND,
        kind,
        on_verdict,
        auth_token_expired_error=socket.auth.check_expiry(),
        **fields,
    )


# The protocol's own events


def _repeated_handshake(socket: AGServerSocket, packet: AnyPacket) -> None:
    reject(socket, packet, InvalidRequestError("The handshake has already been completed"))
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


def _publish(socket: AGServerSocket, packet: AnyPacket) -> Continuation:
    if not socket.context.options.allow_client_publish:
        reject(socket, packet, InvalidRequestError("Client publish feature is disabled"))
        return None
    channel, data = channel_and_data(packet.data)
    if (channel := _check_channel(socket, packet, channel, "Publish")) is None:
        return None
    if MIDDLEWARE_INBOUND in socket.context.middleware:
        try:
            value = parse_data(socket, data)
        except SocketClusterError as error:
            reject(socket, packet, error)
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
    socket.auth.check_expiry()
    return _accept_publish(socket, packet, channel, data)


def _change_detector(data: Any, value: Any) -> Callable[[Any], bool]:
    """Return a function: whether middleware left the value as received.

    A long payload need not be encoded again then.
    """
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
        reject(socket, packet, _publish_error(context, error))
        return None
    if accepted is None:
        answer_publish(socket, packet.cid, channel, payload)
        return None
    # The call is answered when the broker confirms. Later messages do not wait, because the broker
    # keeps the order. The publish continues even if the client leaves meanwhile.
    confirmed = asyncio.ensure_future(accepted)
    inbound = socket.inbound
    inbound.unconfirmed += 1
    inbound.unconfirmed_size += len(payload)
    confirmed.add_done_callback(partial(_confirm_publish, socket, packet, channel, payload))
    if (
        inbound.unconfirmed >= MAX_UNCONFIRMED_PUBLISHES
        or inbound.unconfirmed_size >= context.options.max_inbound_backlog_bytes
    ):
        return _wait_until_done(confirmed)
    return None


def _confirm_publish(
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
        reject(socket, packet, _publish_error(socket.context, error))
    elif socket.life.state != CLOSED:
        answer_publish(socket, packet.cid, channel, payload)


async def _wait_until_done(future: asyncio.Future[None]) -> None:
    await asyncio.wait([future])


def _subscribe(socket: AGServerSocket, packet: AnyPacket) -> Continuation:
    channel, data = channel_and_data(packet.data)
    if (channel := _check_channel(socket, packet, channel, "Subscribe")) is None:
        return None
    try:  # Encoded first, because middleware may change the data.
        encoded = None if data is None else socket.context.wire.payloads.encode_decoded(data)
    except SocketClusterError as error:
        reject(socket, packet, error)
        return None
    if MIDDLEWARE_INBOUND in socket.context.middleware:
        losses = socket.auth.losses

        def accept(data: Any) -> Pending | None:
            pending = _accept_subscribe(socket, packet, channel, data, encoded)
            socket.subscribed.reauthorize_since(losses, channel)
            return pending

        return _through_middleware(
            socket, packet, AGAction.SUBSCRIBE, accept, channel=channel, data=data
        )
    socket.auth.check_expiry()
    return _accept_subscribe(socket, packet, channel, data, encoded)


def _accept_subscribe(
    socket: AGServerSocket, packet: AnyPacket, channel: str, data: Any, encoded: bytes | None
) -> Pending | None:
    if socket.life.state == CLOSED:
        return None
    if packet.cid is None:  # Like the JavaScript server: only a call subscribes.
        socket.streams.put_event("#subscribe", data)
        return None
    fields = packet.data if isinstance(packet.data, dict) else {}
    options = {name: value for name, value in fields.items() if name != "channel"}
    if data is not None or "data" in options:
        options["data"] = data
    try:
        pending = socket.subscribed.subscribe(channel, options, encoded)
    except SocketClusterError as error:
        reject(socket, packet, error)
        return None
    if pending is not None:
        return _subscribe_later(socket, packet, channel, options, pending)
    answer_ok(socket, packet, {"channel": channel, **options})
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
            reject(socket, packet, error)
        return
    answer_ok(socket, packet, {"channel": channel, **options})


def _unsubscribe(socket: AGServerSocket, packet: AnyPacket) -> None:
    if (channel := _check_channel(socket, packet, packet.data, "Unsubscribe")) is None:
        return
    socket.auth.check_expiry()
    try:
        socket.subscribed.unsubscribe(channel)
    except InvalidActionError as error:
        text = f"Failed to unsubscribe socket from the {channel} channel - {describe_error(error)}"
        reject(socket, packet, subscription_error(text))
        return
    answer_ok(socket, packet, channel)


_SYSTEM: dict[str, Callable[[AGServerSocket, AnyPacket], Continuation]] = {
    "#handshake": _repeated_handshake,
    "#authenticate": _authenticate,
    "#removeAuthToken": _remove_auth_token,
    "#publish": _publish,
    "#subscribe": _subscribe,
    "#unsubscribe": _unsubscribe,
}


# Helpers of several packets


def _check_channel(
    socket: AGServerSocket, packet: AnyPacket, channel: Any, action: str
) -> str | None:
    try:
        return checked_channel(channel, action, socket.context.options.max_channel_name_length)
    except InvalidRequestError as error:
        reject(socket, packet, error, True)
        return None


def _publish_error(context: SocketContext, error: BaseException) -> BaseException:
    if isinstance(error, BrokerError):
        context.report_broker("publish", error)
    if isinstance(error, SocketClusterError):
        return error
    context.report_fault(error)
    return BrokerError("The broker failed to accept the publish")
