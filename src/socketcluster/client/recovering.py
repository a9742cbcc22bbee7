"""Recovering: the events of a server for a client that recovers what it missed of channels.

Source: docs/history.md, "On the wire".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketcluster.client.recovery import GAP, ChannelRecovery
from socketcluster.client.reporting import Events
from socketcluster.client.settings import Settings
from socketcluster.client.subscriptions import Subscriptions
from socketcluster.events import RecoverFailEvent
from socketcluster.protocol.numbered import NumberedPublication


class Recovering:
    """Follows how much the client has received of each channel that it recovers.

    It begins with the first subscription that recovers: other clients do not pay for it.

    Args:
        publish: delivers the data of a '#publish'.
        deliver: delivers an event that the application may have asked for itself.
    """

    __slots__ = ("_deliver", "_events", "_handlers", "_publish", "_settings", "_subscriptions")

    def __init__(
        self,
        settings: Settings,
        subscriptions: Subscriptions,
        events: Events,
        publish: Callable[[Any], object],
        deliver: Callable[[str, Any], object],
    ) -> None:
        self._settings = settings
        self._subscriptions = subscriptions
        subscriptions.on_first_recovery = self._begin
        self._events = events
        self._publish = publish
        self._deliver = deliver
        self._handlers: dict[str, Callable[[Any], object]] = {}

    def add_to(self, handlers: dict[str, Callable[[Any], object]]) -> None:
        """Add the handlers of events to those of a new connection, once the client recovers."""
        self._handlers = handlers
        if self._settings.recovers:
            handlers.update(
                {"#publish": self._published, "$positions": self._positions, GAP: self._gap}
            )

    def _begin(self) -> None:
        self._settings.recover()
        self.add_to(self._handlers)

    def _find(self, channel: Any) -> ChannelRecovery | None:
        if not isinstance(channel, str):
            return None
        subscriptions = self._subscriptions
        subscription = subscriptions.channels.get(subscriptions.undecorated(channel))
        return None if subscription is None else subscription.recovery

    def _published(self, data: Any) -> None:
        if type(data) is NumberedPublication:
            channel: Any = data.channel
            offset: Any = data.offset
        elif isinstance(data, dict):  # The codec is not JSON.
            channel, offset = data.get("channel"), data.get("offset")
        else:
            return
        recovery = self._find(channel)
        if recovery is None or recovery.received(offset):
            self._publish(data)

    def _positions(self, data: Any) -> None:
        if isinstance(data, dict):
            for name, place in data.items():
                recovery = self._find(name)
                if recovery is not None:
                    recovery.take_place(place)
        self._deliver("$positions", data)

    def _gap(self, data: Any) -> None:
        channel: Any = data.get("channel") if isinstance(data, dict) else None
        recovery = self._find(channel)
        if recovery is not None:
            name = self._subscriptions.undecorated(channel)
            event = RecoverFailEvent(name, recovery.position)
            self._events.emit_of_channel(name, "recoverFail", event)
        self._deliver(GAP, data)
