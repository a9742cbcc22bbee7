"""Starting, serving and closing a server: the methods over its lifecycle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self

from socketcluster.engines.base import Engine, ListenAddress
from socketcluster.errors import UsageError
from socketcluster.options import check_async_function, check_coroutine
from socketcluster.server.asgi import ServerApp
from socketcluster.server.console import print_running
from socketcluster.server.endpoint import ServerEndpoint
from socketcluster.server.lifecycle import Background, Lifecycle


class ServingMixin:
    """Starting, serving and closing. Source: AGServer specification."""

    __slots__ = ()

    lifecycle: Lifecycle
    engine: Engine
    endpoint: ServerEndpoint
    asgi: ServerApp

    @property
    def is_ready(self) -> bool:
        """Whether it is started and not closing."""
        return self.lifecycle.is_ready

    @property
    def source_port(self) -> int | None:
        """The port it listens on; None before `listen`, and on a Unix socket."""
        return self.lifecycle.port

    @property
    def host(self) -> str | None:
        """The address it listens on; None before `listen`, and on a Unix socket."""
        return self.lifecycle.host

    @property
    def secure(self) -> bool:
        """Whether it listens with TLS."""
        return self.lifecycle.secure

    def background(self, function: Background) -> Background:
        """Run an async function from the start of the server to its close, as a decorator or not.

        It is started before connections are accepted, so that the listeners it makes before it
        first waits miss nothing. What it raises is logged and emitted as 'error'.

        Raises:
            InvalidArgumentsError: the function is not async or takes arguments.
        """
        check_async_function("A background function", function)
        self.lifecycle.add(function)
        return function

    def spawn(self, coroutine: Awaitable[Any]) -> asyncio.Task[None]:
        """Run a coroutine in a task of its own, for one socket say, until it ends or the server
        closes. What it raises is logged and emitted as 'error', and ends nothing else.

        Raises:
            InvalidArgumentsError: it cannot be awaited, as a function cannot, or was already.
        """
        check_coroutine("spawn", coroutine)
        return self.lifecycle.spawn(coroutine)

    async def listen(
        self,
        port: int = 8000,
        host: str = "127.0.0.1",
        *,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        uds: str | None = None,
        fd: int | None = None,
        reuse_port: bool = False,
    ) -> None:
        """Listen, and return once connections are accepted. Port 0 takes any free one.

        `fd` is a bound socket that the process has inherited. With `reuse_port` several processes
        share the port.

        Cancelling it leaves nothing listening.

        Raises:
            InvalidArgumentsError: the port is no number from 0 to 65535, the host no text, a file
                no path, or a key comes without a certificate.
            OSError: the address cannot be bound or the certificate cannot be read.
            BrokerError: the broker cannot start.
            HTTPServerError: `app` failed in its lifespan's startup.
        """
        address = ListenAddress(host, port, uds, ssl_certfile, ssl_keyfile, fd, reuse_port)
        await self._listen(address)

    async def _listen(self, address: ListenAddress) -> None:
        await self.lifecycle.listen(self.engine, self.endpoint, self.asgi.fallback, address)

    def run(
        self,
        port: int = 8000,
        host: str = "127.0.0.1",
        *,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        uds: str | None = None,
        fd: int | None = None,
        reuse_port: bool = False,
    ) -> None:
        """Be the whole program: listen, print the address, and serve until SIGINT or SIGTERM.

        It makes an event loop, of uvloop where there is one, and returns when the server has
        closed as `close` does. A second signal ends the process at once. The arguments are those
        of `listen`.

        Raises:
            UsageError: an event loop runs already.
            OSError, BrokerError, HTTPServerError: as `listen`.
            SystemExit: Ctrl-C before it listened; the status is 130.
        """
        _refuse_in_a_loop()
        address = ListenAddress(host, port, uds, ssl_certfile, ssl_keyfile, fd, reuse_port)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            try:
                runner.run(self._run(address))
            except KeyboardInterrupt:
                raise SystemExit(130) from None

    async def _run(self, address: ListenAddress) -> None:
        async with self:
            await self._listen(address)
            print_running(address.url(self.lifecycle.port))
            await self.serve_forever()

    async def start(self) -> None:
        """Start the broker, the ticker and the background functions; 'ready' follows.

        `listen` and ASGI servers do this. Raises:
            BrokerError: the broker cannot start.
        """
        await self.lifecycle.start()

    async def serve_forever(self) -> None:
        """Serve until SIGINT or SIGTERM, or until somebody calls `close`, and wait for its end.

        At the first signal the server closes as `close` does; a second one ends the process at
        once. Signals are handled in the main thread only, and not where the program has installed
        a handler of its own; afterwards the former handlers are back. Cancelling it does not close
        the server.

        Raises:
            UsageError: the server was never started; call `listen` first.
        """
        await self.lifecycle.until_closed()

    async def close(self, keep_sockets_open: bool = False) -> None:
        """Stop accepting; finish calls for up to `drain_timeout`; close the sockets with 1001.

        With `keep_sockets_open` it only stops accepting. Background functions, spawned coroutines
        and middleware are cancelled, but not the one that calls it. A handler that calls it before
        it has answered its own call waits for the whole `drain_timeout`. Cancelling it stops the
        draining: call it again to finish.
        """
        await self.lifecycle.close(keep_sockets_open)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:  # There is none for Windows.
        return None
    return uvloop.new_event_loop


def _refuse_in_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError(
        "run() makes an event loop of its own, and one runs already: call "
        "'await server.listen(port)' and 'await server.serve_forever()' in it"
    )
