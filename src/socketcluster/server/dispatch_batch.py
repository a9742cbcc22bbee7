"""A batch of a client: its packets one after the other, as if each had come alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from socketcluster.errors import ResourceLimitError
from socketcluster.server.dispatch import Left, dispatch
from socketcluster.server.replies import AnyPacket

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket

_YIELD_EVERY = 32
"""Packets of one batch before other sockets get their turn."""


def dispatch_batch(socket: AGServerSocket, packets: list[AnyPacket], message: bytes) -> Left:
    """Carry out the packets of a batch; None when that is done, else the rest of it."""
    limit = socket.server.options.max_batch_items
    if len(packets) > limit:
        error = ResourceLimitError(
            f"A batch of {len(packets)} packets exceeds max_batch_items ({limit})"
        )
        socket.emit_error(error)
        socket.disconnect(1009, str(error))
        return None
    if len(packets) > _YIELD_EVERY:
        return _rest(socket, None, packets, 0, message)
    for index, packet in enumerate(packets):
        if socket.inbound.closed:
            return None
        left = dispatch(socket, packet, message)
        if left is not None or socket.subscribed.reauthorization is not None:
            return _rest(socket, left, packets, index + 1, message)
    return None


async def _rest(
    socket: AGServerSocket, left: Left, packets: list[AnyPacket], start: int, message: bytes
) -> None:
    if left is not None:
        await left
    for index in range(start, len(packets)):
        if socket.subscribed.reauthorization is not None:
            await socket.subscribed.reauthorization.finished()
        if socket.inbound.closed:
            return
        left = dispatch(socket, packets[index], message)
        if left is not None:
            await left
        if index % _YIELD_EVERY == 0:
            await asyncio.sleep(0)
