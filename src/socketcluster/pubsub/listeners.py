"""The typed events of an exchange: `listener` with an overload for each event name."""

from __future__ import annotations

from typing import Any, Literal, get_args, overload

from socketcluster import events
from socketcluster.literals import ExchangeEventName
from socketcluster.runtime.reporting import Reporter
from socketcluster.streams import AsyncStreamEmitter, ConsumableStream

EXCHANGE_EVENTS: frozenset[str] = frozenset(get_args(ExchangeEventName))


class ExchangeListeners(AsyncStreamEmitter):
    """The `listener` method of an exchange. Source: SocketCluster documentation, AGExchange."""

    __slots__ = ()

    _reporter: Reporter

    @overload
    def listener(self, event: Literal["error"]) -> ConsumableStream[events.ErrorEvent]: ...
    @overload
    def listener(self, event: Literal["ready"]) -> ConsumableStream[events.ReadyEvent]: ...
    @overload
    def listener(
        self, event: Literal["brokerAway"]
    ) -> ConsumableStream[events.BrokerAwayEvent]: ...
    @overload
    def listener(self, event: Literal["brokerGap"]) -> ConsumableStream[events.BrokerGapEvent]: ...
    @overload
    def listener(self, event: Literal["occupied"]) -> ConsumableStream[events.OccupiedEvent]: ...
    @overload
    def listener(self, event: Literal["vacated"]) -> ConsumableStream[events.VacatedEvent]: ...
    @overload
    def listener(self, event: Literal["subscribe"]) -> ConsumableStream[events.SubscribeEvent]: ...
    @overload
    def listener(
        self, event: Literal["subscribeFail"]
    ) -> ConsumableStream[events.SubscribeFailEvent]: ...
    @overload
    def listener(
        self, event: Literal["unsubscribe"]
    ) -> ConsumableStream[events.UnsubscribeEvent]: ...
    @overload
    def listener(self, event: str) -> ConsumableStream[Any]: ...
    def listener(self, event: str) -> ConsumableStream[Any]:
        """The stream of one event. A name that resembles a documented event is logged."""
        stream = super().listener(event)
        self._reporter.check_event_name(event, EXCHANGE_EVENTS)
        return stream
