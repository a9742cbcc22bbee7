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
    _warn_of_lost_channels(options, logger)


def _warn_of_lost_channels(options: ServerOptions, logger: logging.Logger) -> None:
    limits, channels = options.limits, options.socket_channel_limit
    if limits is None or limits.subscribe is None:
        return
    burst = limits.subscribe.burst
    if limits.exceeded_of(limits.subscribe) == "error" and (not channels or burst < channels):
        logger.warning(
            "limits.subscribe refuses subscriptions past %d at once, but a client may have %s "
            "channels (socket_channel_limit): after a reconnect it loses those that are refused. "
            "Use Rate(..., exceeded='pause') or a larger burst",
            burst,
            channels or "any number of",
        )
