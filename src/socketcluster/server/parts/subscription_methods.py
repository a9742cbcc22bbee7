"""The methods of a socket that show and end its subscriptions."""

from __future__ import annotations

from collections.abc import Iterable

from socketcluster.errors import InvalidActionError
from socketcluster.options import check_text
from socketcluster.protocol.state import SUBSCRIBED
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.server.parts.subscriptions import Subscriptions


class SubscriptionsMixin:
    """The subscriptions of a socket. Source: SocketCluster documentation, AGServerSocket."""

    __slots__ = ()

    subscribed: Subscriptions
    loop_binding: LoopBinding

    async def kick_out(
        self, channel: str | Iterable[str] | None = None, message: str | None = None
    ) -> None:
        """Unsubscribe the client from one, several or all channels, and send it the message.

        Raises:
            InvalidActionError: the socket is not subscribed to one of them; it has left the others.
            InvalidArgumentsError: a name is not a text; nothing has changed.
        """
        self.loop_binding.check()
        if channel is None:
            channels = self.subscriptions()
        else:
            if not isinstance(channel, Iterable):
                check_text("A channel's name", channel)
            channels = [channel] if isinstance(channel, str) else list(channel)
        for name in channels:
            check_text("A channel's name", name)
        _kick_out(self.subscribed, channels, message)

    @property
    def channel_subscriptions(self) -> dict[str, bool]:
        """The channels subscribed to, as keys."""
        return dict.fromkeys(self.subscribed.names(), True)

    @property
    def channel_subscriptions_count(self) -> int:
        """How many channels the socket is subscribed to, pending ones included."""
        return len(self.subscribed.channels)

    def subscriptions(self) -> list[str]:
        """The names of the channels subscribed to."""
        return self.subscribed.names()

    def is_subscribed(self, channel: str) -> bool:
        """Whether the socket is subscribed to a channel."""
        return self.subscribed.channels.get(channel) == SUBSCRIBED


def _kick_out(subscribed: Subscriptions, channels: list[str], message: str | None) -> None:
    """Kick a socket out of channels.

    Raises:
        InvalidActionError: the socket is not subscribed to one of them; it has left the others.
    """
    failure: InvalidActionError | None = None
    twins = {subscribed.twin(name) for name in channels}
    for name in channels:
        if name in twins and name not in subscribed.channels:
            continue  # It left with the other one.
        try:
            subscribed.kick_out_of(name, message)
        except InvalidActionError as error:
            failure = failure or error
    if failure is not None:
        raise failure
