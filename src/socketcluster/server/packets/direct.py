"""Direct: carries out short JSON messages for handlers in one step, from the bytes to the answer.

This is the ordinary path of `dispatch` and a handler's runner, without the steps between: they take
a third of the time of a call. An unusual message is left to the ordinary path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketcluster.handlers.data_type import DataType
from socketcluster.handlers.handler import Handler
from socketcluster.handlers.signature import EMPTY
from socketcluster.protocol.packets import Packet
from socketcluster.protocol.state import OPEN
from socketcluster.protocol.typed_packets import encoded_name, typed_decoder
from socketcluster.server.socket import AGServerSocket
from socketcluster.sockets.handling import Handling
from socketcluster.sockets.runners import FAILURES, DirectProcedure, LinedProcedure

Direct = Callable[[AGServerSocket, bytes], bool]
"""Carries out a message; returns False, and has done nothing, if the ordinary path has to."""


def direct_table(handling: Handling) -> dict[bytes, Direct]:
    """Make the functions that carry out calls, by the name of the procedure in a message."""
    return {
        encoded_name(name): _direct(runner)
        for name, runner in handling.procedures.items()
        if _decodes_directly(runner.handler)
    }


def _decodes_directly(handler: Handler) -> bool:
    data: DataType[Any] | None = handler.data
    if data is None:
        return True
    if handler.default not in (EMPTY, None) and _takes_null(data):
        return False  # In place of null it gets the default.
    return data.is_any or (data.kind == "msgspec" and data.encodes_directly)


def _takes_null(data: DataType[Any]) -> bool:
    try:
        data.from_value(None)
    except Exception:  # Of the type's own code, too.
        return False
    return True


def _direct(runner: DirectProcedure | LinedProcedure) -> Direct:
    handler = runner.handler
    data = handler.data
    decode = typed_decoder(handler.name, Any if data is None or data.is_any else data.annotation)
    if isinstance(runner, LinedProcedure):
        return _through_line(runner, decode)
    return _at_once(runner, decode)


def _at_once(runner: DirectProcedure, decode: Callable[[bytes], Packet]) -> Direct:
    call, takes_data, fail = runner.call, runner.takes_data, runner.fail
    handler, context, to_plain = runner.handler, runner.context, runner.to_plain
    flags = None if runner.timer is None else runner.timer.flags

    def carry_out(socket: AGServerSocket, message: bytes) -> bool:
        if socket.life.phase != OPEN:
            return False
        try:
            packet = decode(message)
        except Exception:  # Of the type's own code, too.
            return False
        cid = packet.cid
        if cid is None:
            return False
        if socket.auth.expires_at is not None:
            socket.auth.check_expiry()
        context.latest = handler
        if flags is not None and next(flags):
            runner.time(socket, cid, packet.data)
            return True
        result = None
        try:
            result = call(packet.data) if takes_data else call(socket, packet.data)
            if to_plain is not None:
                result = to_plain(result)
            if result is None:
                socket.messaging.respond_ok(cid)
            else:
                socket.outbound.answer(cid, result)
        except FAILURES as error:
            fail(socket, cid, error, result)
        return True

    return carry_out


def _through_line(runner: LinedProcedure, decode: Callable[[bytes], Packet]) -> Direct:
    name, context = runner.handler.name, runner.context

    def carry_out(socket: AGServerSocket, message: bytes) -> bool:
        if socket.life.phase != OPEN:
            return False
        try:
            packet = decode(message)
        except Exception:  # Of the type's own code, too.
            return False
        cid = packet.cid
        if cid is None:
            return False
        if socket.auth.expires_at is not None:
            socket.auth.check_expiry()
        # `LinedProcedure.carry_out` and `Handling.line` inline: the calls would take 2 % of this.
        socket.messaging.unanswered[cid] = name
        handling = socket.handling
        line = None if handling is None else handling.lines.get(runner)
        if line is None:
            line = context.line(socket, runner)
        line.put((socket, cid, packet.data, True))
        return True

    return carry_out
