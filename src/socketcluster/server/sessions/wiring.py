"""Sessions, wired into a server with the option `recovery`. Without it none of this is used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from socketcluster.brokers.storing import broker_name
from socketcluster.errors import InvalidOptionsError
from socketcluster.nodes.messages import NodeMessages
from socketcluster.options import has_methods
from socketcluster.server.context import SocketContext
from socketcluster.server.sessions.engine import SessionEngine
from socketcluster.server.sessions.messages import SessionMessages
from socketcluster.server.sessions.registry import Sessions


class SessionsLifecycle(Protocol):
    """The lifecycle of a server, as its sessions see it."""

    on_drained: list[Callable[[], Awaitable[None]]]

    def add_background(self, function: Callable[[], Awaitable[Any]]) -> None: ...


def serve_sessions(
    context: SocketContext, nodes: NodeMessages | None, broker: Any, lifecycle: SessionsLifecycle
) -> None:
    """Make the sessions of a server that has the option.

    Raises:
        InvalidOptionsError: the backend is to keep them, and the broker does not.
    """
    recovery = context.options.recovery
    if recovery is None:
        return
    sessions = Sessions(recovery, context.exchange, context.reports, context.reporter)
    if nodes is not None:
        sessions.messages = SessionMessages(nodes, sessions.take, sessions.keep)
        context.starting.append(sessions.messages.start)
    if recovery.store == "engine":
        if not has_methods(broker, "keep", "take"):
            raise InvalidOptionsError(
                f"The recovery option has store='engine', and {broker_name(broker)} keeps nothing. "
                "Use a broker that stores, such as Redis, or store='memory'",
                "recovery",
            )
        pause = context.ping_interval / 1000
        sessions.engine = SessionEngine(broker, recovery.seconds + 2 * pause)
        lifecycle.add_background(lambda: sessions.run(lambda: context.ping_interval / 1000))
    lifecycle.on_drained.append(sessions.hand_on)
    context.sessions = sessions
