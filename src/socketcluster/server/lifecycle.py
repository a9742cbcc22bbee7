"""The lifecycle of a server: start, listen, drain and close, and its background tasks."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from socketcluster.engines.base import ASGIApp, Endpoint, Engine, ListenAddress, Listener
from socketcluster.errors import UsageError
from socketcluster.events import ReadyEvent
from socketcluster.middleware.line import spared
from socketcluster.protocol.state import CLOSED
from socketcluster.runtime.cancelling import cancel
from socketcluster.runtime.isolation import for_each
from socketcluster.server.context import SocketContext
from socketcluster.server.hub import Hub, drop_failed
from socketcluster.server.parts.reauthorization import ReauthorizationPace
from socketcluster.server.signals import StopSignals
from socketcluster.server.socket import AGServerSocket
from socketcluster.server.watchdog import Watchdog
from socketcluster.sockets.flusher import Flusher

CLOSE_BATCH = 200
"""How many sockets to close before the event loop turns."""

DRAIN_POLL_SECONDS = 0.01
"""How often a closing server checks whether calls are still under way."""

Background = Callable[[], Awaitable[Any]]


class Lifecycle:
    """Starts and closes a server, with its listeners and its background functions.

    Attributes:
        is_ready: whether the server is started and not closing.
        listeners: the engine's listeners that are open.
        host: the address of the last `listen`; None before it, and for a Unix socket.
        secure: whether the last `listen` was with TLS.
    """

    __slots__ = (
        "_background",
        "_closed",
        "_closing",
        "_context",
        "_hub",
        "_peers",
        "_starting",
        "_tasks",
        "_watchdog",
        "host",
        "is_ready",
        "listeners",
        "secure",
    )

    def __init__(self, context: SocketContext, hub: Hub, watchdog: Watchdog) -> None:
        self._context = context
        self._hub = hub
        self._watchdog = watchdog
        self._background: list[Background] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Future[None] | None = None
        self._closed: asyncio.Event | None = None
        self._closing = False
        self._peers: list[Callable[[], bool]] = []
        self.is_ready: bool = False
        self.listeners: list[Listener] = []
        self.host: str | None = None
        self.secure: bool = False

    def add_background(self, function: Background) -> None:
        """Run a background function now, if the server is ready, and at every start."""
        self._context.loop_binding.check()
        self._background.append(function)
        if self.is_ready:
            self.spawn(function())

    def spawn(self, coroutine: Awaitable[Any]) -> asyncio.Task[None]:
        """See `AGServer.spawn`."""
        try:
            self._context.loop_binding.check()
        except UsageError:
            if inspect.iscoroutine(coroutine):
                coroutine.close()
            raise
        task = asyncio.ensure_future(self._supervise(coroutine))
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if inspect.iscoroutine(coroutine):
                coroutine.close()  # A task cancelled before it began leaves it open.

        task.add_done_callback(done)
        return task

    async def _supervise(self, coroutine: Awaitable[Any]) -> None:
        try:
            await coroutine
        except Exception as error:
            self._context.report_fault(error)
            # A listener may keep the error: its frames must not keep an unanswered request alive.
            traceback.clear_frames(error.__traceback__)

    async def start(self) -> None:
        """See `AGServer.start`."""
        context = self._context
        context.loop_binding.bind()
        if self.is_ready:
            return
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        context = self._context
        try:
            self._closing = False
            context.handling.open()
            context.loop_binding.takes_calls = True
            if self._closed is None or self._closed.is_set():
                self._closed = asyncio.Event()
            # An earlier event loop may have left these unfinished.
            context.flusher = Flusher()
            context.reauthorization_pace = ReauthorizationPace()
            context.exchange.fan_out.use(context.flusher)
            context.upgrade_pace.restart()
            context.handshake_pace.restart()
            context.ticker.start()
            await context.exchange.start()
            for function in self._background:
                self.spawn(function())
            await asyncio.sleep(0)
            self.is_ready = True
            context.emitter.emit("ready", ReadyEvent())
        finally:
            self._starting = None

    async def start_accepting(self) -> bool:
        """Start a server that is not started; return whether it accepts connections."""
        if not self._closing and not self.is_ready:
            await self.start()
        return not self._closing

    async def listen(
        self, engine: Engine, endpoint: Endpoint, app: ASGIApp, address: ListenAddress
    ) -> None:
        """See `AGServer.listen`."""
        await self.start()
        self.listeners.append(await engine.listen(endpoint, app, address))
        self.host = None if address.uds else address.host
        self.secure = address.ssl_certfile is not None

    @property
    def port(self) -> int | None:
        """The port of the last listener; None without one, and on a Unix socket."""
        return self.listeners[-1].port if self.listeners else None

    async def serve_until_closed(self) -> None:
        """See `AGServer.serve_forever`."""
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
        """See `AGServer.close`."""
        self._context.loop_binding.check()
        caller = asyncio.current_task()
        assert caller is not None
        # A handler or a middleware function may close its own server.
        spared.add(caller)
        try:
            await self._close(keep_sockets_open)
        finally:
            spared.discard(caller)

    def add_peers(self, known: Callable[[], bool]) -> None:
        """Add a source of peers: nodes and workers that clients of this process can go to.

        `known()` returns whether the source knows one now. The drain asks it, in the loop.
        """
        self._peers.append(known)

    @property
    def knows_peers(self) -> bool:
        """Whether clients that leave this process find another node or worker."""
        return any(known() for known in self._peers)

    def stop_accepting(self) -> None:
        """Report that the server is not ready, and close the listening sockets.

        The connections live on; `close` drains them.
        """
        self._context.loop_binding.check()
        self.is_ready = False
        self._closing = True
        for_each(self.listeners, lambda listener: listener.stop_accepting(), self._report_failure)

    async def _close(self, keep_sockets_open: bool) -> None:
        self.stop_accepting()
        if keep_sockets_open:
            return
        try:
            await self._drain()
            await self._close_all()
        except asyncio.CancelledError:
            raise  # Another call finishes the closing.
        except Exception:
            self._set_closed()
            raise
        self._set_closed()

    def _set_closed(self) -> None:
        if self._closed is not None:
            self._closed.set()

    async def _close_all(self) -> None:
        context = self._context
        context.handling.tasks.begin_closing()
        sockets = [*self._hub.pending.values(), *self._hub.clients.values()]
        for start in range(0, len(sockets), CLOSE_BATCH):
            for_each(sockets[start : start + CLOSE_BATCH], _close, drop_failed)
            await asyncio.sleep(0)
        listeners, self.listeners = self.listeners, []
        failures: list[Exception] = []
        for close in (*(listener.close for listener in listeners), context.exchange.close):
            try:
                await close()
            except Exception as error:
                failures.append(error)
        context.ticker.stop()
        await self._cancel_tasks()
        if failures:
            raise failures[0]

    def _report_failure(self, _: object, error: Exception) -> None:
        self._context.report_fault(error)

    async def _cancel_tasks(self) -> None:
        context = self._context
        tasks = self._tasks - spared
        for task in tasks:
            if not task.cancelling():
                cancel(task)
        if tasks:
            await asyncio.wait(tasks)
        await context.handling.close(spared, self._drain_seconds)
        self._watchdog.look(context.ticker.now, ())
        context.reporter.flush()
        context.loop_binding.takes_calls = False

    @property
    def _drain_seconds(self) -> float:
        return self._context.options.milliseconds("drain_timeout") / 1000

    async def _drain(self) -> None:
        context = self._context
        for_each(list(self._hub.clients.values()), lambda socket: socket.close_input(), drop_failed)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_seconds
        while loop.time() < deadline and (  # noqa: ASYNC110
            context.handling.busy(spared)
            or any(_is_busy(socket) for socket in self._hub.clients.values())
        ):
            await asyncio.sleep(DRAIN_POLL_SECONDS)


def _close(socket: AGServerSocket) -> None:
    socket.disconnect(1001, "The server is closing")


def _is_busy(socket: AGServerSocket) -> bool:
    """Whether a message is not yet carried out, or a call awaits its answer."""
    return socket.inbound.busy or (socket.state != CLOSED and socket.messaging.busy)
