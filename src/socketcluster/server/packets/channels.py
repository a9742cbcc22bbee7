"""The channel packets: a client publishes, subscribes and unsubscribes.

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
    InvalidRequestError,
    SocketClusterError,
)
from socketcluster.middleware import MIDDLEWARE_INBOUND
from socketcluster.middleware.action import AGAction
from socketcluster.protocol.packets import AnyPacket, channel_and_data, checked_channel
from socketcluster.protocol.state import CLOSED
from socketcluster.server.context import SocketContext
from socketcluster.server.packets.decisions import decide_on_publish, decide_on_subscribe
from socketcluster.server.packets.middleware import through_middleware
from socketcluster.server.packets.replies import answer_ok, answer_publish, parse_data, reject
from socketcluster.server.parts.decision import Pending
from socketcluster.server.parts.sequencer import Continuation
from socketcluster.server.parts.subscription_data import SentData
from socketcluster.server.parts.subscription_errors import subscription_error
from socketcluster.server.socket import AGServerSocket

MAX_UNCONFIRMED_PUBLISHES = 1000
"""How many publishes of one socket may be unconfirmed by the broker before the next waits.

Their bytes are bounded too, by `max_inbound_backlog_bytes`."""

AcceptPublish = Callable[[AGServerSocket, AnyPacket, str, Any], Pending | None]
"""Hands a publish to the broker: (socket, packet, channel, data)."""


def _accept_publish(
    socket: AGServerSocket, packet: AnyPacket, channel: str, data: Any
) -> Pending | None:
    context = socket.context
    try:
        payload = context.wire.payloads.encode(data)
        accepted = context.exchange.publish_payload(channel, payload)
    except Exception as error:
        reject(socket, packet, publish_error(context, channel, error))
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
    confirmed.add_done_callback(partial(confirm_publish, socket, packet, channel, payload))
    if (
        inbound.unconfirmed >= MAX_UNCONFIRMED_PUBLISHES
        or inbound.unconfirmed_size >= context.options.max_inbound_backlog_bytes
    ):
        return wait_until_done(confirmed)
    return None


def make_publish(
    accept: AcceptPublish,
) -> Callable[[AGServerSocket, AnyPacket], Continuation]:
    """Make the function that carries out publishes; `accept` hands them to the broker."""

    def publish(socket: AGServerSocket, packet: AnyPacket) -> Continuation:
        """Carry out a client's publish, which is answered once the broker has accepted it."""
        if not socket.context.options.allow_client_publish:
            reject(socket, packet, InvalidRequestError("Client publish feature is disabled"))
            return None
        channel, data = channel_and_data(packet.data)
        if (channel := check_channel(socket, packet, channel, "Publish")) is None:
            return None
        names = socket.context.channel_names
        if names is not None and (refusal := names.publish_refusal(channel)) is not None:
            reject(socket, packet, refusal)
            return None
        if MIDDLEWARE_INBOUND in socket.context.middleware:
            try:
                value = parse_data(socket, data)
            except SocketClusterError as error:
                reject(socket, packet, error)
                return None
            unchanged = _change_detector(data, value)
            return through_middleware(
                socket,
                packet,
                AGAction.PUBLISH_IN,
                lambda new: _decide_publish(
                    socket, packet, channel, data if unchanged(new) else new, accept
                ),
                channel=channel,
                data=value,
            )
        socket.auth.check_expiry()
        if socket.context.deciders:
            return _decide_publish(socket, packet, channel, data, accept)
        return accept(socket, packet, channel, data)

    return publish


publish: Callable[[AGServerSocket, AnyPacket], Continuation] = make_publish(_accept_publish)


def _decide_publish(
    socket: AGServerSocket, packet: AnyPacket, channel: str, data: Any, accept: AcceptPublish
) -> Pending | None:
    accept_data = partial(accept, socket, packet, channel)
    return decide_on_publish(socket, packet, channel, data, accept_data)


def _change_detector(data: Any, value: Any) -> Callable[[Any], bool]:
    """Return a function: whether middleware left the value as received.

    A long payload need not be encoded again then.
    """
    if type(data) is not msgspec.Raw or len(bytes(data)) <= SHORT:
        return lambda new: False
    seen = fingerprint(value)
    return lambda new: new is value and seen is not None and fingerprint(new) == seen


