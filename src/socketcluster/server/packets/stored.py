"""The packets about channels with history: subscriptions that recover, and publishes with an id.

They stand before those of `channels` on a server that has a rule with history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Any, Protocol

import msgspec

from socketcluster.errors import InvalidRequestError, SocketClusterError
from socketcluster.middleware import MIDDLEWARE_INBOUND
from socketcluster.middleware.action import AGAction
from socketcluster.protocol.packets import AnyPacket, Publication, channel_and_data
from socketcluster.protocol.state import CLOSED, SUBSCRIBED
from socketcluster.server.packets import channels
from socketcluster.server.packets.channels import (
    MAX_UNCONFIRMED_PUBLISHES,
    check_channel,
    confirm_publish,
    make_publish,
    publish_error,
    sent_data,
    wait_until_done,
)
from socketcluster.server.packets.decisions import decide_on_subscribe
from socketcluster.server.packets.middleware import through_middleware
from socketcluster.server.packets.replies import answer_call, answer_publish, reject
from socketcluster.server.parts.decision import Pending
from socketcluster.server.parts.recover_request import without_recover
from socketcluster.server.parts.sequencer import Continuation
from socketcluster.server.parts.stored_channels import StoredChannels
from socketcluster.server.parts.stored_subscriptions import (
    RecoveryRequest,
    StoredSubscriptions,
    stored_subscriptions,
)
from socketcluster.server.parts.subscription_data import SentData
from socketcluster.server.socket import AGServerSocket

MAX_ID = 64
"""Characters of the id of a publish."""

_decode_text = msgspec.json.Decoder(str).decode


class IdentifyingDelivery(Protocol):
    """The delivery of the exchange, as publishes with an id see it."""

    def publish_once(self, channel: str, payload: bytes, id: str) -> Awaitable[None] | None:
        """Publish a payload that is stored once if it is published again with the same id."""


class StoredPackets:
    """Carries out subscriptions and publishes of a server with histories."""

    __slots__ = ("_delivery", "_shared")

    def __init__(self, shared: StoredChannels, delivery: IdentifyingDelivery) -> None:
        self._shared = shared
        self._delivery = delivery

    # Subscribing

    def subscribe(self, socket: AGServerSocket, packet: AnyPacket) -> Continuation:
        """Subscribe a client to a channel; with history, it may recover what it missed."""
        session = getattr(socket.subscribed, "session", None)
        waiting = None if session is None else session.waiting()
        if waiting is not None:
            return self._subscribe_after(waiting, socket, packet)
        return self._subscribe(socket, packet)

    async def _subscribe_after(
        self, waiting: Awaitable[None], socket: AGServerSocket, packet: AnyPacket
    ) -> None:
        await waiting
        if not socket.life.ended and (pending := self._subscribe(socket, packet)) is not None:
            await pending

    def _subscribe(self, socket: AGServerSocket, packet: AnyPacket) -> Continuation:
        channel, data = channel_and_data(packet.data)
        history = self._shared.history_of(channel) if isinstance(channel, str) else None
        if history is None or packet.cid is None:
            return channels.subscribe(socket, packet)
        if (channel := check_channel(socket, packet, channel, "Subscribe")) is None:
            return None
        names = socket.context.channel_names
        if names is not None and (refusal := names.subscribe_refusal(channel)) is not None:
            reject(socket, packet, refusal)
            return None
        try:  # Encoded first, because middleware may change the data.
            sent = None if data is None else sent_data(socket, without_recover(data))
        except SocketClusterError as error:
            reject(socket, packet, error)
            return None
        subscribed = stored_subscriptions(socket, self._shared)
        request = subscribed.read_request(channel, data, history)
        if MIDDLEWARE_INBOUND not in socket.context.middleware:
            socket.auth.check_expiry()
            return _decide(socket, packet, channel, data, sent, request)
        losses = socket.auth.losses

        def accept(data: Any) -> Pending | None:
            pending = _decide(socket, packet, channel, data, sent, request)
            subscribed.reauthorize_since(losses, channel)
            return pending

        return through_middleware(
            socket,
            packet,
            AGAction.SUBSCRIBE,
            accept,
            channel=channel,
            data=data,
            _recovering=request.recovering,
        )

    # Publishing

    def publish(self, socket: AGServerSocket, packet: AnyPacket) -> Continuation:
        """Carry out a client's publish, whose id tells a repeated one."""
        try:
            id = _id_of(packet.data)
        except InvalidRequestError as error:
            reject(socket, packet, error)
            return None
        if id is None:
            return channels.publish(socket, packet)
        return make_publish(partial(self._accept_publish, id))(socket, packet)

    def _accept_publish(
        self, id: str, socket: AGServerSocket, packet: AnyPacket, channel: str, data: Any
    ) -> Pending | None:
        context, inbound = socket.context, socket.inbound
        try:
            payload = context.wire.payloads.encode(data)
            own_id = self._shared.own_id(self._shared.user(socket), id)
            accepted = self._delivery.publish_once(channel, payload, own_id)
        except Exception as error:
            reject(socket, packet, publish_error(context, channel, error))
            return None
        if accepted is None:
            answer_publish(socket, packet.cid, channel, payload)
            return None
        # As in `channels`, which does without this function: it would cost each publish a call.
        confirmed = asyncio.ensure_future(accepted)
        inbound.unconfirmed += 1
        inbound.unconfirmed_size += len(payload)
        confirmed.add_done_callback(partial(confirm_publish, socket, packet, channel, payload))
        if (
            inbound.unconfirmed >= MAX_UNCONFIRMED_PUBLISHES
            or inbound.unconfirmed_size >= context.options.max_inbound_backlog_bytes
        ):
            return wait_until_done(confirmed)
        return None


