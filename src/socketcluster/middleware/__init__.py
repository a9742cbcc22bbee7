"""Middleware: async functions that allow or block the actions of a socket."""

from socketcluster.middleware.action import AGAction
from socketcluster.middleware.line import Blocked, MiddlewareLine
from socketcluster.middleware.stream import (
    MIDDLEWARE_HANDSHAKE,
    MIDDLEWARE_INBOUND,
    MIDDLEWARE_INBOUND_RAW,
    MIDDLEWARE_OUTBOUND,
    MIDDLEWARE_TYPES,
    MiddlewareFunction,
    MiddlewareStream,
)

__all__ = [
    "MIDDLEWARE_HANDSHAKE",
    "MIDDLEWARE_INBOUND",
    "MIDDLEWARE_INBOUND_RAW",
    "MIDDLEWARE_OUTBOUND",
    "MIDDLEWARE_TYPES",
    "AGAction",
    "Blocked",
    "MiddlewareFunction",
    "MiddlewareLine",
    "MiddlewareStream",
]
