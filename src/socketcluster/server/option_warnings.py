"""Warnings about valid options that are probably a mistake."""

from __future__ import annotations

import logging

from socketcluster.server.batch_limit import batch_problem
from socketcluster.server.options import ServerOptions


def log_option_warnings(options: ServerOptions, logger: logging.Logger) -> None:
    """Log a WARNING for each pair of options that is probably a mistake."""
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
