"""AsyncAPI: the options of the description that a server serves."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from socketcluster.options import invalid_option


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncAPI:
    """The description of a server's handlers, served over HTTP.

    The option `asyncapi=AsyncAPI(title="Chat")` of a server turns it on: `GET /asyncapi` is a page,
    `GET /asyncapi.json` the AsyncAPI 3.1 document that it shows. Both use and allow no other
    origin.

    Attributes:
        title, version, description: of your API.
        path: of the page; the document has ".json" added.
        url: the address that clients connect to, "wss://chat.example.com/socketcluster/"; None
            takes the host that the HTTP request names.
        token: a secret that the document requires, as `Authorization: Bearer …`; the page asks for
            it. None shows the document to everyone who reaches the server.

    Raises:
        InvalidOptionsError: a value is invalid; the error names it.
    """

    title: str = "SocketCluster API"
    version: str = "1.0.0"
    description: str = ""
    path: str = "/asyncapi"
    url: str | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("title", "version", "description"):
            if not isinstance(getattr(self, name), str):
                raise invalid_option(f"asyncapi.{name}", "a text", getattr(self, name))
        path = self.path
        if not isinstance(path, str) or not path.startswith("/") or path.endswith("/"):
            raise invalid_option("asyncapi.path", "a URL path like '/asyncapi'", path)
        if self.url is not None:
            parts = urlsplit(self.url) if isinstance(self.url, str) else urlsplit("")
            if parts.scheme not in ("ws", "wss") or not parts.netloc:
                raise invalid_option("asyncapi.url", "a URL with ws:// or wss://", self.url)
        if self.token is not None and (not isinstance(self.token, str) or not self.token):
            raise invalid_option("asyncapi.token", "a text that is not empty", "…")
