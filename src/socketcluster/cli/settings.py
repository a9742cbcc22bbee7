"""The options of `serve`, which a supervisor passes on to its workers."""

from __future__ import annotations

import socket
from dataclasses import dataclass, fields
from typing import Any

from socketcluster.cli.serve_options import ServeOptions
from socketcluster.engines.base import ListenAddress


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `serve`, and what the supervisor adds for its workers.

    Attributes:
        target: the server as module:attribute; None for the demo.
        broker: the URL of `--broker`; None if the option was not used.
        config: the path of the configuration file.
        metrics_port: the address of the metrics, "[HOST:]PORT"; None without one.
        fds: inherited listening sockets, in place of an address.
        reuse_port: whether other processes may listen on the same port.
        supervisor_fd: a socket connected to the supervisor.
        worker: the number of the worker.
        beat_seconds: the time between two beats that a worker sends; 0 for none.
        temporary_folder: a folder that a worker removes if its supervisor is killed.
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
    log_format: str = "text"
    log_config: str | None = None
    broker: str | None = None
    config: str | None = None
    metrics_port: str | None = None
    fds: tuple[int, ...] = ()
    reuse_port: bool = False
    supervisor_fd: int | None = None
    worker: int | None = None
    beat_seconds: float = 0.0
    temporary_folder: str | None = None
    reloading: bool = False

    @classmethod
    def of(
        cls,
        options: ServeOptions,
        *,
        broker: str | None,
        config: str | None,
        fds: tuple[int, ...],
    ) -> Settings:
        """Take the options of `serve` over."""
        names = {field.name for field in fields(cls)} & {field.name for field in fields(options)}
        values: dict[str, Any] = {name: getattr(options, name) for name in names}
        values.update(broker=broker, config=config, fds=fds)
        return cls(**values)

    def address(self, port: int | None) -> str:
        """Return the address that is printed; `port` is the one in use."""
        if self.fds:
            return ", ".join(self._passed_address(fd) for fd in self.fds)
        return ListenAddress(self.host, self.port, self.uds, self.ssl_certfile).url(port)

    def _passed_address(self, fd: int) -> str:
        passed = socket.socket(fileno=fd)
        try:
            name = passed.getsockname()
        finally:
            passed.detach()
        if passed.family == socket.AF_UNIX:
            path = f"@{name[1:].decode()}" if isinstance(name, bytes) else name
            return ListenAddress(uds=path).url(None)
        return ListenAddress(name[0], name[1], None, self.ssl_certfile).url(name[1])
