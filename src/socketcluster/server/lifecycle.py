"""The life of a server: started, listening, draining, closed."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from socketcluster.engines.base import ASGIApp, Endpoint, Engine, ListenAddress, Listener
from socketcluster.errors import UsageError
from socketcluster.events import ReadyEvent
from socketcluster.middleware.line import spared
from socketcluster.runtime.cancelling import cancel
from socketcluster.runtime.isolation import for_each
from socketcluster.server.parts.leaving import give_up
from socketcluster.server.parts.reauthorization import ReauthorizationPace
from socketcluster.server.signals import StopSignals
from socketcluster.sockets.flusher import Flusher

if TYPE_CHECKING:
    from socketcluster.server.server import AGServer
    from socketcluster.server.socket import AGServerSocket

CLOSE_BATCH = 200
"""Sockets that are closed before others get their turn."""

DRAIN_POLL_SECONDS = 0.01

Background = Callable[[], Awaitable[Any]]


class Running:
    """Starts and closes a server, with its listeners and its background functions."""

    __slots__ = (
        "_background",
        "_closed",
        "_closing",
        "_server",
        "_starting",
        "_tasks",
        "listeners",
    )

    def __init__(self, server: AGServer) -> None:
        self._server = server
        self._background: list[Background] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Future[None] | None = None
        self._closed: asyncio.Event | None = None
        self._closing = False
        self.listeners: list[Listener] = []

    def add(self, function: Background) -> None:
        """Run a function from now or the next start on."""
        self._server.loop_binding.check()
        self._background.append(function)
        if self._server.is_ready:
            self.spawn(function())

    def spawn(self, coroutine: Awaitable[Any]) -> asyncio.Task[None]:
        """`AGServer.spawn`."""
        try:
            self._server.loop_binding.check()
        except UsageError:
            if inspect.iscoroutine(coroutine):
                coroutine.close()
            raise
        task = asyncio.ensure_future(self._supervise(coroutine))
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if inspect.iscoroutine(coroutine):
                coroutine.close()  # It may have been cancelled before it began.

        task.add_done_callback(done)
        return task

    async def _supervise(self, coroutine: Awaitable[Any]) -> None:
        try:
            await coroutine
        except Exception as error:
            self._server.report_fault(error)
            # Whoever keeps the error keeps nothing else: a request in its frames is answered now.
            traceback.clear_frames(error.__traceback__)

    async def start(self) -> None:
        """`AGServer.start`."""
        server = self._server
        server.loop_binding.bind()
        if server.is_ready:
            return
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        server = self._server
        try:
            self._closing = False
            server.loop_binding.takes_calls = True
            if self._closed is None or self._closed.is_set():
                self._closed = asyncio.Event()
            # Of an earlier loop nothing may be left.
            server.flusher = Flusher()
            server.reauthorization_pace = ReauthorizationPace()
            server.exchange.fan_out.use(server.flusher)
            server.ticker.start()
            await server.exchange.start()
            for function in self._background:
                self.spawn(function())
            await asyncio.sleep(0)
            server.is_ready = True
            server.emit("ready", ReadyEvent())
        finally:
            self._starting = None

    async def accepting(self) -> bool:
        """Whether connections are accepted; a server that nobody started is started."""
        if not self._closing and not self._server.is_ready:
            await self.start()
        return not self._closing

    async def listen(
        self, engine: Engine, endpoint: Endpoint, app: ASGIApp, address: ListenAddress
    ) -> None:
        """`AGServer.listen`."""
        await self.start()
        self.listeners.append(await engine.listen(endpoint, app, address))

    @property
    def port(self) -> int | None:
        """The port of the last listener; None without one, and on a Unix socket."""
        return self.listeners[-1].port if self.listeners else None

    async def until_closed(self) -> None:
        """`AGServer.serve_forever`."""
        if self._closed is None:
            raise UsageError(
                "serve_forever() serves what listens, and nothing does: call "
                "'await server.listen(port)' first, or server.run(port) for both"
            )
        closing: asyncio.Task[None] | None = None

        def stop() -> None:
            nonlocal closing
            closing = closing or asyncio.ensure_future(self.close(False))

        with StopSignals(stop):
            await self._closed.wait()
        if closing is not None:
            await closing

    async def close(self, keep_sockets_open: bool) -> None:
        """`AGServer.close`."""
        self._server.loop_binding.check()
        caller = asyncio.current_task()
        assert caller is not None
        # A handler, or middleware, may close the server that it works for.
        spared.add(caller)
        try:
            await self._close(keep_sockets_open)
        finally:
            spared.discard(caller)

    async def _close(self, keep_sockets_open: bool) -> None:
        server = self._server
        server.is_ready = False
        self._closing = True
        for_each(self.listeners, lambda listener: listener.stop_accepting(), self._failed)
        if keep_sockets_open:
            return
        try:
            await self._drain()
            await self._end()
        except asyncio.CancelledError:
            raise  # It is called again to finish.
        except Exception:
            self._is_closed()
            raise
        self._is_closed()

    def _is_closed(self) -> None:
        if self._closed is not None:
            self._closed.set()

    async def _end(self) -> None:
        server = self._server
        sockets = [*server.pending_clients.values(), *server.clients.values()]
        for start in range(0, len(sockets), CLOSE_BATCH):
            for_each(sockets[start : start + CLOSE_BATCH], _close, give_up)
            await asyncio.sleep(0)
        listeners, self.listeners = self.listeners, []
        failures: list[Exception] = []
        for close in (*(listener.close for listener in listeners), server.exchange.close):
            try:
                await close()
            except Exception as error:
                failures.append(error)
        server.ticker.stop()
        await self._end_tasks()
        if failures:
            raise failures[0]

    def _failed(self, _: object, error: Exception) -> None:
        self._server.report_fault(error)

    async def _end_tasks(self) -> None:
        server = self._server
        tasks = self._tasks - spared
        for task in tasks:
            if not task.cancelling():
                cancel(task)
        if tasks:
            await asyncio.wait(tasks)
        server.watch.look(server.ticker.now, ())
        server.reporter.flush()
        server.loop_binding.takes_calls = False

    async def _drain(self) -> None:
        server = self._server
        for_each(list(server.clients.values()), lambda socket: socket.close_input(), give_up)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + server.options.milliseconds("drain_timeout") / 1000
        while loop.time() < deadline and any(  # noqa: ASYNC110
            socket.busy for socket in server.clients.values()
        ):
            await asyncio.sleep(DRAIN_POLL_SECONDS)


def _close(socket: AGServerSocket) -> None:
    socket.disconnect(1001, "The server is closing")
