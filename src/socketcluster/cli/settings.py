"""The options of `serve`, which a supervisor passes on to its workers."""

from __future__ import annotations

from dataclasses import dataclass

from socketcluster.engines.base import ListenAddress


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `serve`, and what the supervisor adds for its workers.

    Attributes:
        target: the server as module:attribute; None for the demo.
        broker: the URL of `--broker`; None if the option was not used.
        fd: an inherited listening socket.
        reuse_port: whether other workers listen on the same port.
        supervisor_fd: a socket connected to the supervisor.
        reloading: whether `--reload` started this process; it passes on a Ctrl-C that the process
            has received already.
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
        """Return the address that is printed; `port` is the one in use."""
        return ListenAddress(self.host, self.port, self.uds, self.ssl_certfile).url(port)
