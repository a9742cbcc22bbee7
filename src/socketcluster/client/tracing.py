"""Tracing, wired into a client that has the option. Without it, OpenTelemetry is not loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from socketcluster.client.messaging import ClientMessaging
from socketcluster.tracing.loading import load
from socketcluster.tracing.options import Tracing


def messaging_type(tracing: Tracing | None) -> Callable[..., ClientMessaging]:
    """Return the class of a client's messaging.

    Raises:
        InvalidOptionsError: the extra is not installed.
    """
    if tracing is None:
        return ClientMessaging
    spans = load("tracing.spans").Spans(tracing)
    return partial(load("client.call_spans").TracedMessaging, spans)
