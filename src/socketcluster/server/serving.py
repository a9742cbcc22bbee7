"""The methods of a server that start, serve and close it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self

from socketcluster.engines.base import Engine, ListenAddress
from socketcluster.errors import UsageError
from socketcluster.options import check_async_function, check_coroutine
from socketcluster.runtime.exit_limit import ExitLimit
from socketcluster.server.asgi import ServerApp
from socketcluster.server.background import BackgroundFunction
from socketcluster.server.console import print_running
from socketcluster.server.endpoint import ServerEndpoint
from socketcluster.server.lifecycle import Lifecycle


class ServingMixin:
    """Starting, serving and closing a server. Source: AGServer specification."""

    __slots__ = ()

    lifecycle: Lifecycle
    engine: Engine
    endpoint: ServerEndpoint
    asgi: ServerApp

    @property
    def is_ready(self) -> bool:
        """Whether the server is started and not closing."""
        return self.lifecycle.is_ready

    @property
    def source_port(self) -> int | None:
        """The port that the server listens on; None before `listen`, and on a Unix socket."""
        return self.lifecycle.listening.port

    @property
    def host(self) -> str | None:
        """The address that the server listens on; None before `listen`, and on a Unix socket."""
        return self.lifecycle.listening.host

    @property
    def secure(self) -> bool:
        """Whether the server listens with TLS."""
        return self.lifecycle.listening.secure

    def background(self, function: BackgroundFunction) -> BackgroundFunction:
        """Run an async function from the server's start to its close; also a decorator.

        The function starts before connections are accepted, so that listeners made before its
        first await miss nothing. Its error is logged and emitted as 'error'.

        Raises:
            InvalidArgumentsError: the function is not async or takes arguments.
        """
        check_async_function("A background function", function)
        self.lifecycle.add_background(function)
        return function

    def spawn(self, coroutine: Awaitable[Any]) -> asyncio.Task[None]:
        """Run a coroutine in its own task, for example for one socket.

        The server's close cancels it. Its error is logged and emitted as 'error', and ends nothing
        else.

        Raises:
            InvalidArgumentsError: the argument cannot be awaited, or was awaited already.
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

        `fd` is the descriptor of a bound socket that the process has inherited. With `reuse_port`
        several processes share the port. Cancelling leaves nothing listening.

        Raises:
            InvalidArgumentsError: the port is not a number from 0 to 65535, the host is not a
                text, a file is not a path, or a key has no certificate.
            OSError: the address cannot be bound or the certificate cannot be read.
            BrokerError: the broker cannot start.
            HTTPServerError: the lifespan startup of `app` failed.
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
        """Run as the whole program: listen, print the address, serve until SIGINT or SIGTERM.

        This makes an event loop, with uvloop if it is installed, and returns when the server has
        closed as `close` does. A second signal ends the process at once, and so does whatever
        still runs 10 s after the close; the log names it, and the status is 1. The arguments are
        those of `listen`.

        Raises:
            UsageError: an event loop is already running.
            OSError, BrokerError, HTTPServerError: as `listen`.
            SystemExit: Ctrl-C before the server listened; the status is 130.
        """
        _check_no_running_loop()
        address = ListenAddress(host, port, uds, ssl_certfile, ssl_keyfile, fd, reuse_port)
        limit = self.lifecycle.exit_limit = ExitLimit()
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                limit.loop = runner.get_loop()
                with limit.after():
                    runner.run(self._run(address))
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        finally:
            self.lifecycle.exit_limit = None
            limit.cancel()

    async def _run(self, address: ListenAddress) -> None:
        async with self:
            await self._listen(address)
            print_running(address.url(self.lifecycle.listening.port))
            await self.serve_forever()

    async def start(self) -> None:
        """Start the broker, the ticker and the background functions, and emit 'ready'.

        `listen` and ASGI servers call this.

        Raises:
            BrokerError: the broker cannot start.
        """
        await self.lifecycle.start()

    async def serve_forever(self) -> None:
        """Serve until SIGINT, SIGTERM or a call to `close`, and wait until the server has closed.

        The first signal closes the server as `close` does; a second one ends the process at once.
        Signals are handled in the main thread only, and only where the program has not installed
        its own handler; afterwards the former handlers are restored. Cancelling does not close the
        server.

        Raises:
            UsageError: the server was never started; call `listen` first.
        """
        await self.lifecycle.serve_until_closed()

    async def close(self, keep_sockets_open: bool = False) -> None:
        """Stop accepting, answer the calls under way, close the sockets, and free everything.

        `/health/ready` says 503 at once, and the server accepts connections for `drain_delay` more.
        Then it closes idle sockets, 500 a second or within `drain_spread`, and busy ones as soon as
        their calls are answered; those left after `drain_timeout` at once. The close code is the
        option `drain_code`. All ends within `drain_timeout` and 5 s after it stopped accepting:
        tasks that hang are named in the log, and left alone.

        With `keep_sockets_open` the server only stops accepting, at once. Background functions,
        spawned coroutines and middleware are cancelled, except the caller. A handler that calls
        `close` before it has answered its own call waits for the whole `drain_timeout`.
        Cancelling stops the draining: call `close` again to finish.
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
    except ImportError:  # There is no uvloop for Windows.
        return None
    return uvloop.new_event_loop


def _check_no_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError(
        "run() makes an event loop of its own, and one runs already: call "
        "'await server.listen(port)' and 'await server.serve_forever()' in it"
    )