def confirm_publish(
    socket: AGServerSocket,
    packet: AnyPacket,
    channel: str,
    payload: bytes,
    confirmed: asyncio.Future[None],
) -> None:
    """Answer a publish that the broker has accepted or refused."""
    socket.inbound.unconfirmed -= 1
    socket.inbound.unconfirmed_size -= len(payload)
    if confirmed.cancelled():
        return
    error = confirmed.exception()
    if error is not None:
        reject(socket, packet, publish_error(socket.context, channel, error))
    elif socket.life.state != CLOSED:
        answer_publish(socket, packet.cid, channel, payload)


async def wait_until_done(future: asyncio.Future[None]) -> None:
    """Wait for a future, without its result."""
    await asyncio.wait([future])


def subscribe(socket: AGServerSocket, packet: AnyPacket) -> Continuation:
    """Subscribe a client to a channel."""
    channel, data = channel_and_data(packet.data)
    if (channel := check_channel(socket, packet, channel, "Subscribe")) is None:
        return None
    names, asked = socket.context.channel_names, channel
    if names is not None:
        if (refusal := names.subscribe_refusal(channel)) is not None:
            reject(socket, packet, refusal)
            return None
        asked = names.asked(channel)
    try:  # Encoded first, because middleware may change the data.
        sent = None if data is None else sent_data(socket, data)
    except SocketClusterError as error:
        reject(socket, packet, error)
        return None
    if MIDDLEWARE_INBOUND in socket.context.middleware:
        losses = socket.auth.losses

        def accept(data: Any) -> Pending | None:
            pending = _decide_subscribe(socket, packet, channel, asked, data, sent)
            socket.subscribed.reauthorize_since(losses, channel)
            return pending

        return through_middleware(
            socket,
            packet,
            AGAction.SUBSCRIBE,
            accept,
            channel=asked,
            data=data,
            presence=asked != channel,
        )
    socket.auth.check_expiry()
    return _decide_subscribe(socket, packet, channel, asked, data, sent)


def _decide_subscribe(
    socket: AGServerSocket,
    packet: AnyPacket,
    channel: str,
    asked: str,
    data: Any,
    sent: SentData | None,
) -> Pending | None:
    return decide_on_subscribe(
        socket,
        packet,
        channel,
        asked,
        data,
        lambda data: _accept_subscribe(socket, packet, channel, data, sent),
    )


def _accept_subscribe(
    socket: AGServerSocket, packet: AnyPacket, channel: str, data: Any, sent: SentData | None
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
        pending = socket.subscribed.subscribe(channel, options, sent)
    except SocketClusterError as error:
        reject(socket, packet, error)
        return None
    if pending is not None:
        return _subscribe_later(socket, packet, channel, options, pending)
    answer_ok(socket, packet, {"channel": channel, **options})
    return None


def sent_data(socket: AGServerSocket, data: Any) -> SentData:
    """Encode the data of a subscription, to keep it."""
    asks_for_gaps = isinstance(data, dict) and data.get("$gap") is True
    return SentData(socket.context.wire.payloads.encode_decoded(data), asks_for_gaps)


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


def unsubscribe(socket: AGServerSocket, packet: AnyPacket) -> None:
    """Unsubscribe a client from a channel."""
    if (channel := check_channel(socket, packet, packet.data, "Unsubscribe")) is None:
        return
    socket.auth.check_expiry()
    try:
        socket.subscribed.unsubscribe(channel)
    except InvalidActionError as error:
        text = f"Failed to unsubscribe socket from the {channel} channel - {describe_error(error)}"
        reject(socket, packet, subscription_error(text))
        return
    answer_ok(socket, packet, channel)


def check_channel(
    socket: AGServerSocket, packet: AnyPacket, channel: Any, action: str
) -> str | None:
    """Return the name of a packet's channel; None if it is none, and the packet is rejected."""
    try:
        return checked_channel(channel, action, socket.context.options.max_channel_name_length)
    except InvalidRequestError as error:
        reject(socket, packet, error, True)
        return None


def publish_error(context: SocketContext, channel: str, error: BaseException) -> BaseException:
    """Report why a publish failed, and return the error for the client."""
    if isinstance(error, BrokerError):
        context.report_broker("publish", error, channel)
    if isinstance(error, SocketClusterError):
        return error
    context.report_fault(error)
    return BrokerError("The broker failed to accept the publish")
