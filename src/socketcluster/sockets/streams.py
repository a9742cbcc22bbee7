"""The receiver_ and procedure_ methods that server and client sockets share.

Source: SocketCluster documentation, AGServerSocket and AGClientSocket.
"""

from __future__ import annotations

from typing import Any

from socketcluster.options import check_text
from socketcluster.streams.consumable import ConsumableStream, ConsumerStats
from socketcluster.streams.demux import StreamDemux


class ReceiverMixin:
    """Streams of the peer's events by name."""

    __slots__ = ()

    @property
    def _receiver_demux(self) -> StreamDemux[Any]:
        raise AttributeError("_receiver_demux")

    def receiver(self, name: str) -> ConsumableStream[Any]:
        """The stream of the peer's events of this name."""
        check_text("A receiver's name", name)
        return self._receiver_demux.stream(name)

    def close_receiver(self, name: str) -> None:
        """End the loops over a receiver once they took their backlog."""
        self._receiver_demux.close(name)

    def close_all_receivers(self) -> None:
        """End the loops over all receivers once they took their backlog."""
        self._receiver_demux.close_all()

    def kill_receiver(self, name: str) -> None:
        """End the loops over a receiver now; their backlog is dropped."""
        self._receiver_demux.kill(name)

    def kill_all_receivers(self) -> None:
        """End the loops over all receivers now."""
        self._receiver_demux.kill_all()

    def kill_receiver_consumer(self, consumer_id: int) -> None:
        """End one loop now."""
        self._receiver_demux.kill_consumer(consumer_id)

    def get_receiver_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Figures of one consumer."""
        return self._receiver_demux.get_consumer_stats(consumer_id)

    def get_receiver_consumer_stats_list(self, name: str) -> list[ConsumerStats]:
        """Figures of a receiver's consumers."""
        return self._receiver_demux.get_consumer_stats_list(name)

    def get_all_receivers_consumer_stats_list(self) -> list[ConsumerStats]:
        """Figures of all receivers' consumers."""
        return self._receiver_demux.get_consumer_stats_list_all()

    def get_receiver_backpressure(self, name: str) -> int:
        """The highest backpressure of a receiver's consumers."""
        return self._receiver_demux.get_backpressure(name)

    def get_all_receivers_backpressure(self) -> int:
        """The highest backpressure of all receivers' consumers."""
        return self._receiver_demux.get_backpressure_all()

    def get_receiver_consumer_backpressure(self, consumer_id: int) -> int:
        """What one consumer has not yet taken."""
        return self._receiver_demux.get_consumer_backpressure(consumer_id)

    def has_receiver_consumer(self, name: str, consumer_id: int) -> bool:
        """Whether a receiver has this consumer."""
        return self._receiver_demux.has_consumer(name, consumer_id)

    def has_any_receiver_consumer(self, consumer_id: int) -> bool:
        """Whether any receiver has this consumer."""
        return self._receiver_demux.has_consumer_all(consumer_id)


class ProcedureMixin:
    """Streams of the peer's calls by name."""

    __slots__ = ()

    @property
    def _procedure_demux(self) -> StreamDemux[Any]:
        raise AttributeError("_procedure_demux")

    def procedure(self, name: str) -> ConsumableStream[Any]:
        """The stream of the peer's calls of this name."""
        check_text("A procedure's name", name)
        return self._procedure_demux.stream(name)

    def close_procedure(self, name: str) -> None:
        """End the loops over a procedure once they took their backlog."""
        self._procedure_demux.close(name)

    def close_all_procedures(self) -> None:
        """End the loops over all procedures once they took their backlog."""
        self._procedure_demux.close_all()

    def kill_procedure(self, name: str) -> None:
        """End the loops over a procedure now; their backlog is dropped."""
        self._procedure_demux.kill(name)

    def kill_all_procedures(self) -> None:
        """End the loops over all procedures now."""
        self._procedure_demux.kill_all()

    def kill_procedure_consumer(self, consumer_id: int) -> None:
        """End one loop now."""
        self._procedure_demux.kill_consumer(consumer_id)

    def get_procedure_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Figures of one consumer."""
        return self._procedure_demux.get_consumer_stats(consumer_id)

    def get_procedure_consumer_stats_list(self, name: str) -> list[ConsumerStats]:
        """Figures of a procedure's consumers."""
        return self._procedure_demux.get_consumer_stats_list(name)

    def get_all_procedures_consumer_stats_list(self) -> list[ConsumerStats]:
        """Figures of all procedures' consumers."""
        return self._procedure_demux.get_consumer_stats_list_all()

    def get_procedure_backpressure(self, name: str) -> int:
        """The highest backpressure of a procedure's consumers."""
        return self._procedure_demux.get_backpressure(name)

    def get_all_procedures_backpressure(self) -> int:
        """The highest backpressure of all procedures' consumers."""
        return self._procedure_demux.get_backpressure_all()

    def get_procedure_consumer_backpressure(self, consumer_id: int) -> int:
        """What one consumer has not yet taken."""
        return self._procedure_demux.get_consumer_backpressure(consumer_id)

    def has_procedure_consumer(self, name: str, consumer_id: int) -> bool:
        """Whether a procedure has this consumer."""
        return self._procedure_demux.has_consumer(name, consumer_id)

    def has_any_procedure_consumer(self, consumer_id: int) -> bool:
        """Whether any procedure has this consumer."""
        return self._procedure_demux.has_consumer_all(consumer_id)
