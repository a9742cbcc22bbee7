"""AGExchange: which sockets and server-side consumers want a channel, on top of one broker.

The broker is told of a channel when its first subscriber here comes and when its last one goes.
Local fan-out is done here: a publish is encoded and framed once for all sockets.

Source: SocketCluster documentation, AGExchange; npm ag-simple-broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from socketcluster.brokers.base import Broker
from socketcluster.channel import AGChannel, ChannelMethods
from socketcluster.errors import BrokerError, SocketClusterError
from socketcluster.events import (
    ChannelSubscribeEvent,
    ChannelSubscribeFailEvent,
    ChannelUnsubscribeEvent,
    ErrorEvent,
    ReadyEvent,
)
from socketcluster.protocol.state import PENDING, SUBSCRIBED, UNSUBSCRIBED
from socketcluster.protocol.wire import Wire
from socketcluster.streams import AsyncStreamEmitter, StreamDemux


class Subscriber(Protocol):
    """A socket's way out, as the exchange sees it."""

    def publish(self, channel: str, payload: bytes, frame: bytes) -> None:
        """Send a publish: `frame` if nothing has to be done to it, or made anew of `payload`."""


class _Channel:
    """What is known here of one channel."""

    __slots__ = ("operation", "state", "subscribers", "watched")

    def __init__(self) -> None:
        self.state = UNSUBSCRIBED
        self.subscribers: dict[Subscriber, None] = {}
        self.watched = False
        self.operation: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        return self.watched or bool(self.subscribers)


