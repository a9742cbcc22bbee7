"""The ZeroMQ proxy: connects the links of one machine's processes, in a thread of its own."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from typing import IO

import zmq

from socketcluster.brokers.adapter import MAX_BUFFERED
from socketcluster.brokers.memory_store import HISTORY_MEMORY
from socketcluster.brokers.zeromq_store import ProxyStore
from socketcluster.brokers.zeromq_switch import Switch
from socketcluster.brokers.zeromq_wire import BATCH_BYTES
from socketcluster.errors import BrokerError

logger: logging.Logger = logging.getLogger("socketcluster.brokers")

LOCK_RETRY_SECONDS = 0.2
"""How often a waiting proxy tries to take the lock."""

PROBE_SECONDS = 1.0
"""How often the proxy looks after silent links."""

MAX_RECEIVES_PER_TURN = 50
"""How many messages to handle before the links' queues are sent."""

_NOBLOCK, _MORE = int(zmq.NOBLOCK), int(zmq.SNDMORE) | int(zmq.NOBLOCK)
_POLLIN = int(zmq.POLLIN)
"""Plain integers: an operation of zmq's own takes a microsecond, as much as a system call."""

MAX_WAITING_MESSAGES = 16
"""How many messages of one process ZeroMQ reads ahead; further ones stay with the process."""


class Proxy:
    """The backend: passes publishes on to subscribed processes, in a thread of its own.

    Its socket and its lock file are accessible to this user only, whatever the umask. Of several
    proxies on one path, one runs and the others wait; when it ends another takes over.

    Args:
        path: that of the URL.
        max_buffered: how many bytes to keep for a process that does not read; past it the process
            is cut off. It has then lost publishes, and reports a gap as soon as it reads.
        history_memory: how many bytes of stored publishes to keep for all channels.
    """

    def __init__(
        self,
        path: str,
        max_buffered: int = MAX_BUFFERED,
        history_memory: int = HISTORY_MEMORY,
    ) -> None:
        self._path = path
        self._max_buffered = max_buffered
        self._probe_at = 0.0
        store = ProxyStore(history_memory, max_buffered)
        self._switch = Switch(self._send, max_buffered, store)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stopped = threading.Event()
        self._running = threading.Event()
        self._lock: IO[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="zeromq-proxy", daemon=True)

    def start(self) -> None:
        """Bind the socket; if another proxy runs on the path, wait in the background to take over.

        Raises:
            BrokerError: the lock file is a symbolic link.
            OSError: the socket cannot be created there.
        """
        try:
            self._lock = _open_lock(f"{self._path}.lock")
            if self._try_lock():
                self._bind()
        except BaseException:
            self._context.term()
            if self._lock is not None:
                self._lock.close()
            raise
        self._thread.start()

    def _try_lock(self) -> bool:
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def cut_off(self) -> int:
        """How many links were cut off because their processes read too slowly."""
        return self._switch.cut_off

    def _bind(self) -> None:
        self._socket = self._context.socket(zmq.ROUTER)
        try:
            self._socket.setsockopt(zmq.LINGER, 0)
            # ZeroMQ counts messages, the links' windows count bytes.
            self._socket.setsockopt(zmq.SNDHWM, 0)
            self._socket.setsockopt(zmq.RCVHWM, MAX_WAITING_MESSAGES)
            self._socket.setsockopt(zmq.MAXMSGSIZE, self._max_buffered + BATCH_BYTES)
            self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self._socket.setsockopt(zmq.RCVTIMEO, int(PROBE_SECONDS * 1000))
            _bind_private(self._socket, f"ipc://{self._path}.sock")
        except BaseException as error:
            self._socket.close()
            if not isinstance(error, zmq.ZMQError):
                raise
            raise OSError(error.errno, f"Cannot use {self._path!r}: {error.strerror}") from error
        self._running.set()

    def _send(self, identity: bytes, message: bytes) -> bool:
        try:
            self._socket.send(identity, _MORE)
            self._socket.send(message, _NOBLOCK)
        except zmq.ContextTerminated:
            raise
        except zmq.ZMQError:  # The process has disconnected.
            return False
        return True

    def _run(self) -> None:
        while not self._running.is_set():
            if self._stopped.wait(LOCK_RETRY_SECONDS):
                return
            if self._try_lock():
                try:
                    self._bind()
                except OSError:
                    logger.exception("The ZeroMQ proxy cannot take over")
                    return
        try:
            while True:
                self._turn()
        except zmq.ContextTerminated:
            self._socket.close()

    def _turn(self) -> None:
        """Wait for a message, handle those that are there, and send what they caused."""
        receive, option = self._socket.recv, self._socket.getsockopt
        now = 0.0
        try:
            for _ in range(MAX_RECEIVES_PER_TURN):
                identity, message = receive(), receive()
                now = now or time.monotonic()
                while option(zmq.RCVMORE):  # A message of another form.
                    message = receive()
                self._switch.handle(identity, message, now)
                # Asking costs less than the exception of an empty queue.
                if not int(option(zmq.EVENTS)) & _POLLIN:
                    break
        except zmq.Again:  # Nothing within RCVTIMEO.
            pass
        self._switch.flush()
        now = now or time.monotonic()
        if now >= self._probe_at:
            self._probe_at = now + PROBE_SECONDS
            self._switch.probe(now)

    def stop(self) -> None:
        """Stop the proxy and wait for its thread."""
        self._stopped.set()
        self._context.term()
        self._thread.join()
        if self._lock is not None:
            self._lock.close()


def _open_lock(path: str) -> IO[bytes]:
    """Open a lock file that only this user can access.

    It does not follow a symbolic link: someone who can write to the folder could use one to have
    another of this user's files opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags, 0o600), "wb")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise BrokerError(
            f"{path} is a symbolic link, and the lock of a ZeroMQ proxy must be a file of its own. "
            "Remove the link, or use a folder that only this user can write to"
        ) from error


def _bind_private(socket: zmq.Socket[bytes], address: str) -> None:
    # With a umask rather than a later chmod, the socket is never accessible to others.
    mask = os.umask(0o177)
    try:
        socket.bind(address)
    finally:
        os.umask(mask)
