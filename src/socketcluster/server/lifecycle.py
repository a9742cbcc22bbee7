"""The lifecycle of a server: start, listen, drain and close, and its background tasks."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from socketcluster.engines.base import ASGIApp, Endpoint, Engine, ListenAddress
from socketcluster.errors import UsageError
from socketcluster.events import ReadyEvent
from socketcluster.middleware.line import spared
from socketcluster.runtime.ending import Ending
from socketcluster.runtime.exit_limit import GRACE_SECONDS, ExitLimit
from socketcluster.runtime.isolation import for_each
from socketcluster.server.background import Background, BackgroundFunction
from socketcluster.server.context import SocketContext
from socketcluster.server.drain import Drain, drain_code
from socketcluster.server.hub import Hub
from socketcluster.server.listening import Listening
from socketcluster.server.options import ServerOptions
from socketcluster.server.signals import StopSignals
from socketcluster.server.watchdog import Watchdog

END_SECONDS = 4.0
"""How long after `drain_timeout` a close may take, apart from the least time of each step. Tasks
that run longer are named in the log, and left alone."""


class Lifecycle:
    """Starts and closes a server, with its listeners and its background functions.

    Attributes:
        is_ready: whether the server is started and not closing.
        is_accepting: whether it accepts connections; while `drain_delay` lasts it does so, too.
        is_closing: whether it has begun to close, until it starts again.
        listening: the listeners that are open.
        on_closing: functions to call when the closing begins, maybe more than once.
        on_drained: functions to await once all sockets are closed, before the broker is.
        exit_limit: ends the process if it does not end after a signal; None if nothing does.
    """

    __slots__ = (
        "_background",
        "_closed",
        "_context",
        "_drain",
        "_hub",
        "_peers",
        "_starting",
        "_stop_at",
        "_stopped",
        "_watchdog",
        "exit_limit",
        "is_accepting",
        "is_closing",
        "is_ready",
        "listening",
        "on_closing",
        "on_drained",
    )

    def __init__(self, context: SocketContext, hub: Hub, watchdog: Watchdog) -> None:
        self._context = context
        self._hub = hub
        self._watchdog = watchdog
        self._background = Background(context.report_fault)
        self._starting: asyncio.Future[None] | None = None
        self._closed: asyncio.Event | None = None
        self._drain: Drain | None = None
        self._stop_at: float | None = None
        self._stopped: asyncio.Event | None = None
        self.on_closing: list[Callable[[], None]] = []
        self.on_drained: list[Callable[[], Awaitable[None]]] = []
        self._peers: list[Callable[[], bool]] = []
        self.is_ready: bool = False
        self.is_accepting: bool = False
        self.is_closing: bool = False
        self.listening: Listening = Listening(context.report_fault)
        self.exit_limit: ExitLimit | None = None

    def add_background(self, function: BackgroundFunction) -> None:
        """Run a background function now, if the server has started, and at every start."""
        self._context.loop_binding.check()
        self._background.add(function)
        if self.is_accepting:
            self._background.start()

    def spawn(self, coroutine: Awaitable[Any]) -> asyncio.Task[None]:
        """See `AGServer.spawn`."""
        try:
            self._context.loop_binding.check()
        except UsageError:
            if inspect.iscoroutine(coroutine):
                coroutine.close()
            raise
        return self._background.spawn(coroutine)

    async def start(self) -> None:
        """See `AGServer.start`."""
        context = self._context
        context.loop_binding.bind()
        if self.is_accepting:
            return
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        context = self._context
        try:
            self.is_closing = False
            self._drain = self._stop_at = None
            self._stopped = asyncio.Event()
            context.handling.open()
            context.loop_binding.takes_calls = True
            if self._closed is None or self._closed.is_set():
                self._closed = asyncio.Event()
            context.restart()
            context.ticker.start()
            await context.exchange.start()
            self._background.start()
            await asyncio.sleep(0)
            self.is_ready = self.is_accepting = True
            context.emitter.emit("ready", ReadyEvent())
        finally:
            self._starting = None

    async def start_accepting(self) -> bool:
        """Start a server that is not started; return whether it accepts connections."""
        if not self.is_closing and not self.is_accepting:
            await self.start()
        return self.is_accepting

    async def listen(
        self, engine: Engine, endpoint: Endpoint, app: ASGIApp, address: ListenAddress
    ) -> None:
        """See `AGServer.listen`."""
        await self.start()
        await self.listening.listen(engine, endpoint, app, address)

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

        with StopSignals(stop, received=self.limit_exit):
            await self._closed.wait()
        if closing is not None:
            await closing

    def limit_exit(self) -> None:
        """Let the process end in bounded time, because a signal was received."""
        if self.exit_limit is not None:
            options = self._context.options
            longest = _seconds(options, "drain_delay") + _seconds(options, "drain_timeout")
            self.exit_limit.begin(longest + END_SECONDS + GRACE_SECONDS)

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
        self.is_ready = self.is_accepting = False
        self.is_closing = True
        for_each(self.on_closing, lambda call: call(), self._report_failure)
        if self._stopped is not None:
            self._stopped.set()
        self.listening.stop_accepting()

    async def _close(self, keep_sockets_open: bool) -> None:
        if keep_sockets_open:
            self.stop_accepting()
            return
        self.is_ready = False
        self.is_closing = True
        for_each(self.on_closing, lambda call: call(), self._report_failure)
        try:
            await self._wait_drain_delay()
            self.stop_accepting()
            await self._drain_and_end()
        except asyncio.CancelledError:
            raise  # Another call finishes the closing.
        except Exception:
            self._set_closed()
            raise
        self._set_closed()

    async def _wait_drain_delay(self) -> None:
        """Go on accepting, so that a load balancer sees that the server is not ready any more."""
        seconds = _seconds(self._context.options, "drain_delay")
        if not (self.is_accepting and self._stopped and seconds):
            return
        now = asyncio.get_running_loop().time()
        if self._stop_at is None:
            self._stop_at = now + seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._stop_at):
                await self._stopped.wait()

    def _set_closed(self) -> None:
        self._drain = None
        if self._closed is not None:
            self._closed.set()

    async def _drain_and_end(self) -> None:
        context = self._context
        if self._drain is None:
            context.handling.tasks.begin_closing()
            self._drain = Drain(self._hub, context.handling, context.options, self._drain_code)
        drain = self._drain
        await drain.run(spared)
        await drain.close_rest()
        for hand_on in self.on_drained:
            await hand_on()
        ending = Ending(drain.deadline + END_SECONDS, context.reporter)
        failures = await self.listening.close(ending)
        try:
            await ending.run(context.exchange.close, "the close of the broker")
        except Exception as error:
            failures.append(error)
        context.ticker.stop()
        await self._background.close(spared, ending)
        await context.handling.close(spared, _seconds(context.options, "drain_timeout"), ending)
        self._watchdog.begin()
        context.reporter.flush()
        context.loop_binding.takes_calls = False
        if failures:
            raise failures[0]

    def _drain_code(self) -> int:
        return drain_code(self._context.options, self.knows_peers)

    def _report_failure(self, _: object, error: Exception) -> None:
        self._context.report_fault(error)


def _seconds(options: ServerOptions, name: str) -> float:
    return options.milliseconds(name) / 1000
