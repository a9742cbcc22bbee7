"""Histories, wired into a server once a rule of its channels has one.

Without such a rule the server's packets are carried out as if there were no histories.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketcluster.history.since import SinceSigner
from socketcluster.server.context import SocketContext
from socketcluster.server.nodes import shared_secret
from socketcluster.server.packets.dispatch import System
from socketcluster.server.packets.history import HistoryCalls
from socketcluster.server.packets.stored import StoredPackets
from socketcluster.server.parts.stored_channels import StoredChannels


def serve_histories(
    context: SocketContext,
    system: dict[str, System],
    identify: Callable[[Any], str | None],
) -> None:
    """Have clients recover, read and publish to channels with history, from the next start on.

    `system` are the packets that the server itself carries out.
    """
    made: list[StoredChannels] = []

    def start() -> None:
        if made:
            made[0].replays.clear()  # Its timer may belong to a loop that has ended.
        elif context.exchange.stored.rules.has_history:
            made.append(_stored_channels(context, identify))
            _carry_out(system, made[0], context)

    context.starting.append(start)


def _stored_channels(
    context: SocketContext, identify: Callable[[Any], str | None]
) -> StoredChannels:
    options, exchange = context.options, context.exchange
    signer = SinceSigner(shared_secret(options), options.cluster_previous_keys)
    buffer = options.max_outbound_buffer
    shared = StoredChannels(exchange, context.wire, signer, identify, context.counts, buffer)
    exchange.stored.on_epoch = shared.clock.epoch_changed
    return shared


def _carry_out(system: dict[str, System], shared: StoredChannels, context: SocketContext) -> None:
    if context.sessions is not None:
        context.sessions.use(shared)
    packets = StoredPackets(shared, context.exchange.delivery)
    system["#subscribe"] = packets.subscribe
    system["#publish"] = packets.publish
    system["$history"] = HistoryCalls(shared).read
