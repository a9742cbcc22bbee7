"""The options of a server that are properties of it."""

from __future__ import annotations

from socketcluster.server.options import ServerOptions


class OptionsMixin:
    """The path and the times of a server. Source: AGServer specification."""

    __slots__ = ()

    options: ServerOptions

    @property
    def ack_timeout(self) -> float:
        """Milliseconds that `invoke` waits for an answer."""
        return self.options.milliseconds("ack_timeout")

    @property
    def handshake_timeout(self) -> float:
        """Milliseconds that a client has for its handshake."""
        return self.options.milliseconds("handshake_timeout")

    @property
    def ping_interval(self) -> float:
        """Milliseconds between pings."""
        return self.options.milliseconds("ping_interval")

    @property
    def ping_timeout(self) -> float:
        """Milliseconds without a message after which a client counts as lost."""
        return self.options.milliseconds("ping_timeout")

    @property
    def path(self) -> str:
        """The URL path it serves."""
        return self.options.path

    def get_path(self) -> str:
        """`path`."""
        return self.options.path
