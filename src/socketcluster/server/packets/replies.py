"""Replies: answers to a client's packets, and reports of their errors.

Source: SocketCluster protocol 2.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from socketcluster.protocol.packets import AnyPacket
from socketcluster.protocol.state import CLOSED, CONNECTING
from socketcluster.server.socket import AGServerSocket
from socketcluster.sockets.request import AGRequest


def parse_data(socket: AGServerSocket, data: Any) -> Any:
    """Return the data of a packet; data that the wire left encoded is decoded."""
    return (
        socket.context.wire.payloads.decode_checked(bytes(data))
        if type(data) is msgspec.Raw
        else data
    )


def answer_ok(socket: AGServerSocket, packet: AnyPacket, data: Any) -> None:
    """Answer a call of the protocol without data, and pass it to its procedure's consumers."""
    assert packet.event is not None
    if packet.cid is None:
        socket.streams.put_event(packet.event, data)
        return
    socket.messaging.respond_ok(packet.cid)
    if socket.streams.has_procedure(packet.event):
        socket.streams.put_call(
            packet.event, _answered_request(socket, packet.cid, packet.event, data)
        )


def answer_call(socket: AGServerSocket, packet: AnyPacket, data: Any, answer: Any) -> None:
    """Answer a call of the protocol like `answer_ok`, but with data."""
    assert packet.event is not None
    assert packet.cid is not None
    socket.outbound.answer(packet.cid, answer)
    if socket.streams.has_procedure(packet.event):
        socket.streams.put_call(
            packet.event, _answered_request(socket, packet.cid, packet.event, data)
        )


def answer_publish(
    socket: AGServerSocket, cid: int | float | None, channel: str, payload: bytes
) -> None:
    """Answer a publish like `answer_ok`; it is decoded when the first consumer takes it."""
    decode = socket.context.wire.payloads.decode_checked
    if cid is None:
        if socket.streams.receivers is not None:
            socket.streams.receivers.write_deferred(
                "#publish", len(payload), partial(decode, payload)
            )
        return
    socket.messaging.respond_ok(cid)
    if socket.streams.procedures is not None:
        socket.streams.procedures.write_deferred(
            "#publish",
            len(payload),
            lambda: _answered_request(
                socket, cid, "#publish", {"channel": channel, "data": decode(payload)}
            ),
        )


def _answered_request(socket: AGServerSocket, cid: int | float, event: str, data: Any) -> AGRequest:
    request = AGRequest(socket, cid, event, data)
    request.sent = True
    return request


def answer_error(socket: AGServerSocket, packet: AnyPacket, error: BaseException) -> None:
    """Answer a call with an error that is reported already."""
    if packet.cid is not None and socket.life.state != CLOSED:
        socket.messaging.respond_error(packet.cid, error)


def reject(
    socket: AGServerSocket, packet: AnyPacket, error: BaseException, malformed: bool = False
) -> None:
    """Report an error, and answer a call with it."""
    socket.emit_error(error)
    answer_error(socket, packet, error)
    if malformed and socket.life.state != CONNECTING:
        socket.inbound.rejections.count_malformed()
