"""The options of `serve`, as it and its workers know them."""

from __future__ import annotations

from dataclasses import dataclass

from socketcluster.engines.base import ListenAddress


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `serve`, and what a supervisor adds for its workers.

    Attributes:
        broker: the URL of `--broker`, to tell whether the target would ignore it.
        fd: an inherited listening socket.
        reuse_port: whether other workers listen on the port too.
        supervisor_fd: the socket to the supervisor.
        reloading: it is run by `--reload`, which passes on a Ctrl-C that it got already.
    """

    target: str | None
    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    log_level: str = "info"
    broker: str | None = None
    fd: int | None = None
    reuse_port: bool = False
    supervisor_fd: int | None = None
    reloading: bool = False

    def address(self, port: int | None) -> str:
        """Where it listens, for people."""
        return ListenAddress(self.host, self.port, self.uds, self.ssl_certfile).url(port)


def said(error: BaseException) -> str:
    """What a fault says, in one line, without its number."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())
