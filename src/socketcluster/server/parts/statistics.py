"""Statistics of a server's socket: addresses, message counts and backpressure."""

from __future__ import annotations

from socketcluster.engines.base import Connection, UpgradeRequest
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.server.parts.inbound import Inbound
from socketcluster.server.parts.outbound import Outbound


class StatisticsMixin:
    """The addresses and counters of a socket.

    Source: SocketCluster documentation, AGServerSocket.
    """

    __slots__ = ()

    request: UpgradeRequest
    connection: Connection
    inbound: Inbound
    outbound: Outbound
    loop_binding: LoopBinding

    @property
    def remote_address(self) -> str | None:
        """The IP address of the connection's peer, which may be a proxy."""
        return self.request.remote_address

    @property
    def remote_port(self) -> int | None:
        """The port of the connection's peer."""
        return self.request.remote_port

    @property
    def remote_family(self) -> str | None:
        """'IPv4', 'IPv6' or 'unix'."""
        return self.request.remote_family

    @property
    def client_address(self) -> str | None:
        """The client's IP address: the peer's, or the one that `trusted_proxies` report."""
        return self.request.client_address

    @property
    def forwarded_for_address(self) -> str | None:
        """The first address of X-Forwarded-For. A client can forge it: see `client_address`."""
        return self.request.forwarded_for_address

    def get_bytes_received(self) -> int:
        """Payload bytes received so far."""
        return self.connection.get_bytes_received()

    @property
    def inbound_received_message_count(self) -> int:
        """Messages received, pongs included."""
        return self.inbound.received

    @property
    def inbound_processed_message_count(self) -> int:
        """Messages whose processing has begun, after raw middleware."""
        return self.inbound.processed

    @property
    def outbound_prepared_message_count(self) -> int:
        """Transmits, invokes and publishes to the client."""
        self.loop_binding.check()
        self.outbound.collect_publishes()
        return self.outbound.prepared

    @property
    def outbound_sent_message_count(self) -> int:
        """Transmits, invokes and publishes that were handed to the transport."""
        return self.outbound.sent

    def get_inbound_backpressure(self) -> int:
        """Messages received whose processing has not begun."""
        return self.inbound.received - self.inbound.processed

    def get_outbound_backpressure(self) -> int:
        """Messages not yet handed to the transport; pings and answers are not counted."""
        self.loop_binding.check()
        self.outbound.collect_publishes()
        return self.outbound.prepared - self.outbound.sent

    def get_inbound_buffer_size(self) -> int:
        """Bytes received that wait for middleware, or in the backlogs of loops."""
        return self.inbound.flow_control.total_size

    def get_outbound_buffer_size(self) -> int:
        """Bytes waiting to be sent, the transport's included."""
        self.loop_binding.check()
        self.outbound.collect_publishes()
        return self.outbound.get_buffer_size()
