"""Outages of a backend: since when, why, and their lines in the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from socketcluster.errors import BrokerError

logger: logging.Logger = logging.getLogger("socketcluster.brokers")


@dataclass(frozen=True, slots=True)
class Outage:
    """Since when a backend has not delivered, by the loop's clock, and why."""

    since: float
    error: BrokerError


class OutageLog:
    """Logs outages of one backend, and each reason once, not once per attempt to connect."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logged: set[str] = set()

    def away(self, error: BrokerError) -> None:
        """Log that the backend is away."""
        if str(error) not in self._logged:
            self._logged.add(str(error))
            logger.warning("%s is away, trying again: %s", self._name, error)

    def back(self, seconds: float) -> None:
        """Log that the backend is back."""
        self._logged.clear()
        logger.warning("%s is back after %.1f s", self._name, seconds)
