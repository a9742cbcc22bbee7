"""How a packet is answered: done, or refused; and the answers of the client.

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


def parsed(socket: AGServerSocket, data: Any) -> Any:
    """Decode the data of a packet, if it was left as the bytes received."""
    return (
        socket.context.wire.payloads.decode_checked(bytes(data))
        if type(data) is msgspec.Raw
        else data
    )


def acknowledge(socket: AGServerSocket, packet: AnyPacket, data: Any) -> None:
    """Answer a call of the protocol's own, and show it to whoever watches for it."""
    assert packet.event is not None
    if packet.cid is None:
        socket.streams.put_event(packet.event, data)
        return
    socket.messaging.respond_ok(packet.cid)
    if socket.streams.has_procedure(packet.event):
        socket.streams.put_call(packet.event, _answered(socket, packet.cid, packet.event, data))


def acknowledge_publish(
    socket: AGServerSocket, cid: int | float | None, channel: str, payload: bytes
) -> None:
    """`acknowledge` a publish, which is decoded when the first who watches for it takes it."""
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
            lambda: _answered(
                socket, cid, "#publish", {"channel": channel, "data": decode(payload)}
            ),
        )


def _answered(socket: AGServerSocket, cid: int | float, event: str, data: Any) -> AGRequest:
    request = AGRequest(socket, cid, event, data)
    request.sent = True
    return request


def answer_error(socket: AGServerSocket, packet: AnyPacket, error: BaseException) -> None:
    """Answer a call with an error that was reported already."""
    if packet.cid is not None and socket.life.state != CLOSED:
        socket.messaging.respond_error(packet.cid, error)


def refuse(
    socket: AGServerSocket, packet: AnyPacket, error: BaseException, malformed: bool = False
) -> None:
    """Report an error, and answer a call with it."""
    socket.emit_error(error)
    answer_error(socket, packet, error)
    if malformed and socket.life.state != CONNECTING:
        socket.inbound.rejections.count_malformed()
