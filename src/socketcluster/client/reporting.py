"""Event emission and error reports, for the parts of a client."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from socketcluster.events import ErrorEvent
from socketcluster.runtime.reporting import Reporter, one_line
from socketcluster.streams import ConsumableStream, StreamDemux


class Emitter(Protocol):
    """The client, as the events need it."""

    def emit(self, event: str, data: Any = None) -> None: ...
    def listener(self, event: str) -> ConsumableStream[Any]: ...
    def has_listener(self, event: str) -> bool: ...


class Events:
    """The events of one client and of its channels.

    Attributes:
        reporter: writes log lines.
    """

    __slots__ = ("_channel_listeners", "_emitter", "reporter")

    def __init__(
        self, emitter: Emitter, channel_listeners: StreamDemux[Any], reporter: Reporter
    ) -> None:
        self._emitter = emitter
        self._channel_listeners = channel_listeners
        self.reporter: Reporter = reporter

    def emit(self, name: str, event: Any) -> None:
        """Emit an event of the client."""
        self._emitter.emit(name, event)

    def listener(self, name: str) -> ConsumableStream[Any]:
        """Return the stream of an event of the client."""
        return self._emitter.listener(name)

    def has_listener(self, name: str) -> bool:
        """Return whether an event of the client has a handler or a consumer."""
        return self._emitter.has_listener(name)

    def emit_error(self, error: BaseException) -> None:
        """Emit 'error'. Without a listener the error is logged, in one line."""
        if not self.has_listener("error"):
            self.reporter.line(one_line(error), logging.WARNING, type(error).__qualname__)
        self.emit("error", ErrorEvent(error))

    def emit_of_channel(self, channel: str, name: str, event: Any) -> None:
        """Emit an event of a channel, on the channel and on the client."""
        self._channel_listeners.write(f"{channel}/{name}", event)
        self.emit(name, event)

    def is_listened_to(self, channel: str, name: str) -> bool:
        """Whether an event of a channel has listeners, there or on the client."""
        listeners = self._channel_listeners.get_consumer_count(f"{channel}/{name}")
        return listeners > 0 or self.has_listener(name)
