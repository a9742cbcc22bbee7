"""The listeners of a server, which accept its connections."""

from __future__ import annotations

from collections.abc import Callable

from socketcluster.engines.base import ASGIApp, Endpoint, Engine, ListenAddress, Listener
from socketcluster.runtime.ending import Ending
from socketcluster.runtime.isolation import for_each


class Listening:
    """The listeners of a server that are open.

    Attributes:
        listeners: the engine's listeners, in the order in which they were opened.
        host: the address of the last one; None before it, and for a Unix socket.
        secure: whether the last one is with TLS.
    """

    __slots__ = ("_report_fault", "host", "listeners", "secure")

    def __init__(self, report_fault: Callable[[BaseException], None]) -> None:
        self._report_fault = report_fault
        self.listeners: list[Listener] = []
        self.host: str | None = None
        self.secure: bool = False

    async def listen(
        self, engine: Engine, endpoint: Endpoint, app: ASGIApp, address: ListenAddress
    ) -> None:
        """See `AGServer.listen`."""
        self.listeners.append(await engine.listen(endpoint, app, address))
        self.host = None if address.uds else address.host
        self.secure = address.ssl_certfile is not None

    @property
    def port(self) -> int | None:
        """The port of the last listener; None without one, and on a Unix socket."""
        return self.listeners[-1].port if self.listeners else None

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections that are accepted live on."""
        for_each(
            self.listeners,
            lambda listener: listener.stop_accepting(),
            lambda _, error: self._report_fault(error),
        )

    async def close(self, ending: Ending) -> list[Exception]:
        """Close all listeners; return their errors."""
        listeners, self.listeners = self.listeners, []
        failures: list[Exception] = []
        for listener in listeners:
            try:
                # In the caller's task, because an HTTP request may close its own server.
                async with ending.limit(f"the listener on port {listener.port}"):
                    await listener.close()
            except Exception as error:
                failures.append(error)
        return failures
