"""Publishers, for processes that run no server: a web view, a job, a script."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import TimeoutError as WaitTimeoutError
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

from socketcluster.brokers.adapter import BrokerOptions
from socketcluster.brokers.address import url_error
from socketcluster.brokers.base import Broker
from socketcluster.brokers.registry import BROKER_VARIABLE, create_broker
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.codecs.base import CodecEngine
from socketcluster.codecs.json import JSONCodec
from socketcluster.errors import BrokerError, UsageError
from socketcluster.protocol.payloads import Payloads
from socketcluster.pubsub.channel import channel_name

EXIT_SECONDS = 1.0
"""How long the interpreter waits at its exit for a `Publisher` that was not closed."""

Finalizer: TypeAlias = "weakref.finalize[..., Any]"


class AsyncPublisher:
    """Publishes to the clients of all servers that use the same broker; for asyncio.

    It connects at the first publish, and again after a lost connection. One event loop uses it
    until it is closed; for several threads there is `Publisher`. One that is dropped without
    `close` disconnects all the same, with a ResourceWarning.

    Args:
        url: the servers' `broker_engine`; SOCKETCLUSTER_BROKER of the environment if None.
        codec_engine: the servers' codec.

    Raises:
        InvalidOptionsError: the URL is missing or wrong, or its broker reaches no other process.
    """

    def __init__(self, url: str | None = None, *, codec_engine: CodecEngine | None = None) -> None:
        self._payloads = Payloads(codec_engine or JSONCodec(), lambda channel: False)
        self._broker = _create_broker(url)
        self._starting: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finalizer: Finalizer | None = None

    async def publish(self, channel: str, data: Any) -> None:
        """Publish, and return when the backend accepted it. Cancelling only stops the wait.

        Raises:
            BrokerError: the backend refused the publish, or did not confirm it.
            InvalidArgumentsError: the codec cannot encode `data`, or the channel has no name.
            UsageError: another event loop uses this publisher.
        """
        channel = channel_name(channel)
        payload = self._payloads.encode(data)
        await self.start()
        accepted = self._broker.publish(channel, payload)
        if accepted is not None:
            await accepted

    async def start(self) -> None:
        """Connect now rather than at the first publish.

        Raises:
            BrokerError: the backend is unreachable.
            UsageError: another event loop uses this publisher.
        """
        self._check_loop()
        if self._starting is None:
            self._loop = asyncio.get_running_loop()
            self._starting = asyncio.ensure_future(self._broker.start())
            abandon = partial(_abandon, self._broker, self._loop, os.getpid())
            self._finalizer = _finalize(self, abandon)
        starting = self._starting
        try:
            await asyncio.shield(starting)
        except BrokerError:
            if self._starting is starting:
                self._starting = None
                _detach(self._finalizer)
            raise

    async def close(self) -> None:
        """Disconnect, once the backend answered all publishes or a few seconds have passed.

        Raises:
            UsageError: another event loop uses this publisher.
        """
        if self._starting is not None:
            self._check_loop()
            await asyncio.wait([self._starting])
            await self._broker.close()
            self._starting = None
            _detach(self._finalizer)

    def _check_loop(self) -> None:
        if self._starting is not None and self._loop is not asyncio.get_running_loop():
            raise UsageError(
                "This AsyncPublisher is connected in another event loop. Close it there first, "
                "make one for each loop, or use a Publisher, which all threads may share"
            )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class Publisher:
    """`AsyncPublisher` for code without an event loop; it runs a loop in a thread of its own.

    One object, made at import time, serves all threads, and both processes after a fork. It takes
    the arguments of `AsyncPublisher` and raises the same errors. One that is dropped without
    `close` ends its thread all the same, with a ResourceWarning.
    """

    def __init__(self, url: str | None = None, *, codec_engine: CodecEngine | None = None) -> None:
        self._arguments: tuple[str | None, CodecEngine | None] = (url, codec_engine)
        _create_broker(url)  # Raises now if the URL is wrong.
        self._lock = threading.Lock()
        self._thread: _PublisherThread | None = None
        self._finalizer: Finalizer | None = None
        _publishers.add(self)

    def publish(self, channel: str, data: Any, timeout: float = 10.0) -> None:
        """Publish, and return when the backend accepted it.

        Raises:
            BrokerError: the backend refused the publish, or did not confirm it within `timeout`
                seconds.
            InvalidArgumentsError: the codec cannot encode `data`, or the channel has no name.
        """
        thread = self._ensure_thread()
        thread.run(thread.publisher.publish(channel, data), timeout)

    def _ensure_thread(self) -> _PublisherThread:
        with self._lock:
            # After a fork, the parent's thread does not exist in the child.
            if self._thread is None or self._thread.pid != os.getpid():
                _detach(self._finalizer)
                self._thread = thread = _PublisherThread(*self._arguments)
                self._finalizer = _finalize(self, thread.abandon)
            return self._thread

    def close(self) -> None:
        """Disconnect. A later publish connects again."""
        with self._lock:
            thread, self._thread = self._thread, None
            _detach(self._finalizer)
        if thread is not None and thread.pid == os.getpid():
            thread.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()


@atexit.register
def _end_threads() -> None:
    for publisher in list(_publishers):
        thread = publisher._thread  # noqa: SLF001  A class of this module.
        if thread is not None:
            thread.end_at_exit()


def _renew_locks() -> None:
    # In the child of a fork, no thread will release a lock that another thread held.
    for publisher in _publishers:
        publisher._lock = threading.Lock()  # noqa: SLF001  A class of this module.


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(after_in_child=_renew_locks)


class _PublisherThread:
    """A thread that runs an event loop, with the publisher that uses the loop."""

    def __init__(self, url: str | None, codec_engine: CodecEngine | None) -> None:
        self.pid = os.getpid()
        self.publisher = AsyncPublisher(url, codec_engine=codec_engine)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=_run_loop, args=(self._loop,), name="socketcluster-publisher", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, None], timeout: float | None) -> None:
        """Run a coroutine in the loop, and wait for it at most `timeout` seconds.

        Raises:
            BrokerError: it took longer.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result(timeout)
        except WaitTimeoutError as error:
            future.cancel()
            raise BrokerError(f"The backend did not confirm within {timeout:g} s") from error

    def stop(self) -> None:
        """Close the publisher and end the thread."""
        self.run(self.publisher.close(), None)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def abandon(self) -> None:
        """Do as `stop`, without waiting, for a `Publisher` that was dropped."""
        if self.pid == os.getpid():  # Otherwise the thread and its connections are the parent's.
            _in_loop(self._loop, self._close_and_stop)
            _warn("Publisher")

    async def _close_and_stop(self) -> None:
        try:
            await self.publisher.close()
        finally:
            # Soon, so that the callbacks of this task run before.
            self._loop.call_soon(self._loop.stop)

    def end_at_exit(self) -> None:
        """End the thread before the interpreter ends, which would complain about its tasks."""
        if self.pid == os.getpid() and self._thread.is_alive():
            _in_loop(self._loop, self._close_and_stop)
            self._thread.join(EXIT_SECONDS)


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _finalize(publisher: object, abandon: Callable[[], None]) -> Finalizer:
    """Call `abandon` when a publisher is dropped, but not at the exit of the interpreter."""
    finalizer = weakref.finalize(publisher, abandon)
    finalizer.atexit = False
    return finalizer


