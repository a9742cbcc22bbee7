"""Outbound batches: many packets as one array, on demand or at regular intervals."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from socketcluster.options import seconds
from socketcluster.runtime.loop_binding import LoopBinding


class BatchWriter(Protocol):
    """The writer of one connection, which collects packets and sends them as one array."""

    batch: list[tuple[Any, int]] | None
    closed: bool

    def start_batch(self) -> None: ...
    def flush_batch(self) -> None: ...
    def cancel_batch(self) -> None: ...


class Batching:
    """Sends a socket's packets as one array every `interval` milliseconds while it runs.

    Attributes:
        writer: the writer of the open connection; None without one.
        wanted: whether the application asked for batching; it outlives a lost connection.
        interval: milliseconds between two arrays.
    """

    __slots__ = ("_loop_binding", "_stop_timer", "_timer", "interval", "wanted", "writer")

    def __init__(
        self, loop_binding: LoopBinding, interval: float, writer: BatchWriter | None = None
    ) -> None:
        self._loop_binding = loop_binding
        self._timer: asyncio.TimerHandle | None = None
        self._stop_timer: asyncio.TimerHandle | None = None
        self.interval: float = interval
        self.wanted: bool = False
        self.writer = writer

    @property
    def is_buffering(self) -> bool:
        """Whether packets are being collected."""
        return self.writer is not None and self.writer.batch is not None

    def start_batch(self) -> None:
        """Collect packets until `flush_batch`."""
        self._loop_binding.check()
        if self.writer is not None:
            self.writer.start_batch()

    def flush_batch(self) -> None:
        """Send the collected packets, and collect no more."""
        self._loop_binding.check()
        if self.writer is not None:
            self.writer.flush_batch()

    def cancel_batch(self) -> None:
        """Drop the collected packets, and collect no more."""
        self._loop_binding.check()
        if self.writer is not None:
            self.writer.cancel_batch()

    def start(self) -> None:
        """Send an array in each interval, now or as soon as there is a connection."""
        self._loop_binding.check()
        self._run()
        self._cancel_stop_timer()
        self.wanted = True

    def stop(self) -> None:
        """Send the collected packets, and no more arrays."""
        self._loop_binding.check()
        self.wanted = False
        self._stop()

    def cancel(self) -> None:
        """Drop the collected packets, and send no more arrays."""
        self._loop_binding.check()
        self.wanted = False
        self._drop()

    def connected(self, writer: BatchWriter) -> None:
        """Use the writer of a connection that is open now."""
        self.writer = writer
        if self.wanted:
            self._run()

    def disconnected(self) -> None:
        """Drop the collected packets; `connected` goes on if batching is still wanted."""
        self._drop()
        self.writer = None

    def run_for(self, milliseconds: float) -> None:
        """Send arrays for some time, or on if the application asks for it meanwhile."""
        if self.wanted:
            return
        self._run()
        loop = asyncio.get_running_loop()
        self._stop_timer = loop.call_later(seconds(milliseconds), self._stop)

    def _run(self) -> None:
        if self._timer is None and self.writer is not None and not self.writer.closed:
            self._arm()  # Without a loop this raises, before anything has changed.
            self.writer.start_batch()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds(self.interval), self._tick)

    def _tick(self) -> None:
        writer = self.writer
        assert writer is not None
        self._arm()  # First: the flush may exceed a limit and close the socket, which cancels it.
        writer.flush_batch()
        writer.start_batch()

    def _stop(self) -> None:
        self._cancel_timers()
        if self.writer is not None and self.writer.batch is not None:
            self.writer.flush_batch()

    def _drop(self) -> None:
        self._cancel_timers()
        if self.writer is not None and self.writer.batch is not None:
            self.writer.cancel_batch()

    def _cancel_timers(self) -> None:
        self._cancel_stop_timer()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cancel_stop_timer(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer.cancel()
            self._stop_timer = None


class BatchingMixin:
    """Sending many packets as one array.

    Source: SocketCluster documentation, AGServerSocket and AGClientSocket.
    """

    __slots__ = ()

    batching: Batching

    @property
    def is_buffering_batch(self) -> bool:
        """Whether packets are being collected."""
        return self.batching.is_buffering

    @property
    def is_batching(self) -> bool:
        """Whether `start_batching` is in effect. Batching after the handshake does not count."""
        return self.batching.wanted

    def start_batch(self) -> None:
        """Collect packets from now on, until `flush_batch`. It needs a connection."""
        self.batching.start_batch()

    def flush_batch(self) -> None:
        """Send the collected packets as one array, and collect no more.

        A client sends more than 1,000 packets or 256 KiB as several arrays, in order.
        """
        self.batching.flush_batch()

    def cancel_batch(self) -> None:
        """Drop the collected packets, and collect no more."""
        self.batching.cancel_batch()

    def start_batching(self) -> None:
        """Collect packets, and send them as one array every `batch_interval` milliseconds.

        A client goes on with it over later connections.
        """
        self.batching.start()

    def stop_batching(self) -> None:
        """Stop batching, and send the collected packets."""
        self.batching.stop()

    def cancel_batching(self) -> None:
        """Stop batching, and drop the collected packets."""
        self.batching.cancel()
