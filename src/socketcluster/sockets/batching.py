"""Outbound batches that are sent in regular intervals."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Batched(Protocol):
    """What collects packets and sends them as one array."""

    def start_batch(self) -> None: ...
    def flush_batch(self) -> None: ...
    def cancel_batch(self) -> None: ...


class Batching:
    """Sends what a socket says as one array every `interval` milliseconds while it runs."""

    __slots__ = ("_handle", "_interval", "_outbound")

    def __init__(self, outbound: Batched, interval: float) -> None:
        self._outbound = outbound
        self._interval = interval / 1000
        self._handle: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._handle is not None

    def start(self) -> None:
        """Start, unless it runs."""
        if self._handle is None:
            self._arm()  # Which raises without a loop: before anything has changed.
            self._outbound.start_batch()

    def _arm(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def _tick(self) -> None:
        self._outbound.flush_batch()
        self._outbound.start_batch()
        self._arm()

    def stop(self) -> None:
        """Stop, and send what was collected."""
        self._cancel_timer()
        self._outbound.flush_batch()

    def cancel(self) -> None:
        """Stop, and drop what was collected."""
        self._cancel_timer()
        self._outbound.cancel_batch()

    def _cancel_timer(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
