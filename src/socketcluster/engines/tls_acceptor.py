"""Accepts TLS connections, at the pace of the endpoint: a TLS handshake takes a millisecond.

asyncio's own server reads from every accepted connection at once, so the TLS handshakes of a storm
would all be done in one turn of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from socketcluster.engines import request_limits
from socketcluster.engines.pace import Pace

AGAIN_SECONDS = 1.0
"""Time until the next attempt when a connection cannot be accepted, for want of descriptors."""


class TlsAcceptor:
    """Accepts one connection in each turn, and begins its handshake once the client has spoken."""

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        pace: Pace,
    ) -> None:
        self._listening = listening
        self._protocol = protocol
        self._context = context
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        self._ready: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._start()

    def _start(self) -> None:
        self._again = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            self._loop.remove_reader(self._listening)
            self._again = self._loop.call_later(AGAIN_SECONDS, self._start)
            return
        connection.setblocking(False)
        seconds = request_limits.HEAD_SECONDS
        self._silent[connection] = self._loop.call_later(seconds, self._drop, connection)
        self._loop.add_reader(connection, self._readable, connection)

    def _readable(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection)
        self._silent.pop(connection).cancel()
        self._ready.add(connection)
        if self._pace.take():
            self._begin(connection)
        else:
            self._pace.wait(lambda: self._begin(connection))

    def _begin(self, connection: socket.socket) -> bool:
        if connection not in self._ready:
            return False
        self._ready.discard(connection)
        task = self._loop.create_task(self._shake_hands(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _shake_hands(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # The client's fault; ssl.SSLError is one.
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=request_limits.HEAD_SECONDS,
            )

    def _drop(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection)
        self._silent.pop(connection).cancel()
        connection.close()

    def close(self) -> None:
        """Stop accepting. Connections that are accepted go on."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._listening)

    def abort(self) -> None:
        """Drop the connections that are not encrypted yet."""
        for connection in list(self._silent):
            self._drop(connection)
        while self._ready:
            self._ready.pop().close()
        for task in self._tasks:
            task.cancel()
