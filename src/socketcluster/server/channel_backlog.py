"""The bound on the backlog of a loop over one of the exchange's channels."""

from __future__ import annotations

from collections.abc import Callable

from socketcluster.errors import BackpressureError
from socketcluster.server.options import ServerOptions
from socketcluster.streams import Bound


def channel_bound(options: ServerOptions, report_fault: Callable[[BaseException], None]) -> Bound:
    """Make the bound on each consumer of a channel.

    Past `max_channel_backlog` values or `max_channel_backlog_bytes` the consumer is ended, and the
    error is reported. On droppable channels its oldest values are dropped instead.
    """
    limits = {
        "max_channel_backlog": options.max_channel_backlog,
        "max_channel_backlog_bytes": options.max_channel_backlog_bytes,
    }

    def exceeded(channel: str, values: int, size: int) -> BackpressureError | None:
        if options.droppable(channel):
            return None
        name = "max_channel_backlog"
        if values <= limits[name]:
            name = "max_channel_backlog_bytes"
        error = BackpressureError(
            f"A loop over the channel {channel!r} of the exchange was ended: it was {values} "
            f"values ({size} bytes) behind, and {name} is {limits[name]}. Take values sooner, for "
            "instance by handing slow work to tasks; or name the channel in droppable_channels, "
            "and the oldest values are dropped instead",
            channel,
            values,
            size,
            limits[name],
        )
        report_fault(error)
        return error

    return Bound(options.max_channel_backlog, options.max_channel_backlog_bytes, exceeded)
