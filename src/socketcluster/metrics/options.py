"""Metrics: the options of the metrics that a server serves."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import EllipsisType

from socketcluster.errors import InvalidOptionsError
from socketcluster.options import invalid_option


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The metrics of a server, for Prometheus and whatever reads its format.

    The option `metrics=Metrics(token="…")` of a server turns them on: `GET /metrics` beside the
    WebSockets answers a scraper that sends `Authorization: Bearer …`. `Metrics(port=9100)` answers
    on a port of its own instead. It needs the extra "metrics".

    Attributes:
        path: the URL path; None serves no HTTP, for a registry of your own that has
            `server.metrics.collector`.
        token: the secret that a scraper sends. Give one on the port of the clients, or None to show
            the metrics to everyone who reaches it. A port of its own needs none.
        port: a port for the metrics alone; 0 lets the system choose. None takes the clients' port.
        host: the address of that port.

    Raises:
        InvalidOptionsError: a value is invalid; the error names it.
    """

    path: str | None = "/metrics"
    token: str | EllipsisType | None = field(default=..., repr=False)
    port: int | None = None
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        path, port = self.path, self.port
        if path is not None and (not isinstance(path, str) or not path.startswith("/")):
            raise invalid_option("metrics.path", "a URL path like '/metrics', or None", path)
        if port is not None and (type(port) is not int or not 0 <= port <= 65535):
            raise invalid_option("metrics.port", "an integer from 0 to 65535, or None", port)
        if not isinstance(self.host, str) or not self.host:
            raise invalid_option("metrics.host", "a host name or an IP address", self.host)
        if isinstance(self.token, EllipsisType):
            if path is not None and port is None:
                raise InvalidOptionsError(
                    "The metrics.token option is missing: give a text, which scrapers send as "
                    "'Authorization: Bearer …', or token=None to show the metrics to everyone who "
                    "reaches the server. Metrics(port=9100) serves them on a port of their own",
                    "metrics.token",
                )
            object.__setattr__(self, "token", None)
        elif self.token is not None and (not isinstance(self.token, str) or not self.token):
            raise invalid_option("metrics.token", "a text that is not empty, or None", "…")

    @property
    def secret(self) -> str | None:
        """The token, or None."""
        return None if isinstance(self.token, EllipsisType) else self.token
