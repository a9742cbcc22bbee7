"""Channel methods that exchanges and clients share."""

from __future__ import annotations

from typing import Any

from socketcluster.streams import ConsumerStats, StreamDemux


class ChannelMixin:
    """Forwards the channel_… and …_channel methods to two demuxes.

    A stream of the outputs is named by its channel, a stream of the listeners by "channel/event".
    """

    __slots__ = ()

    _channel_outputs: StreamDemux[Any]
    _channel_listeners: StreamDemux[Any]

    def _listener_names(self, channel: str) -> list[str]:
        start = f"{channel}/"
        found = self._channel_listeners.get_consumer_stats_list_all()
        return list(dict.fromkeys(s.stream for s in found if s.stream.startswith(start)))

    def close_channel(self, channel: str) -> None:
        """End the consumers of a channel and of its listeners after their backlog."""
        self.channel_close_output(channel)
        self.channel_close_all_listeners(channel)

    def close_all_channel_outputs(self) -> None:
        """End the consumers of all channels after their backlog."""
        self._channel_outputs.close_all()

    def close_all_channel_listeners(self) -> None:
        """End the consumers of all channel listeners after their backlog."""
        self._channel_listeners.close_all()

    def close_all_channels(self) -> None:
        """Do `close_channel` for all channels."""
        self.close_all_channel_outputs()
        self.close_all_channel_listeners()

    def kill_channel(self, channel: str) -> None:
        """End the consumers of a channel and of its listeners now; their backlog is dropped."""
        self.channel_kill_output(channel)
        self.channel_kill_all_listeners(channel)

    def kill_all_channel_outputs(self) -> None:
        """End the consumers of all channels now."""
        self._channel_outputs.kill_all()

    def kill_all_channel_listeners(self) -> None:
        """End the consumers of all channel listeners now."""
        self._channel_listeners.kill_all()

    def kill_all_channels(self) -> None:
        """Do `kill_channel` for all channels."""
        self.kill_all_channel_outputs()
        self.kill_all_channel_listeners()

    def kill_channel_output_consumer(self, consumer_id: int) -> None:
        """End one consumer of any channel now."""
        self._channel_outputs.kill_consumer(consumer_id)

    def kill_channel_listener_consumer(self, consumer_id: int) -> None:
        """End one consumer of any channel listener now."""
        self._channel_listeners.kill_consumer(consumer_id)

    def get_channel_output_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Return statistics of one channel consumer."""
        return self._channel_outputs.get_consumer_stats(consumer_id)

    def get_channel_listener_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Return statistics of one channel listener's consumer."""
        return self._channel_listeners.get_consumer_stats(consumer_id)

    def get_all_channel_outputs_consumer_stats_list(self) -> list[ConsumerStats]:
        """Return statistics of all channel consumers."""
        return self._channel_outputs.get_consumer_stats_list_all()

    def get_all_channel_listeners_consumer_stats_list(self) -> list[ConsumerStats]:
        """Return statistics of all channel listeners' consumers."""
        return self._channel_listeners.get_consumer_stats_list_all()

    def get_channel_backpressure(self, channel: str) -> int:
        """Return the highest backpressure of any consumer of the channel or its listeners."""
        return max(
            self.channel_get_output_backpressure(channel),
            self.channel_get_all_listeners_backpressure(channel),
        )

    def get_all_channel_outputs_backpressure(self) -> int:
        """Return the highest backpressure of any channel consumer."""
        return self._channel_outputs.get_backpressure_all()

    def get_all_channel_listeners_backpressure(self) -> int:
        """Return the highest backpressure of any channel listener's consumer."""
        return self._channel_listeners.get_backpressure_all()

    def get_all_channels_backpressure(self) -> int:
        """Return the highest backpressure of any channel or channel listener."""
        return max(
            self.get_all_channel_outputs_backpressure(),
            self.get_all_channel_listeners_backpressure(),
        )

    def get_channel_output_consumer_backpressure(self, consumer_id: int) -> int:
        """Return the backpressure of one channel consumer."""
        return self._channel_outputs.get_consumer_backpressure(consumer_id)

    def get_channel_listener_consumer_backpressure(self, consumer_id: int) -> int:
        """Return the backpressure of one channel listener's consumer."""
        return self._channel_listeners.get_consumer_backpressure(consumer_id)

    def has_any_channel_output_consumer(self, consumer_id: int) -> bool:
        """Return whether any channel has this consumer."""
        return self._channel_outputs.has_consumer_all(consumer_id)

    def has_any_channel_listener_consumer(self, consumer_id: int) -> bool:
        """Return whether any channel listener has this consumer."""
        return self._channel_listeners.has_consumer_all(consumer_id)

    def channel_close_output(self, channel: str) -> None:
        """End the consumers of a channel after their backlog."""
        self._channel_outputs.close(channel)

    def channel_close_listener(self, channel: str, event: str) -> None:
        """End the consumers of one listener of a channel after their backlog."""
        self._channel_listeners.close(f"{channel}/{event}")

    def channel_close_all_listeners(self, channel: str) -> None:
        """End the consumers of all listeners of a channel after their backlog."""
        for name in self._listener_names(channel):
            self._channel_listeners.close(name)

    def channel_kill_output(self, channel: str) -> None:
        """End the consumers of a channel now."""
        self._channel_outputs.kill(channel)

    def channel_kill_listener(self, channel: str, event: str) -> None:
        """End the consumers of one listener of a channel now."""
        self._channel_listeners.kill(f"{channel}/{event}")

    def channel_kill_all_listeners(self, channel: str) -> None:
        """End the consumers of all listeners of a channel now."""
        for name in self._listener_names(channel):
            self._channel_listeners.kill(name)

    def channel_get_output_consumer_stats_list(self, channel: str) -> list[ConsumerStats]:
        """Return statistics of a channel's consumers."""
        return self._channel_outputs.get_consumer_stats_list(channel)

    def channel_get_listener_consumer_stats_list(
        self, channel: str, event: str
    ) -> list[ConsumerStats]:
        """Return statistics of the consumers of one listener of a channel."""
        return self._channel_listeners.get_consumer_stats_list(f"{channel}/{event}")

    def channel_get_all_listeners_consumer_stats_list(self, channel: str) -> list[ConsumerStats]:
        """Return statistics of the consumers of all listeners of a channel."""
        names = set(self._listener_names(channel))
        found = self._channel_listeners.get_consumer_stats_list_all()
        return [stats for stats in found if stats.stream in names]

    def channel_get_output_backpressure(self, channel: str) -> int:
        """Return the highest backpressure of a channel's consumers."""
        return self._channel_outputs.get_backpressure(channel)

    def channel_get_listener_backpressure(self, channel: str, event: str) -> int:
        """Return the highest backpressure of the consumers of one listener of a channel."""
        return self._channel_listeners.get_backpressure(f"{channel}/{event}")

    def channel_get_all_listeners_backpressure(self, channel: str) -> int:
        """Return the highest backpressure of the consumers of all listeners of a channel."""
        names = self._listener_names(channel)
        return max((self._channel_listeners.get_backpressure(name) for name in names), default=0)

    def channel_has_output_consumer(self, channel: str, consumer_id: int) -> bool:
        """Return whether the channel has this consumer."""
        return self._channel_outputs.has_consumer(channel, consumer_id)

    def channel_has_listener_consumer(self, channel: str, event: str, consumer_id: int) -> bool:
        """Return whether one listener of the channel has this consumer."""
        return self._channel_listeners.has_consumer(f"{channel}/{event}", consumer_id)

    def channel_is_listened_to(self, channel: str, event: str) -> bool:
        """Return whether one listener of the channel has a consumer."""
        return self._channel_listeners.get_consumer_count(f"{channel}/{event}") > 0

    def channel_has_any_listener_consumer(self, channel: str, consumer_id: int) -> bool:
        """Return whether any listener of the channel has this consumer."""
        return any(
            self._channel_listeners.has_consumer(name, consumer_id)
            for name in self._listener_names(channel)
        )
