"""Outbound batches of a server's socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.server.parts.outbound import Outbound
from socketcluster.sockets.batching import Batching

if TYPE_CHECKING:
    import asyncio

    from socketcluster.server.server import AGServer


class BatchingMixin:
    """Sending many packets as one array. Source: SocketCluster documentation, AGServerSocket."""

    if not TYPE_CHECKING:  # The attributes are slots of the class that mixes this in.
        __slots__ = ()

    outbound: Outbound
    server: AGServer
    loop_binding: LoopBinding
    _batching: Batching | None
    _batch_timer: asyncio.TimerHandle | None

    @property
    def is_buffering_batch(self) -> bool:
        """Whether packets are being collected."""
        return self.outbound.batch is not None

    @property
    def is_batching(self) -> bool:
        """Whether batches are sent in intervals, those after the handshake not counted."""
        batching = self._batching
        return batching is not None and batching.running and self._batch_timer is None

    def start_batch(self) -> None:
        """Collect what is sent from now on until `flush_batch`."""
        self.loop_binding.check()
        self.outbound.start_batch()

    def flush_batch(self) -> None:
        """Send what was collected as one message, and collect no more."""
        self.loop_binding.check()
        self.outbound.flush_batch()

    def cancel_batch(self) -> None:
        """Drop what was collected, and collect no more."""
        self.loop_binding.check()
        self.outbound.cancel_batch()

    def start_batching(self) -> None:
        """Send what is sent as one message every `batch_interval` milliseconds from now on."""
        self.loop_binding.check()
        self._cancel_batch_timer()
        if self._batching is None:
            interval = self.server.options.milliseconds("batch_interval")
            self._batching = Batching(self.outbound, interval)
        self._batching.start()

    def stop_batching(self) -> None:
        """Stop it; what was collected is sent."""
        self.loop_binding.check()
        self._cancel_batch_timer()
        if self._batching is not None:
            self._batching.stop()

    def cancel_batching(self) -> None:
        """Stop it; what was collected is dropped."""
        self.loop_binding.check()
        self._cancel_batch_timer()
        if self._batching is not None:
            self._batching.cancel()

    def _cancel_batch_timer(self) -> None:
        if self._batch_timer is not None:
            self._batch_timer.cancel()
            self._batch_timer = None
