"""A batch of a client: its packets one after the other, as if each had come alone."""

from __future__ import annotations

import asyncio

from socketcluster.errors import InvalidMessageError, ResourceLimitError
from socketcluster.protocol.packets import Batch
from socketcluster.server.packets.dispatch import dispatch
from socketcluster.server.parts.inbound import Inbound
from socketcluster.server.parts.sequencer import Rest
from socketcluster.server.socket import AGServerSocket

_YIELD_EVERY = 32
"""Packets of one batch before other sockets get their turn."""

_TURN = 128
"""Packets of batches of one socket that are carried out in one loop turn."""


def dispatch_batch(socket: AGServerSocket, batch: Batch, message: bytes) -> Rest:
    """Carry out the packets of a batch; None when that is done, else the rest of it."""
    limit = socket.context.options.max_batch_items
    if len(batch) > limit:
        error = ResourceLimitError(
            f"A batch of {len(batch)} packets exceeds max_batch_items ({limit})"
        )
        socket.emit_error(error)
        socket.disconnect(1009, str(error))
        return None
    if len(batch) > _YIELD_EVERY or not _fit_in_turn(socket.inbound, len(batch)):
        return _rest(socket, None, batch, 0, message)
    for index in range(len(batch)):
        if socket.inbound.closed:
            return None
        left = _dispatch_one(socket, batch, index, message)
        if left is not None or socket.subscribed.reauthorization is not None:
            return _rest(socket, left, batch, index + 1, message)
    return None


def _dispatch_one(socket: AGServerSocket, batch: Batch, index: int, message: bytes) -> Rest:
    try:
        return dispatch(socket, batch.packet(index), message)
    except InvalidMessageError as error:  # It is not the end of the others.
        # It is no call: one whose cid can be read is answered where its data is wanted.
        socket.inbound.rejections.reject(error, b"")
        return None


def _fit_in_turn(inbound: Inbound, count: int) -> bool:
    if inbound.batched == 0:
        asyncio.get_running_loop().call_soon(_next_turn, inbound)
    inbound.batched += count
    return inbound.batched <= _TURN


def _next_turn(inbound: Inbound) -> None:
    inbound.batched = 0


async def _rest(
    socket: AGServerSocket, left: Rest, batch: Batch, start: int, message: bytes
) -> None:
    if left is not None:
        await left
    for index in range(start, len(batch)):
        if socket.subscribed.reauthorization is not None:
            await socket.subscribed.reauthorization.finished()
        if socket.inbound.closed:
            return
        left = _dispatch_one(socket, batch, index, message)
        if left is not None:
            await left
        if index % _YIELD_EVERY == 0:
            await asyncio.sleep(0)
