"""Checks after a server's start that the backend can store, if a rule has history."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, cast

from socketcluster.brokers.base import BackendBroker, Broker
from socketcluster.brokers.storing import Retention, StoringBroker, broker_name
from socketcluster.errors import BrokerError
from socketcluster.pubsub.rule_table import RuleTable
from socketcluster.runtime.reporting import clean

logger: logging.Logger = logging.getLogger("socketcluster")

RETRY_SECONDS = 1.0
"""How often to look whether a backend that is away is back."""

MAX_REASON = 600
"""Characters of the backend's reason in the log."""


class BackgroundRunner(Protocol):
    """The lifecycle of a server."""

    def add_background(self, function: Callable[[], Awaitable[Any]]) -> None: ...


def check_histories(rules: RuleTable, broker: Broker, lifecycle: BackgroundRunner) -> None:
    """Have each start of a server check its backend, without waiting for that."""
    if isinstance(broker, BackendBroker):
        lifecycle.add_background(partial(_check, rules, broker))


async def _check(rules: RuleTable, broker: Broker) -> None:
    """Log an ERROR if the backend does not answer a read as each rule needs it.

    The channel that is read has the name of the pattern, which every pattern matches.
    """
    for rule in rules:
        if rule.history is None:
            continue
        pattern = rule.pattern.text
        error = await _failure(broker, pattern, rule.history.retention)
        if error is not None:
            logger.error(
                "The rule for %r has history, which %s cannot store: %s. Until it can, clients "
                "cannot subscribe or publish to these channels",
                pattern,
                broker_name(broker),
                clean(error, MAX_REASON),
            )
            return


async def _failure(broker: Broker, channel: str, retention: Retention) -> BrokerError | None:
    """Return the error of a read; wait for a backend that is away."""
    while True:
        while not broker.ready:  # noqa: ASYNC110 - Nothing is left to do meanwhile.
            await asyncio.sleep(RETRY_SECONDS)
        try:
            await cast("StoringBroker", broker).history(channel, retention, limit=0)
            return None
        except BrokerError as error:
            if broker.ready:
                return error