def _decide(
    socket: AGServerSocket,
    packet: AnyPacket,
    channel: str,
    data: Any,
    sent: SentData | None,
    request: RecoveryRequest,
) -> Pending | None:
    return decide_on_subscribe(
        socket,
        packet,
        channel,
        channel,
        data,
        lambda data: _accept(socket, packet, channel, data, sent, request),
    )


def _accept(
    socket: AGServerSocket,
    packet: AnyPacket,
    channel: str,
    data: Any,
    sent: SentData | None,
    request: RecoveryRequest,
) -> Pending | None:
    subscribed, cid = socket.subscribed, packet.cid
    assert isinstance(subscribed, StoredSubscriptions)
    assert cid is not None
    if socket.life.state == CLOSED:
        return None
    fields = packet.data if isinstance(packet.data, dict) else {}
    options = {name: value for name, value in fields.items() if name != "channel"}
    if data is not None or "data" in options:
        options["data"] = data

    def answer(place: dict[str, Any]) -> None:
        answer_call(socket, packet, {"channel": channel, **options}, place)

    try:
        if subscribed.channels.get(channel) == SUBSCRIBED:
            subscribed.subscribe_again(channel, options, sent, request, answer)
            return None
        return _recover(socket, packet, subscribed.recover(channel, options, sent, request, answer))
    except SocketClusterError as error:
        reject(socket, packet, error)
        return None


async def _recover(socket: AGServerSocket, packet: AnyPacket, pending: Awaitable[None]) -> None:
    try:
        await pending
    except SocketClusterError as error:
        if socket.life.state != CLOSED:
            reject(socket, packet, error)


def _id_of(data: Any) -> str | None:
    """Return the id of a publish; None without one.

    Raises:
        InvalidRequestError: it is no text, or too long.
    """
    if isinstance(data, Publication):
        encoded = bytes(data.id)
        if not encoded or encoded == b"null":
            return None
        try:  # At most six characters of JSON for one.
            id: Any = _decode_text(encoded) if len(encoded) <= 12 * MAX_ID else None
        except (msgspec.DecodeError, ValueError):
            id = None
    else:
        id = data.get("id") if isinstance(data, dict) else None
        if id is None:
            return None
    if not isinstance(id, str) or not 0 < len(id) <= MAX_ID:
        raise InvalidRequestError(f"The id of a publish must be a text of 1 to {MAX_ID} characters")
    return id
