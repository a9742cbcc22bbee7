"""Messages between servers, wired into a server whose broker and keys allow them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from socketcluster.brokers.base import Broker
from socketcluster.errors import InvalidOptionsError
from socketcluster.nodes.messages import NodeMessages
from socketcluster.nodes.table import Node
from socketcluster.nodes.wire import NodeWire
from socketcluster.pubsub.listing import ChannelListing
from socketcluster.runtime.reporting import Reporter
from socketcluster.server.options import ServerOptions


class FaultReports(Protocol):
    """Reports faults of this side."""

    def report_fault(self, error: BaseException) -> None: ...


class NodesLifecycle(Protocol):
    """The lifecycle of a server, as its messages to others see it."""

    on_closing: list[Callable[[], None]]

    def add_background(self, function: Callable[[], Awaitable[Any]]) -> None: ...
    def add_peers(self, known: Callable[[], bool]) -> None: ...


class NodesMixin:
    """The other servers, as this one knows them."""

    __slots__ = ()

    node_messages: NodeMessages | None

    @property
    def nodes(self) -> list[Node]:
        """The other servers on the same backend that are alive; see the option `nodes`."""
        return [] if self.node_messages is None else self.node_messages.nodes


def shared_secret(options: ServerOptions) -> str | bytes | None:
    """Return the secret that the servers share; None if each has a random one."""
    if options.cluster_key is not None:
        return options.cluster_key
    if options.auth_private_key is not None:
        return options.auth_private_key
    return options.auth_key


def node_messages(
    options: ServerOptions, broker: Broker, reporter: Reporter, reports: FaultReports
) -> NodeMessages | None:
    """Make the messages between servers; None if they are off.

    Raises:
        InvalidOptionsError: `nodes` is True, and the broker or the keys do not allow it.
    """
    internal = getattr(broker, "internal", None)
    secret = shared_secret(options)
    if options.nodes and internal is None:
        raise InvalidOptionsError(
            "The nodes option is True, but the broker sends no messages between servers: set "
            "broker_engine to the URL of a backend, with a prefix",
            "nodes",
        )
    if options.nodes and secret is None:
        raise InvalidOptionsError(
            "The nodes option is True, but the servers share no key: set cluster_key, or auth_key",
            "nodes",
        )
    if options.nodes is False or internal is None or secret is None:
        return None
    made = internal()
    wire = NodeWire(made.prefix, secret, options.cluster_previous_keys)
    return NodeMessages(made, wire, reporter, reports.report_fault)


def connect_nodes(
    nodes: NodeMessages | None, lifecycle: NodesLifecycle, listing: ChannelListing
) -> None:
    """Run the messages with the server, and tell its drain and the other servers of each other."""
    if nodes is None:
        return
    listing.connect(nodes)
    lifecycle.add_background(nodes.run)
    lifecycle.add_peers(lambda: nodes.has_peer)
    lifecycle.on_closing.append(nodes.drain)
