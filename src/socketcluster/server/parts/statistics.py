"""Groups of AGServerSocket's methods that only pass on to its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socketcluster.engines.base import Connection, UpgradeRequest
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.server.parts.inbound import Inbound
from socketcluster.server.parts.outbound import Outbound

if TYPE_CHECKING:
    pass


class StatisticsMixin:
    """What a socket's request and its counters say. Source: SocketCluster documentation,
    AGServerSocket."""

    __slots__ = ()

    state: str
    request: UpgradeRequest
    connection: Connection
    inbound: Inbound
    outbound: Outbound
    loop_binding: LoopBinding

    def get_streams_backpressure(self) -> int:
        """See `StreamMixin`."""
        raise AttributeError

    @property
    def remote_address(self) -> str | None:
        """The client's IP address, as the connection shows it."""
        return self.request.remote_address

    @property
    def remote_port(self) -> int | None:
        """The client's port."""
        return self.request.remote_port

    @property
    def remote_family(self) -> str | None:
        """'IPv4', 'IPv6' or 'unix'."""
        return self.request.remote_family

    @property
    def client_address(self) -> str | None:
        """The client's IP address: that of the connection, or what `trusted_proxies` say."""
        return self.request.client_address

    @property
    def forwarded_for_address(self) -> str | None:
        """The first address of X-Forwarded-For. A client can forge it: see `client_address`."""
        return self.request.forwarded_for_address

    def get_state(self) -> str:
        """`state`."""
        return self.state

    def get_bytes_received(self) -> int:
        """Payload bytes received so far."""
        return self.connection.get_bytes_received()

    @property
    def inbound_received_message_count(self) -> int:
        """Messages received, pongs included."""
        return self.inbound.received

    @property
    def inbound_processed_message_count(self) -> int:
        """Messages received that have passed raw middleware and are being, or were, carried out."""
        return self.inbound.processed

    @property
    def outbound_prepared_message_count(self) -> int:
        """Transmits, invokes and publishes to the client."""
        self.loop_binding.check()
        self.outbound.settle()
        return self.outbound.prepared

    @property
    def outbound_sent_message_count(self) -> int:
        """Those of them that were handed to the transport."""
        return self.outbound.sent

    def get_inbound_backpressure(self) -> int:
        """Messages received and not yet begun to be carried out."""
        return self.inbound.received - self.inbound.processed

    def get_outbound_backpressure(self) -> int:
        """Messages not yet handed to the transport; pings and answers are not counted."""
        self.loop_binding.check()
        self.outbound.settle()
        return self.outbound.prepared - self.outbound.sent

    def get_inbound_buffer_size(self) -> int:
        """Bytes received that wait for middleware, or for loops over the socket."""
        return self.inbound.reading.total_size

    def get_outbound_buffer_size(self) -> int:
        """Bytes waiting to be sent, the transport's included."""
        self.loop_binding.check()
        self.outbound.settle()
        return self.outbound.get_buffer_size()

    def get_backpressure(self) -> int:
        """The highest of all its backpressures."""
        return max(
            self.get_inbound_backpressure(),
            self.get_outbound_backpressure(),
            self.get_streams_backpressure(),
        )