def _detach(finalizer: Finalizer | None) -> None:
    if finalizer is not None:
        finalizer.detach()


def _abandon(broker: Broker, loop: asyncio.AbstractEventLoop, pid: int) -> None:
    """Close the broker of an `AsyncPublisher` that was dropped."""
    if pid == os.getpid():
        _in_loop(loop, broker.close)
        _warn("AsyncPublisher")


def _in_loop(
    loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Start work in a loop without waiting: a garbage collection runs in any thread."""

    def start() -> None:
        task = loop.create_task(work())
        _ending.add(task)
        task.add_done_callback(_ending.discard)

    with suppress(RuntimeError):  # The loop is closed, and its connections with it.
        loop.call_soon_threadsafe(start)


_ending: set[asyncio.Task[None]] = set()


def _warn(name: str) -> None:
    # Last, because a filter of warnings may raise it.
    warnings.warn(
        f"A connected {name} was dropped; call close(), or use it in a with statement",
        ResourceWarning,
        stacklevel=2,
    )


def _create_broker(url: str | None) -> Broker:
    url = url or os.environ.get(BROKER_VARIABLE)
    if not url:
        raise url_error(f"a publisher needs a broker's URL, as an argument or in {BROKER_VARIABLE}")
    broker = create_broker(url, BrokerOptions(required=True, away="fail"))
    if isinstance(broker, SimpleBroker):
        raise url_error(f"{url!r} reaches no other process")
    return broker
