"""Accepts TLS connections, at the pace of the endpoint: a TLS handshake takes a millisecond.

asyncio's own server reads from every accepted connection at once, so the TLS handshakes of a storm
would all be done in one turn of the loop. Limits of addresses count a connection before its
handshake, too, for the same reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from socketcluster.engines import request_limits
from socketcluster.engines.base import Gate, Seat, UpgradeRefusedError
from socketcluster.engines.pace import Pace

AGAIN_SECONDS = 1.0
"""Time until the next attempt when a connection cannot be accepted, for want of descriptors."""


class SeatedProtocol(Protocol):
    """A protocol that gives the seat of its connection back when the connection is lost."""

    seat: Seat | None


class TlsAcceptor:
    """Accepts one connection in each turn, and begins its handshake once the client has spoken.

    With a `gate`, `protocol` makes a `SeatedProtocol`.
    """

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], Any],
        context: ssl.SSLContext,
        pace: Pace,
        gate: Gate | None = None,
    ) -> None:
        self._listening = listening
        self._protocol = protocol
        self._context = context
        self._pace = pace
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        self._ready: set[socket.socket] = set()
        self._seats: dict[socket.socket, Seat] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._start()

    def _start(self) -> None:
        self._again = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        try:
            connection, address = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            self._loop.remove_reader(self._listening)
            self._again = self._loop.call_later(AGAIN_SECONDS, self._start)
            return
        if not self._take_seat(connection, address):
            connection.close()
            return
        connection.setblocking(False)
        seconds = request_limits.HEAD_SECONDS
        self._silent[connection] = self._loop.call_later(seconds, self._drop, connection)
        self._loop.add_reader(connection, self._readable, connection)

    def _take_seat(self, connection: socket.socket, address: Any) -> bool:
        if self._gate is None:
            return True
        try:
            seat = self._gate.seat_peer(address[0] if isinstance(address, tuple) else None)
        except UpgradeRefusedError:
            return False
        if seat is not None:
            self._seats[connection] = seat
        return True

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
        task = self._loop.create_task(self._shake_hands(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _shake_hands(self, connection: socket.socket) -> None:
        self._ready.discard(connection)
        seat = self._seats.pop(connection, None)

        def protocol() -> Any:
            made = self._protocol()
            if seat is not None:
                made.seat = seat
            return made

        with contextlib.suppress(OSError):  # The client's fault; ssl.SSLError is one.
            try:
                await self._loop.connect_accepted_socket(
                    protocol,
                    connection,
                    ssl=self._context,
                    ssl_handshake_timeout=request_limits.HEAD_SECONDS,
                )
            except BaseException:
                if seat is not None:
                    seat.release()
                raise

    def _drop(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection)
        self._silent.pop(connection).cancel()
        self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        connection.close()
        seat = self._seats.pop(connection, None)
        if seat is not None:
            seat.release()

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
            self._close(self._ready.pop())
        for task in self._tasks:
            task.cancel()