class AGExchange(ChannelMethods, AsyncStreamEmitter):
    """The server's own pub/sub client, and the local index of its sockets' subscriptions.

    Events: 'subscribe', 'unsubscribe', 'subscribeFail', 'error', 'ready'. Its calls pass no
    middleware. It can be made and used before any event loop runs.
    """

    __slots__ = (
        "_channel_listeners",
        "_channel_outputs",
        "_channels",
        "_wire",
        "broker",
        "is_ready",
    )

    id = "exchange"

    def __init__(self, broker: Broker, wire: Wire) -> None:
        super().__init__()
        self.broker = broker
        self.is_ready = False
        self._wire = wire
        self._channels: dict[str, _Channel] = {}
        self._channel_outputs = StreamDemux[Any]()
        self._channel_listeners = StreamDemux[Any]()
        broker.attach(self)

    async def start(self) -> None:
        """Start the broker; 'ready' follows. Called by the server.

        Raises:
            BrokerError: the broker cannot start.
        """
        if not self.is_ready:
            await self.broker.start()
            self.is_ready = True
            self.emit("ready", ReadyEvent())

    async def close(self) -> None:
        """Close the broker. Called by the server."""
        self.is_ready = False
        for channel in list(self._channels.values()):
            if channel.operation is not None:
                channel.operation.cancel()
        await self.broker.close()

    # Publishing

    def transmit_publish(self, channel: str, data: Any) -> None:
        """Publish without waiting; what the broker refuses later is emitted as 'error'.

        Raises:
            BrokerError: the broker refused it at once.
            InvalidArgumentsError: the codec cannot encode `data`.
        """
        accepted = self.publish_payload(channel, self._wire.encode_payload(data))
        if accepted is not None:
            self._report(accepted)

    async def invoke_publish(self, channel: str, data: Any) -> None:
        """Publish and wait until the broker accepted it. Cancelling stops the waiting only.

        Raises:
            BrokerError: the broker refused it.
            InvalidArgumentsError: the codec cannot encode `data`.
        """
        accepted = self.publish_payload(channel, self._wire.encode_payload(data))
        if accepted is not None:
            await accepted

    def publish_payload(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """Publish encoded data; None means that it was accepted already.

        Raises:
            InvalidMessageError: a consumer here wants the data and it cannot be decoded.
            BrokerError: the broker refused it.
        """
        known = self._channels.get(channel)
        if known is not None and known.watched:
            self._wire.decode_payload(payload)  # Refused now rather than lost later.
        return self.broker.publish(channel, payload)

    def message_received(self, channel: str, payload: bytes) -> None:
        """Deliver a publish here. Called by the broker."""
        known = self._channels.get(channel)
        if known is None:
            return
        if known.watched:
            try:
                self._channel_outputs.write(channel, self._wire.decode_payload(payload))
            except SocketClusterError as error:
                self.broker_failed(error)
        if known.subscribers:
            try:
                frame = self._wire.publish_frame(channel, payload)
            except SocketClusterError as error:
                self.broker_failed(error)
                return
            # A subscriber whose buffer is full closes, and leaves, while this goes on.
            for subscriber in list(known.subscribers):
                subscriber.publish(channel, payload, frame)

    def broker_failed(self, error: BaseException) -> None:
        """Emit 'error'. Called by the broker."""
        self.emit("error", ErrorEvent(error))

    # Sockets

    def subscribe_socket(self, subscriber: Subscriber, channel: str) -> Awaitable[None] | None:
        """Deliver publishes to a socket; None means that it is done already.

        Raises:
            BrokerError: the broker refused.
        """
        known = self._channels.setdefault(channel, _Channel())
        if known.state != SUBSCRIBED:
            self._want(channel, known)
        # In the index at once, so that another's leaving does not end the shared subscription.
        known.subscribers[subscriber] = None
        if known.operation is None:
            return None
        return self._subscribe_later(subscriber, channel, self._settled(known, known.operation))

    async def _subscribe_later(
        self, subscriber: Subscriber, channel: str, settled: Awaitable[None]
    ) -> None:
        try:
            await settled
        except BaseException:
            self.unsubscribe_socket(subscriber, channel)
            raise

    def unsubscribe_socket(self, subscriber: Subscriber, channel: str) -> None:
        """Deliver nothing more to a socket. What the broker has to do for it follows on its own."""
        known = self._channels.get(channel)
        if known is not None:
            known.subscribers.pop(subscriber, None)
            self._release(channel, known)

    # The broker's side of a channel: one operation at a time, and the last wish wins.

    def _want(self, channel: str, known: _Channel) -> None:
        if known.operation is not None:
            return
        known.state = PENDING
        try:
            done = self.broker.subscribe(channel)
        except BaseException:
            self._channels.pop(channel, None)
            raise
        if done is None:
            known.state = SUBSCRIBED
        else:
            known.operation = asyncio.ensure_future(self._operate(channel, known, done))
            known.operation.add_done_callback(_retrieve)

    def _release(self, channel: str, known: _Channel) -> None:
        if known.wanted or known.operation is not None:
            return
        done = None
        if known.state == SUBSCRIBED:
            try:
                done = self.broker.unsubscribe(channel)
            except Exception as error:
                self.broker_failed(error)
        known.state = UNSUBSCRIBED
        if done is None:
            self._channels.pop(channel, None)
        else:
            known.operation = asyncio.ensure_future(self._operate(channel, known, done))
            known.operation.add_done_callback(_retrieve)

    async def _operate(self, channel: str, known: _Channel, operation: Awaitable[None]) -> None:
        subscribing = known.state == PENDING
        try:
            await operation
            if subscribing:
                known.state = SUBSCRIBED
        except Exception as error:
            if not subscribing:
                self.broker_failed(error)
            else:
                known.state = UNSUBSCRIBED
                known.subscribers.clear()
                known.watched = False
                if isinstance(error, SocketClusterError):
                    raise
                raise BrokerError(str(error)) from error
        finally:
            known.operation = None
            if not known.wanted:
                self._release(channel, known)
            elif known.state == UNSUBSCRIBED:
                self._want(channel, known)

    async def _settled(self, known: _Channel, operation: asyncio.Task[None]) -> None:
        while True:
            await asyncio.shield(operation)
            if known.operation is None:
                return
            operation = known.operation

    # The exchange's own channels

    def subscribe(self, channel: str) -> AGChannel:
        """Subscribe the server itself; returns the channel, whose `async for` yields publishes.

        Raises:
            BrokerError: the broker refused at once; a later refusal is emitted as 'subscribeFail'.
        """
        known = self._channels.setdefault(channel, _Channel())
        if not known.watched:
            known.watched = True
            if known.state != SUBSCRIBED:
                self._want(channel, known)
            if known.operation is not None:
                self._then(
                    self._settled(known, known.operation),
                    lambda error: self._subscribed(channel, error),
                )
            else:
                self._subscribed(channel, None)
        return self.channel(channel)

    def _subscribed(self, channel: str, error: BaseException | None) -> None:
        if error is None:
            self._emit_channel("subscribe", ChannelSubscribeEvent(channel))
            return
        self._emit_channel("subscribeFail", ChannelSubscribeFailEvent(channel, error))

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe the server itself; its sockets are not touched."""
        known = self._channels.get(channel)
        if known is None or not known.watched:
            return
        was_subscribed = known.state == SUBSCRIBED
        known.watched = False
        self._release(channel, known)
        if was_subscribed:
            self._emit_channel("unsubscribe", ChannelUnsubscribeEvent(channel))

    def _emit_channel(
        self,
        name: str,
        event: ChannelSubscribeEvent | ChannelUnsubscribeEvent | ChannelSubscribeFailEvent,
    ) -> None:
        self._channel_listeners.write(f"{event.channel}/{name}", event)
        self.emit(name, event)

    def channel(self, channel: str) -> AGChannel:
        """A view of a channel; it does not subscribe."""
        return AGChannel(channel, self, self)

    def get_channel_state(self, channel: str) -> str:
        """'pending', 'subscribed' or 'unsubscribed': of the server itself, not of its sockets."""
        known = self._channels.get(channel)
        return known.state if known is not None and known.watched else UNSUBSCRIBED

    def get_channel_options(self, channel: str) -> dict[str, Any]:
        """Always empty: an exchange subscribes without options."""
        return {}

    def subscriptions(self, include_pending: bool = False) -> list[str]:
        """The channels the server itself is subscribed to."""
        return [name for name in list(self._channels) if self.is_subscribed(name, include_pending)]

    def is_subscribed(self, channel: str, include_pending: bool = False) -> bool:
        """Whether the server itself is subscribed."""
        state = self.get_channel_state(channel)
        return state == SUBSCRIBED or (include_pending and state == PENDING)

    def get_backpressure(self) -> int:
        """The highest backpressure of any consumer of the exchange, its channels or listeners."""
        return max(self.get_all_listeners_backpressure(), self.get_all_channels_backpressure())

    def destroy(self) -> None:
        """End all loops over the exchange's channels and events once they took their backlog."""
        self.close_all_channels()
        self.close_all_listeners()

    # Awaitables nobody awaits

    def _report(self, awaitable: Awaitable[None]) -> None:
        self._then(awaitable, lambda error: None if error is None else self.broker_failed(error))

    def _then(
        self, awaitable: Awaitable[None], done: Callable[[BaseException | None], None]
    ) -> None:
        def finished(task: asyncio.Future[None]) -> None:
            if not task.cancelled():
                done(task.exception())

        # Kept alive by what it waits for: a channel's operation or the broker's own future.
        asyncio.ensure_future(awaitable).add_done_callback(finished)


def _retrieve(task: asyncio.Future[None]) -> None:
    # Whoever waits for the operation is told; without this asyncio would log it a second time.
    if not task.cancelled():
        task.exception()
