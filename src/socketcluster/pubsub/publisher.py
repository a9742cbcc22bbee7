"""Publishing from a process that serves no sockets: a web view, a job, a script."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as WaitTimeoutError
from types import TracebackType
from typing import Any, Self

from socketcluster.brokers.adapter import BrokerOptions
from socketcluster.brokers.address import url_error
from socketcluster.brokers.base import Broker
from socketcluster.brokers.registry import BROKER_VARIABLE, create_broker
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.codecs.base import CodecEngine
from socketcluster.codecs.json import JSONCodec
from socketcluster.codecs.text import whole_text
from socketcluster.errors import BrokerError, UsageError
from socketcluster.options import checked_name
from socketcluster.protocol.wire import Wire


class AsyncPublisher:
    """Publishes over a broker's backend to the clients of all servers on it; for asyncio.

    Connects at the first publish, and again when the connection was lost. It is used from one
    loop until it is closed; `Publisher` serves all threads.

    Args:
        url: as `broker_engine` of the servers; SOCKETCLUSTER_BROKER of the environment if None.
        codec_engine: that of the servers.

    Raises:
        InvalidOptionsError: the URL is missing or wrong, or names no backend between processes.
    """

    def __init__(self, url: str | None = None, *, codec_engine: CodecEngine | None = None) -> None:
        self._wire = Wire(codec_engine or JSONCodec())
        self._broker = _broker(url)
        self._starting: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def publish(self, channel: str, data: Any) -> None:
        """Publish, and return when the backend has taken it. Cancelling stops the waiting only.

        Raises:
            BrokerError: the backend has not taken it, or did not confirm that it has.
            InvalidArgumentsError: the codec cannot encode `data`, or the channel has no name.
            UsageError: it is used from another loop.
        """
        checked_name("A channel's name", channel)
        channel = whole_text(channel)
        payload = self._wire.payloads.encode(data)
        await self.start()
        taken = self._broker.publish(channel, payload)
        if taken is not None:
            await taken

    async def start(self) -> None:
        """Connect now rather than at the first publish.

        Raises:
            BrokerError: the backend cannot be reached.
            UsageError: it is used from another loop.
        """
        self._check_loop()
        if self._starting is None:
            self._loop = asyncio.get_running_loop()
            self._starting = asyncio.ensure_future(self._broker.start())
        starting = self._starting
        try:
            await asyncio.shield(starting)
        except BrokerError:
            if self._starting is starting:
                self._starting = None
            raise

    async def close(self) -> None:
        """Disconnect, after what was published was taken or a few seconds have passed.

        Raises:
            UsageError: it is used from another loop.
        """
        if self._starting is not None:
            self._check_loop()
            await asyncio.wait([self._starting])
            await self._broker.close()
            self._starting = None

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
    """`AsyncPublisher` for code without an event loop; it runs one in a thread of its own.

    It can be made once, at import time, and used from all threads, and on both sides of a fork.
    Its arguments and what it raises are those of `AsyncPublisher`.
    """

    def __init__(self, url: str | None = None, *, codec_engine: CodecEngine | None = None) -> None:
        self._arguments: tuple[str | None, CodecEngine | None] = (url, codec_engine)
        _broker(url)
        self._lock = threading.Lock()
        self._running: _Running | None = None
        _publishers.add(self)

    def publish(self, channel: str, data: Any, timeout: float = 10.0) -> None:
        """Publish, and return when the backend has taken it, within `timeout` seconds.

        Raises:
            BrokerError: the backend has not taken it, or did not confirm that it has.
            InvalidArgumentsError: the codec cannot encode `data`.
        """
        running = self._started()
        running.wait_for(running.publisher.publish(channel, data), timeout)

    def _started(self) -> _Running:
        with self._lock:
            if self._running is None or self._running.pid != os.getpid():
                self._running = _Running(*self._arguments)
            return self._running

    def close(self) -> None:
        """Disconnect. A later publish connects again."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None and running.pid == os.getpid():
            running.stop()

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


def _forked() -> None:
    # The thread that held a lock is not in the child.
    for publisher in _publishers:
        publisher._lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(after_in_child=_forked)


class _Running:
    """An event loop in a thread, with a publisher."""

    def __init__(self, url: str | None, codec_engine: CodecEngine | None) -> None:
        self.pid = os.getpid()
        self.publisher = AsyncPublisher(url, codec_engine=codec_engine)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="socketcluster-publisher", daemon=True
        )
        self._thread.start()

    def wait_for(self, work: Coroutine[Any, Any, None], timeout: float | None) -> None:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result(timeout)
        except WaitTimeoutError as error:
            future.cancel()
            raise BrokerError(f"The backend did not confirm within {timeout:g} s") from error

    def stop(self) -> None:
        self.wait_for(self.publisher.close(), None)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _broker(url: str | None) -> Broker:
    url = url or os.environ.get(BROKER_VARIABLE)
    if not url:
        raise url_error(f"a publisher needs a broker's URL, as an argument or in {BROKER_VARIABLE}")
    broker = create_broker(url, BrokerOptions(required=True, away="fail"))
    if isinstance(broker, SimpleBroker):
        raise url_error(f"{url!r} reaches no other process")
    return broker
