"""The link between the supervisor and a worker: lines of JSON over a socket pair.

The worker sends `{"type": "ready", "stop_seconds": 15}` once it accepts connections, then
`{"type": "beat"}` at regular times from its event loop. It answers a question with
`{"type": "answer", "id": 1, "data": …}`, or with `"error": "text"` in place of the data. The
supervisor sends `{"type": "stop_accepting"}`, `{"type": "drain", "peers": true}` and
`{"type": "ask", "id": 1, "name": "metrics"}`. When the link ends, the worker
knows that the supervisor has ended.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import socket
from collections.abc import Callable
from typing import Any, Protocol, cast

import msgspec

MAX_LINE_BYTES = 64 * 1024 * 1024
"""How long a message may be; an answer with the metrics of many handlers has some 100 KB."""

MAX_WAITING_BYTES = 64 * 1024
"""How much may wait for a worker that does not read, before the supervisor asks no more of it."""

_PING = "ping"
"""A question whose answer says that all messages before it are carried out."""

logger: logging.Logger = logging.getLogger("socketcluster.workers")


class WorkerLinkError(Exception):
    """A worker does not answer: it has ended, hangs, or its function failed."""


class Lines(asyncio.Protocol):
    """Messages in both directions over one socket.

    Args:
        received: is called with each message.
        lost: is called once, when the other end is closed or has sent nonsense; not after `close`.
    """

    def __init__(
        self, received: Callable[[dict[str, Any]], None], lost: Callable[[], None]
    ) -> None:
        self._received = received
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._buffer += data
        if b"\n" in data:
            *lines, rest = self._buffer.split(b"\n")
            self._buffer = rest
            for line in lines:
                self._received(msgspec.json.decode(line))
        if len(self._buffer) > MAX_LINE_BYTES:
            raise ValueError(f"A message of more than {MAX_LINE_BYTES} bytes")  # Ends the link.

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if not self._closed:
            self._lost()

    @property
    def waiting(self) -> int:
        """How many bytes the other end has not taken, besides those that the system keeps."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, **message: Any) -> None:
        """Send a message; nothing happens if the link is closed."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(msgspec.json.encode(message) + b"\n")

    def close(self) -> None:
        """Close the link once everything is sent."""
        self._closed = True
        if self._transport is not None:
            self._transport.close()


class LinkOwner(Protocol):
    """The receiver of a worker's messages."""

    def worker_ready(self, stop_seconds: float) -> None:
        """The worker accepts connections, and stops within that many seconds once asked to."""

    def worker_beat(self) -> None:
        """The worker's event loop has turned."""


class WorkerLink:
    """The supervisor's end."""

    def __init__(self, owner: LinkOwner) -> None:
        self._owner = owner
        self._lines = Lines(self._receive, self._lose)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self._lost = False

    async def open(self, ours: socket.socket) -> None:
        """Use this end of a socket pair."""
        await asyncio.get_running_loop().create_connection(lambda: self._lines, sock=ours)

    async def stop_accepting(self, timeout: float) -> None:
        """Let the worker close its listening sockets, and return when it has. Its clients stay.

        Raises:
            WorkerLinkError: the worker does not confirm it in time.
        """
        self._lines.send(type="stop_accepting")
        await self.ask(_PING, timeout)

    def drain(self, *, peers: bool) -> None:
        """Let the worker drain and end; `peers`: whether clients find another worker at once."""
        self._lines.send(type="drain", peers=peers)

    async def ask(self, name: str, timeout: float) -> Any:
        """Return what the worker's function of this name returns.

        Raises:
            WorkerLinkError: the worker does not answer in time, or cannot.
        """
        if self._lost or self._lines.waiting > MAX_WAITING_BYTES:
            raise WorkerLinkError("The worker has ended" if self._lost else "The worker hangs")
        number = next(self._ids)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._lines.send(type="ask", id=number, name=name)
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise WorkerLinkError(f"The worker did not answer within {timeout:g} s") from None
        finally:
            del self._asked[number]

    def _receive(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ready":
                self._owner.worker_ready(message["stop_seconds"])
            case "beat":
                self._owner.worker_beat()
            case _:
                self._answered(message)

    def _answered(self, message: dict[str, Any]) -> None:
        answer = self._asked.get(message["id"])
        if answer is None or answer.done():
            return  # It came too late.
        if "error" in message:
            answer.set_exception(WorkerLinkError(message["error"]))
        else:
            answer.set_result(message["data"])

    def _lose(self) -> None:
        self._lost = True
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(WorkerLinkError("The worker has ended"))

    def close(self) -> None:
        """Close this end."""
        self._lines.close()
        self._lose()


class SupervisorLink:
    """The worker's end.

    Args:
        stop_accepting: is called when the worker is to close its listening sockets.
        drain: is called when it is to drain and end, with whether clients find another worker.
        lost: is called when the supervisor has ended.
    """

    def __init__(
        self,
        stop_accepting: Callable[[], None],
        drain: Callable[[bool], None],
        lost: Callable[[], None],
    ) -> None:
        self._stop_accepting = stop_accepting
        self._drain = drain
        self._lines = Lines(self._receive, lost)
        self._answers: dict[str, Callable[[], Any]] = {_PING: lambda: None}
        self._tasks: set[asyncio.Task[None]] = set()
        self._beats: asyncio.TimerHandle | None = None

    async def open(self, fd: int) -> None:
        """Use the inherited end of a socket pair."""
        ours = socket.socket(fileno=fd)
        ours.set_inheritable(False)
        ours.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self._lines, sock=ours)

    def answer(self, name: str, function: Callable[[], Any]) -> None:
        """Answer what the supervisor asks by a name with what a function returns.

        The function may be async. It returns what msgspec can encode as JSON.
        """
        self._answers[name] = function

    def ready(self, stop_seconds: float, beat_seconds: float) -> None:
        """Tell the supervisor that this worker accepts connections, and begin with the beats."""
        self._lines.send(type="ready", stop_seconds=stop_seconds)
        if beat_seconds:
            self._beat(beat_seconds)

    def _beat(self, seconds: float) -> None:
        if not self._lines.waiting:  # A supervisor that stands still makes no heap of beats.
            self._lines.send(type="beat")
        self._beats = asyncio.get_running_loop().call_later(seconds, self._beat, seconds)

    def _receive(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "stop_accepting":
                self._stop_accepting()
            case "drain":
                self._drain(message["peers"])
            case _:
                task = asyncio.ensure_future(self._answer(message["id"], message["name"]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, name: str) -> None:
        try:
            function = self._answers.get(name)
            if function is None:
                raise WorkerLinkError(f"The worker has no answer to {name!r}")
            data = function()
            if inspect.isawaitable(data):
                data = await data
            self._lines.send(type="answer", id=number, data=data)
        except Exception as error:
            if not isinstance(error, WorkerLinkError):
                logger.exception("The worker cannot answer its supervisor's %r", name)
            self._lines.send(type="answer", id=number, error=f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """End the beats and the link."""
        if self._beats is not None:
            self._beats.cancel()
        for task in self._tasks:
            task.cancel()
        self._lines.close()
