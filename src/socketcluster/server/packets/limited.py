"""Limited: carries out packets within the server's rate limits.

These functions stand before those of `dispatch`, `batch` and `direct` on a server with limits; on
another one they are not called.
"""

from __future__ import annotations

from collections.abc import Mapping

from socketcluster.errors import InvalidMessageError
from socketcluster.protocol.packets import AnyPacket, Batch
from socketcluster.protocol.state import OPEN
from socketcluster.protocol.typed_packets import encoded_name
from socketcluster.server.context import SocketContext
from socketcluster.server.packets.batch import dispatch_batch
from socketcluster.server.packets.direct import Direct
from socketcluster.server.packets.replies import answer_error, reject
from socketcluster.server.parts.inbound import take_answers
from socketcluster.server.parts.rate_limits import RateLimits, Rule, Rules, SocketRates
from socketcluster.server.parts.sequencer import Continuation
from socketcluster.server.socket import AGServerSocket


class LimitedPackets:
    """Carries out packets and batches like the functions of a context, within limits."""

    __slots__ = ("_carry_out", "_carry_out_batch", "_limits")

    def __init__(self, limits: RateLimits, context: SocketContext) -> None:
        self._limits = limits
        self._carry_out = context.dispatch
        self._carry_out_batch = context.dispatch_batch

    def dispatch(self, socket: AGServerSocket, packet: AnyPacket, message: bytes) -> Continuation:
        """Carry out the packet of a message."""
        return self._within(socket, packet, message, self._limits.message)

    def dispatch_batch(self, socket: AGServerSocket, batch: Batch, message: bytes) -> Continuation:
        """Carry out the packets of a batch, which is one message."""
        rates = _rates(socket)
        exceeded = rates.add(self._limits.message, rates.now(), len(message))
        continuation = self._carry_out_batch(socket, batch, message, self._dispatch_in_batch)
        return rates.pause_after(continuation, exceeded) if exceeded else continuation

    def _dispatch_in_batch(
        self, socket: AGServerSocket, packet: AnyPacket, message: bytes
    ) -> Continuation:
        return self._within(socket, packet, message, ())

    def _within(
        self, socket: AGServerSocket, packet: AnyPacket, message: bytes, whole: Rules
    ) -> Continuation:
        if socket.life.phase != OPEN and socket.closing.last_words is None:
            return self._carry_out(socket, packet, message)
        rates, now = _rates(socket), _rates(socket).now()
        rules = whole + self._limits.rules_of(packet.event, packet.cid is not None)
        refusing = rates.find_refusing(rules, now)
        if refusing is not None:
            _refuse(socket, packet, refusing)
            exceeded = rates.add(whole, now, len(message))
            return rates.pause_after(None, exceeded) if exceeded else None
        exceeded = rates.add(rules, now, len(message))
        continuation = self._carry_out(socket, packet, message)
        return rates.pause_after(continuation, exceeded) if exceeded else continuation


def limit_packets(context: SocketContext, limits: RateLimits) -> None:
    """Have the functions of a context that carry out packets keep within limits."""
    if limits.limits_packets:
        limited = LimitedPackets(limits, context)
        context.dispatch = limited.dispatch
        context.dispatch_batch = limited.dispatch_batch


def limited_table(table: Mapping[bytes, Direct], limits: RateLimits) -> dict[bytes, Direct]:
    """Have the functions of a direct table leave calls past a limit to the ordinary path."""
    packets = {encoded_name(event): rules for event, rules in limits.packets.items()}
    return {
        name: _limited(function, limits.message + packets.get(name, limits.calls))
        for name, function in table.items()
    }


def _limited(function: Direct, rules: Rules) -> Direct:
    if not rules:
        return function

    def carry_out(socket: AGServerSocket, message: bytes) -> bool:
        rates = _rates(socket)
        now = rates.now()
        if not rates.has_room(rules, now) or not function(socket, message):
            return False
        rates.add(rules, now, len(message))
        return True

    return carry_out


def refuse_message(socket: AGServerSocket, message: bytes, rule: Rule) -> None:
    """Refuse a message that is not decoded, and answer the calls in it.

    The answers to this side's calls are taken: they do no work.
    """
    inbound = socket.inbound
    inbound.received += 1
    inbound.processed += 1
    inbound.last_seen = socket.context.ticker.now
    take_answers(socket, socket.context, message)
    if rule.exceeded == "close":
        socket.disconnect(1008, rule.text)
        return
    error = _rates(socket).error(rule)
    socket.emit_error(error)
    wire = socket.context.wire
    cid = wire.cid_of(message)
    if cid is not None:
        socket.messaging.respond_error(cid, error)
    elif wire.may_be_batch(message):
        _refuse_decoded(socket, message, error)


def _refuse_decoded(socket: AGServerSocket, message: bytes, error: Exception) -> None:
    try:
        decoded = socket.context.wire.decode(message)
    except InvalidMessageError:
        return
    if not isinstance(decoded, Batch):
        answer_error(socket, decoded, error)
        return

    def answer(socket: AGServerSocket, packet: AnyPacket, message: bytes) -> None:
        answer_error(socket, packet, error)

    continuation = dispatch_batch(socket, decoded, message, answer)
    if continuation is not None:
        socket.inbound.wait_for(continuation)


def _refuse(socket: AGServerSocket, packet: AnyPacket, rule: Rule) -> None:
    if rule.exceeded == "close":
        socket.disconnect(1008, rule.text)
    else:
        reject(socket, packet, _rates(socket).error(rule))


def _rates(socket: AGServerSocket) -> SocketRates:
    assert socket.rates is not None
    return socket.rates
