"""How a packet is answered: done, or refused; and the answers of the client.

Source: SocketCluster protocol 2.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from socketcluster.errors import BrokerError, InvalidMessageError
from socketcluster.protocol.packets import AnyPacket, Packet, answer_of
from socketcluster.protocol.state import CLOSED, CONNECTING
from socketcluster.sockets.request import AGRequest

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket


def parsed(socket: AGServerSocket, data: Any) -> Any:
    """The data of a packet that was left as the bytes received, decoded."""
    return (
        socket.server.wire.payloads.decode_checked(bytes(data))
        if type(data) is msgspec.Raw
        else data
    )


def acknowledge(socket: AGServerSocket, packet: AnyPacket, data: Any) -> None:
    """Answer a call of the protocol's own, and show it to whoever watches for it."""
    assert packet.event is not None
    if packet.cid is None:
        socket.streams.put_event(packet.event, data)
        return
    socket.respond_ok(packet.cid)
    if socket.streams.has_procedure(packet.event):
        socket.streams.put_call(packet.event, _answered(socket, packet.cid, packet.event, data))


def acknowledge_publish(
    socket: AGServerSocket, cid: int | float | None, channel: str, payload: bytes
) -> None:
    """`acknowledge` a publish, which is decoded when the first who watches for it takes it."""
    decode = socket.server.wire.payloads.decode_checked
    if cid is None:
        if socket.streams.receivers is not None:
            socket.streams.receivers.write_deferred(
                "#publish", len(payload), partial(decode, payload)
            )
        return
    socket.respond_ok(cid)
    if socket.streams.procedures is not None:
        socket.streams.procedures.write_deferred(
            "#publish",
            len(payload),
            lambda: _answered(
                socket, cid, "#publish", {"channel": channel, "data": decode(payload)}
            ),
        )


def _answered(socket: AGServerSocket, cid: int | float, event: str, data: Any) -> AGRequest:
    request = AGRequest(socket, cid, event, data)
    request.sent = True
    return request


def take_answer(socket: AGServerSocket, packet: Packet) -> None:
    """Settle the call of this side that a packet answers."""
    if socket.calls and packet.rid is not None and packet.rid in socket.calls:
        socket.calls.answer(packet.rid, *answer_of(packet))


def answer_error(socket: AGServerSocket, packet: AnyPacket, error: BaseException) -> None:
    """Answer a call with an error that was reported already."""
    if packet.cid is not None and socket.state != CLOSED:
        socket.respond_error(packet.cid, error)


def broker_error(text: str) -> BrokerError:
    """A BrokerError whose text a client may see."""
    error = BrokerError(text)
    error.public_message = text
    return error


def refuse(
    socket: AGServerSocket, packet: AnyPacket, error: BaseException, malformed: bool = False
) -> None:
    """Report an error, and answer a call with it."""
    socket.emit_error(error)
    answer_error(socket, packet, error)
    if malformed and socket.state != CONNECTING:
        socket.inbound.malformed()


def refuse_unreadable(socket: AGServerSocket, error: InvalidMessageError, message: bytes) -> None:
    """Report and count a message that cannot be decoded, and answer it if it is a call."""
    socket.emit_error(error)
    if socket.state == CONNECTING:
        socket.inbound.reject_before_handshake()
        return
    cid = socket.server.wire.cid_of(message)
    if cid is not None and socket.state != CLOSED:
        socket.respond_error(cid, error)
    socket.inbound.malformed()
