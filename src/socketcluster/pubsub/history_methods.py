"""The methods of an exchange for channels with history, and for the rules of channels."""

from __future__ import annotations

from collections.abc import Callable

from socketcluster.brokers.storing import Position
from socketcluster.errors import UsageError
from socketcluster.history.replay import Recovered
from socketcluster.history.stored_channel import StoredChannel
from socketcluster.protocol.payloads import Payloads
from socketcluster.pubsub.channel import channel_name
from socketcluster.pubsub.delivery import PublishDelivery
from socketcluster.pubsub.fanout import Subscriber
from socketcluster.pubsub.gaps import GapReports
from socketcluster.pubsub.index import ChannelIndex
from socketcluster.pubsub.pages import HistoryPage, read_history
from socketcluster.pubsub.recovery import Recoveries
from socketcluster.pubsub.rule_table import RuleTable
from socketcluster.pubsub.rules import ChannelRule
from socketcluster.pubsub.stored import StoredPublishes
from socketcluster.runtime.loop_binding import LoopBinding


class HistoryMixin:
    """Forwards to the parts of an exchange."""

    __slots__ = ()

    _index: ChannelIndex
    _payloads: Payloads
    _recoveries: Recoveries
    delivery: PublishDelivery
    gaps: GapReports
    is_ready: bool
    loop_binding: LoopBinding
    stored: StoredPublishes

    @property
    def rules(self) -> RuleTable:
        """The rules of channels; `add_rule` adds one."""
        return self.stored.rules

    async def history(
        self,
        channel: str,
        since: Position | None = None,
        limit: int = 100,
        reverse: bool = False,
    ) -> HistoryPage:
        """Read the stored publishes of a channel whose rule has history.

        Args:
            channel: its name.
            since: start behind this position, or before it if `reverse`; None for the oldest
                stored publish, or the newest one if `reverse`.
            limit: the most publishes to read, at most 10,000; 0 for the position only.
            reverse: read from the newest to the oldest.

        Raises:
            BrokerError: the backend is away, or refused.
            InvalidArgumentsError: an argument is wrong.
            UsageError: the channel has no history.
        """
        self.loop_binding.check()
        channel = channel_name(channel)
        return await read_history(self.stored, self._payloads, channel, since, limit, reverse)

    async def recover_socket(
        self,
        subscriber: Subscriber,
        channel: str,
        since: Position | None,
        on_joined: Callable[[Recovered], None],
    ) -> None:
        """See `Recoveries.recover`."""
        await self._recoveries.recover(subscriber, channel, since, on_joined)

    def stored_channel(self, channel: str) -> StoredChannel | None:
        """Return the follower of a channel's history; None without history or subscribers."""
        entry = self._index.channels.get(channel)
        return None if entry is None else entry.stored

    def add_rule(self, rule: ChannelRule) -> None:
        """Add a rule for channels, before the exchange is started.

        Raises:
            UsageError: the exchange is started, or the pattern conflicts with that of another rule.
        """
        if self.is_ready:
            raise UsageError(
                f"The rule for {rule.pattern.text!r} comes too late: add it before the server "
                "starts, because some of its channels may be in use"
            )
        self.stored.rules.add(rule)
        self._use_rules()

    def _use_rules(self) -> None:
        """Choose what channels with history need, once a rule has it."""
        if self.stored.rules.has_history:
            self._index.follow = self.stored.follow
            self.gaps.fills = self.stored.fills
            self.delivery.use_rules()
