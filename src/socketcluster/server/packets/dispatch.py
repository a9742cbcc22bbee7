"""Dispatch: carries out each packet of a client at once, or returns a continuation to await.

Source: SocketCluster protocol 2; the order of checks is that of the original server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from socketcluster.errors import InvalidMessageError, InvalidRequestError
from socketcluster.literals import ActionType
from socketcluster.middleware import MIDDLEWARE_INBOUND
from socketcluster.middleware.action import AGAction
from socketcluster.protocol.packets import AnyPacket, Packet, Unparsed
from socketcluster.protocol.state import CLOSE_HANDSHAKE_REJECTED, CLOSED
from socketcluster.server.packets.channels import publish, subscribe, unsubscribe
from socketcluster.server.packets.delivery import (
    answer_unknown_procedure,
    deliver,
    deliver_unparsed,
)
from socketcluster.server.packets.handshake import authenticate, shake_hands
from socketcluster.server.packets.middleware import through_middleware
from socketcluster.server.packets.replies import reject
from socketcluster.server.parts.decision import Pending
from socketcluster.server.parts.sequencer import Continuation
from socketcluster.server.socket import AGServerSocket

System = Callable[[AGServerSocket, AnyPacket], Continuation]
"""Carries out the packets of one event, which the server itself handles."""


def make_dispatch(  # noqa: C901  Smaller functions would cost a call for each message.
    system: Mapping[str, System],
) -> Callable[[Any, AnyPacket, bytes], Continuation]:
    """Make the function that carries out packets; `system` has those of the server itself."""
    get_system = system.get

    def dispatch(socket: AGServerSocket, packet: AnyPacket, message: bytes) -> Continuation:
        """Carry out one packet; return None if it is done, else its continuation."""
        event = packet.event
        if socket.life.phase != "open" and (
            socket.closing.last_words is None or event == "#subscribe"
        ):
            return _before_handshake(socket, packet)
        if event is None:
            assert isinstance(packet, Packet)
            if packet.rid is not None:
                socket.messaging.take_answer(packet)
            else:
                socket.inbound.emit_raw(message)
            return None
        handler = get_system(event)
        if handler is not None:
            if type(packet.data) is not Unparsed:
                return handler(socket, packet)
            return _carry_out_parsed(socket, packet, handler)
        if MIDDLEWARE_INBOUND in socket.context.middleware:
            return _user_event_through_middleware(socket, packet)
        # The first half of `check_expiry`, which would cost 0.6 % of a call, 1.1 % of a pipelined
        # one.
        if socket.auth.expires_at is not None:
            socket.auth.check_expiry()
        cid, data, procedures = packet.cid, packet.data, socket.streams.procedures
        if type(data) is Unparsed:
            deliver_unparsed(socket, event, cid, data)
        elif cid is None or procedures is None or event in socket.context.handling.procedures:
            deliver(socket, event, cid, data)
        else:
            # Inlined from `deliver`, which would cost 2 % of a call, and 4 % of a pipelined one.
            request = socket.context.make_call(socket, cid, event, data)
            socket.messaging.unanswered[cid] = event
            if not procedures.put(event, request):
                answer_unknown_procedure(socket, event, request)
        return None

    return dispatch


def _carry_out_parsed(socket: AGServerSocket, packet: AnyPacket, carry_out: System) -> Continuation:
    """Parse the data of a long packet first; one of the protocol is unparsed if it has no value."""
    try:
        packet.data = packet.data.parse()  # type: ignore[union-attr]
    except InvalidMessageError as error:
        reject(socket, packet, error, True)
        return None
    return carry_out(socket, packet)


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
        kind: ActionType = AGAction.TRANSMIT
        name = {"receiver": event}
    else:
        kind = AGAction.INVOKE
        name = {"procedure": event}
    return through_middleware(
        socket,
        packet,
        kind,
        lambda data: deliver(socket, event, cid, data, size),
        data=data,
        **name,
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


SYSTEM: dict[str, System] = {
    "#handshake": _repeated_handshake,
    "#authenticate": _authenticate,
    "#removeAuthToken": _remove_auth_token,
    "#publish": publish,
    "#subscribe": subscribe,
    "#unsubscribe": unsubscribe,
}
"""The packets of the protocol. A server may carry out more, or some of these in another way."""
