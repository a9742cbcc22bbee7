"""The set-up barrier: holds a new socket's messages back until its listeners are ready for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from socketcluster.errors import SocketClusterError
from socketcluster.sockets.streams import PeerStreams

_GRACE_SECONDS = 0.1
"""How long to wait after a handler has begun to listen: it may listen to several streams."""

_TASK_TURNS = 3
"""Loop turns in which a task that a handler started begins to listen: one to begin, one for a task
that it starts itself, one to spare."""


class TrackingEmitter(Protocol):
    """A socket's or a server's emitter; the barrier waits until its events are handled."""

    def has_listener(self, event: str) -> bool: ...
    def emit_tracked(self, event: str, data: Any, done: Callable[[], None]) -> None: ...


class SetupContext(Protocol):
    """The barrier's view of its server; `handshake_timeout` is in milliseconds."""

    @property
    def handshake_timeout(self) -> float: ...
    def emit_warning(self, warning: BaseException) -> None: ...


class SetupBarrier:
    """Emits the events of a socket's set-up, and waits until every consumer has handled them.

    So the streams that handlers set up miss no message that the client has already sent. A consumer
    has handled an event when it asks for the next one. A consumer that loops over the socket's own
    streams instead delays the socket by at most `handshake_timeout`, and only briefly once it has
    begun to listen to the socket.
    """

    __slots__ = ("_context", "_handshake", "_streams")

    def __init__(self, streams: PeerStreams, context: SetupContext) -> None:
        self._streams = streams
        self._context = context
        self._handshake: asyncio.Future[None] | None = None

    def start(self, server: TrackingEmitter, event: Any) -> None:
        """Emit the server's 'handshake' event, which `handshake_handled` waits for."""
        self._handshake = asyncio.ensure_future(self.emit((server, "handshake", event)))

    @property
    def waits_for_handshake(self) -> bool:
        """Whether the 'handshake' event is still being handled."""
        return self._handshake is not None

    async def handshake_handled(self) -> None:
        """Wait until every consumer has handled the 'handshake' event."""
        if self._handshake is not None:
            await self._handshake
            self._handshake = None

    def cancel(self) -> None:
        """Stop waiting for the 'handshake' event: the socket is closed."""
        if self._handshake is not None:
            self._handshake.cancel()

    async def emit(self, *events: tuple[TrackingEmitter, str, Any]) -> None:
        """Emit (emitter, name, event) triples, and wait until all are handled."""
        for emitter, name, _ in events:
            if emitter.has_listener(name):
                break
        else:
            return
        loop = asyncio.get_running_loop()
        handled: asyncio.Future[bool] = loop.create_future()
        unhandled = len(events)

        def done() -> None:
            nonlocal unhandled
            unhandled -= 1
            if unhandled == 0:
                _resolve(handled, True)

        for emitter, name, event in events:
            emitter.emit_tracked(name, event, done)

        def listened() -> None:
            self._streams.on_use = None
            if not handled.done():
                loop.call_later(_GRACE_SECONDS, _resolve, handled, True)

        self._streams.on_use = listened
        timer = loop.call_later(self._context.handshake_timeout / 1000, _resolve, handled, False)
        try:
            in_time = await handled
        finally:
            timer.cancel()
            self._streams.on_use = None
        if not in_time:
            self._context.emit_warning(_too_busy(events[-1][1]))
        for _ in range(_TASK_TURNS):
            await asyncio.sleep(0)


def _too_busy(event: str) -> SocketClusterError:
    return SocketClusterError(
        f"A listener of '{event}' has been busy with a socket for longer than handshake_timeout, "
        "and what the socket sends could not be held back longer; handle each socket in a task of "
        "its own"
    )


def _resolve(handled: asyncio.Future[bool], in_time: bool) -> None:
    if not handled.done():
        handled.set_result(in_time)
