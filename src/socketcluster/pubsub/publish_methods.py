"""The methods of an exchange that publish."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from socketcluster.errors import UsageError
from socketcluster.protocol.payloads import Payloads
from socketcluster.pubsub.channel import channel_name
from socketcluster.pubsub.delivery import PublishDelivery
from socketcluster.pubsub.pages import checked_id
from socketcluster.pubsub.stored import StoredPublishes
from socketcluster.runtime.loop_binding import LoopBinding


class PublishMixin:
    """Forwards to the delivery of an exchange."""

    __slots__ = ()

    _payloads: Payloads
    delivery: PublishDelivery
    loop_binding: LoopBinding
    stored: StoredPublishes

    def _failed(
        self, error: BaseException, action: str = "background", channel: str | None = None
    ) -> None:
        raise NotImplementedError

    def transmit_publish(self, channel: str, data: Any, id: str | None = None) -> None:
        """Publish without waiting. If the broker refuses it later, 'error' is emitted.

        The id is that of `invoke_publish`.

        Raises:
            BrokerError: the broker refused it at once.
            InvalidArgumentsError: the codec cannot encode `data`, the channel has no name, or the
                id is not a str of 1 to 64 characters.
            ResourceLimitError: the publish is larger than `max_outbound_buffer`.
            UsageError: there is an id, and the channel has no history.
        """
        accepted = self._publish(channel, data, id)
        if accepted is not None:
            when_done(accepted, partial(self._publish_done, channel))

    async def invoke_publish(self, channel: str, data: Any, id: str | None = None) -> None:
        """Publish, and wait until the broker accepted it. Cancelling only stops the wait.

        On a channel with history a publish can be tried again: with the same `id`, within 5
        minutes, it is stored and delivered once.

        Raises:
            BrokerError: the broker refused it.
            InvalidArgumentsError: the codec cannot encode `data`, the channel has no name, or the
                id is not a str of 1 to 64 characters.
            ResourceLimitError: the publish is larger than `max_outbound_buffer`.
            UsageError: there is an id, and the channel has no history.
        """
        accepted = self._publish(channel, data, id)
        if accepted is not None:
            await accepted

    def _publish(self, channel: str, data: Any, id: str | None) -> Awaitable[None] | None:
        self.loop_binding.check()
        channel = channel_name(channel)
        id = checked_id(id)
        if id is not None and self.stored.history_of(channel) is None:
            raise UsageError(
                f"The channel {channel!r} has no history, so an id has no effect on its publishes"
            )
        self.delivery.published_here += 1
        payload = self._payloads.encode(data)
        if id is None:
            return self.delivery.publish(channel, payload)
        return self.delivery.publish_once(channel, payload, id)

    def _publish_done(self, channel: str, error: BaseException | None) -> None:
        if error is not None:
            self._failed(error, "publish", channel)


def when_done(awaitable: Awaitable[None], done: Callable[[BaseException | None], None]) -> None:
    """Run an awaitable that no caller awaits, then call `done(error)`, with None for success."""

    def finished(task: asyncio.Future[None]) -> None:
        if not task.cancelled():
            done(task.exception())

    # The task is referenced by what it waits for: an entry's operation, or the broker's future.
    asyncio.ensure_future(awaitable).add_done_callback(finished)
