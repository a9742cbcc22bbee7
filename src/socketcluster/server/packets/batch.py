"""A client's batch: carries out its packets in order, as if each had arrived by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from socketcluster.errors import InvalidMessageError, ResourceLimitError
from socketcluster.protocol.packets import AnyPacket, Batch
from socketcluster.server.parts.inbound import Inbound
from socketcluster.server.parts.sequencer import Continuation
from socketcluster.server.socket import AGServerSocket

_YIELD_EVERY = 32
"""How many packets of a batch to carry out before the event loop turns."""

_MAX_PER_TURN = 128
"""How many packets of one socket's batches to carry out in one loop turn."""


Dispatch = Callable[[Any, AnyPacket, bytes], Continuation]
"""Carries out one packet: (socket, packet, message)."""


def dispatch_batch(
    socket: AGServerSocket, batch: Batch, message: bytes, dispatch: Dispatch | None = None
) -> Continuation:
    """Carry out the packets of a batch; return None if it is done, else its continuation."""
    if dispatch is None:
        dispatch = socket.context.dispatch
    limit = socket.context.options.max_batch_items
    if len(batch) > limit:
        error = ResourceLimitError(
            f"A batch of {len(batch)} packets exceeds max_batch_items ({limit})"
        )
        socket.emit_error(error)
        socket.disconnect(1009, str(error))
        return None
    if len(batch) > _YIELD_EVERY or not _fit_in_turn(socket.inbound, len(batch)):
        return _continue(socket, None, batch, 0, message, dispatch)
    for index in range(len(batch)):
        if socket.inbound.closed:
            return None
        pending = _dispatch_one(socket, batch, index, message, dispatch)
        if pending is not None or socket.subscribed.reauthorization is not None:
            return _continue(socket, pending, batch, index + 1, message, dispatch)
    return None


def _dispatch_one(
    socket: AGServerSocket, batch: Batch, index: int, message: bytes, dispatch: Dispatch
) -> Continuation:
    try:
        return dispatch(socket, batch.packet(index), message)
    except InvalidMessageError as error:  # The other packets are still carried out.
        # The packet is no call: a call with a readable cid fails, and is answered, in `dispatch`.
        socket.inbound.rejections.reject(error, b"")
        return None


def _fit_in_turn(inbound: Inbound, count: int) -> bool:
    if inbound.batched == 0:
        asyncio.get_running_loop().call_soon(_next_turn, inbound)
    inbound.batched += count
    return inbound.batched <= _MAX_PER_TURN


def _next_turn(inbound: Inbound) -> None:
    inbound.batched = 0


async def _continue(
    socket: AGServerSocket,
    pending: Continuation,
    batch: Batch,
    start: int,
    message: bytes,
    dispatch: Dispatch,
) -> None:
    if pending is not None:
        await pending
    for index in range(start, len(batch)):
        if socket.subscribed.reauthorization is not None:
            await socket.subscribed.reauthorization.finished()
        if socket.inbound.closed:
            return
        pending = _dispatch_one(socket, batch, index, message, dispatch)
        if pending is not None:
            await pending
        if index % _YIELD_EVERY == 0:
            await asyncio.sleep(0)
