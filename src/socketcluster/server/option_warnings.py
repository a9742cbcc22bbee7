"""Options that are accepted and logged as a WARNING when a server is made."""

from __future__ import annotations

import logging

from socketcluster.server.batch_limit import batch_problem
from socketcluster.server.options import ServerOptions


def log_cautions(options: ServerOptions, logger: logging.Logger) -> None:
    """Log what is probably not meant."""
    timeout, interval = map(options.milliseconds, ("ping_timeout", "ping_interval"))
    if not options.ping_timeout_disabled and timeout <= interval:
        logger.warning(
            "ping_timeout (%g ms) is not above ping_interval (%g ms): a client that sends "
            "nothing by itself is closed before it is asked for a sign of life",
            timeout,
            interval,
        )
    problem = batch_problem(options.max_batch_items, options.socket_channel_limit)
    if problem is not None:
        logger.warning("%s", problem)
