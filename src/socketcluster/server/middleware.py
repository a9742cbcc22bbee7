"""The methods of a server that set and remove middleware functions."""

from __future__ import annotations

from typing import Final

from socketcluster.errors import InvalidActionError, InvalidArgumentsError
from socketcluster.literals import MiddlewareType
from socketcluster.middleware import (
    MIDDLEWARE_HANDSHAKE,
    MIDDLEWARE_INBOUND,
    MIDDLEWARE_INBOUND_RAW,
    MIDDLEWARE_OUTBOUND,
    MIDDLEWARE_TYPES,
    MiddlewareFunction,
)
from socketcluster.options import check_async_function
from socketcluster.runtime.loop_binding import LoopBinding


class MiddlewareMixin:
    """Setting and removing middleware. Source: AGServer specification."""

    __slots__ = ()

    MIDDLEWARE_HANDSHAKE: Final = MIDDLEWARE_HANDSHAKE
    MIDDLEWARE_INBOUND_RAW: Final = MIDDLEWARE_INBOUND_RAW
    MIDDLEWARE_INBOUND: Final = MIDDLEWARE_INBOUND
    MIDDLEWARE_OUTBOUND: Final = MIDDLEWARE_OUTBOUND

    middleware_functions: dict[MiddlewareType, MiddlewareFunction]
    loop_binding: LoopBinding

    def _paths_changed(self) -> None:
        """Choose the path of messages anew: a function was set or removed."""

    def set_middleware(self, type: MiddlewareType, middleware: MiddlewareFunction) -> None:
        """Set the middleware function of a type, for existing and new sockets.

        Raises:
            InvalidArgumentsError: the type is unknown, or the function is not async or does not
                take one argument.
            InvalidActionError: the type already has a function.
        """
        self.loop_binding.check()
        if type not in MIDDLEWARE_TYPES:
            raise InvalidArgumentsError(f"Middleware {type} type is not supported")
        check_async_function("Middleware", middleware, "stream")
        if type in self.middleware_functions:
            raise InvalidActionError(f"Middleware {type} type has already been set")
        self.middleware_functions[type] = middleware
        self._paths_changed()

    def remove_middleware(
        self, type: MiddlewareType, middleware: MiddlewareFunction | None = None
    ) -> None:
        """Remove the middleware function of a type, or only if it is `middleware`."""
        self.loop_binding.check()
        if middleware is None or self.middleware_functions.get(type) == middleware:
            self.middleware_functions.pop(type, None)
            self._paths_changed()

    def has_middleware(self, type: MiddlewareType) -> bool:
        """Whether a type has a middleware function."""
        return type in self.middleware_functions
