"""Tables of handlers: all that an application has declared, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from socketcluster.errors import UsageError
from socketcluster.handlers.dependencies import Provider
from socketcluster.handlers.handler import (
    ChannelHandler,
    EventHandler,
    ProcedureHandler,
    ReceiverHandler,
)
from socketcluster.handlers.signature import Signature
from socketcluster.literals import MiddlewareType
from socketcluster.middleware import MiddlewareFunction
from socketcluster.runtime.reporting import place_of


def _ignore(type: MiddlewareType, function: MiddlewareFunction) -> None:
    """Ignore a middleware function."""


def _is_ambiguous(one: ChannelHandler, other: ChannelHandler) -> bool:
    return one.name != other.name and one.pattern.conflicts_with(other.pattern)


class HandlerTables:
    """The handlers and providers of a server, a client or a router.

    Attributes:
        procedures, receivers: from the name to the handler.
        channels: from the text of the pattern to the handler.
        events: from the event's name to its handlers, in the order in which they were declared.
        providers: from the type to the provider.
        middleware: from the middleware type to the function.
        on_added: called with each handler and provider that is added.
        on_middleware: called with each middleware type and its function.
    """

    def __init__(self) -> None:
        self.procedures: dict[str, ProcedureHandler] = {}
        self.receivers: dict[str, ReceiverHandler] = {}
        self.channels: dict[str, ChannelHandler] = {}
        self.events: dict[str, list[EventHandler]] = {}
        self.providers: dict[Any, Provider] = {}
        self.middleware: dict[MiddlewareType, MiddlewareFunction] = {}
        self.on_added: Callable[[Any], None] = lambda added: None
        self.on_middleware: Callable[[MiddlewareType, MiddlewareFunction], None] = _ignore

    def add_procedure(self, handler: ProcedureHandler) -> None:
        """Add the handler of a procedure, which may have one.

        Raises:
            UsageError: the procedure has a handler.
        """
        self._add(f"The procedure {handler.name!r}", self.procedures, handler.name, handler)

    def add_receiver(self, handler: ReceiverHandler) -> None:
        """Add the handler of an event of the peer, which may have one.

        Raises:
            UsageError: the event has a handler.
        """
        self._add(f"The event {handler.name!r}", self.receivers, handler.name, handler)

    def add_channel(self, handler: ChannelHandler) -> None:
        """Add the handler of a channel pattern.

        Raises:
            UsageError: the pattern has a handler, or is ambiguous beside that of another.
        """
        conflict = next((e for e in self.channels.values() if _is_ambiguous(e, handler)), None)
        if conflict is not None:
            raise UsageError(
                f"{handler.place}: its pattern {handler.name!r} and {conflict.name!r} of "
                f"{conflict.place} match the same channels, and neither is more specific"
            )
        self._add(f"The channel {handler.name!r}", self.channels, handler.name, handler)

    def add_event(self, handler: EventHandler) -> None:
        """Add a handler of an event, which may have several."""
        handlers = self.events.setdefault(handler.name, [])
        handlers.append(handler)
        try:
            self.on_added(handler)
        except BaseException:
            handlers.remove(handler)
            if not handlers:
                del self.events[handler.name]
            raise

    def add_provider(self, provider: Provider) -> None:
        """Add the provider of a type, which may have one.

        Raises:
            UsageError: the type has a provider.
        """
        if provider.provides in self.providers:
            other = self.providers[provider.provides].signature.place
            raise provider.signature.error(f"{provider.provides!r} has a provider already: {other}")
        self._put(self.providers, provider.provides, provider)

    def add_middleware(self, type: MiddlewareType, function: MiddlewareFunction) -> None:
        """Add the middleware function of a type, which may have one.

        Raises:
            UsageError: the type has a function.
        """
        if type in self.middleware:
            raise UsageError(
                f"{place_of(function)}: middleware {type!r} is set already, by "
                f"{place_of(self.middleware[type])}"
            )
        self.on_middleware(type, function)
        self.middleware[type] = function

    def include(self, other: HandlerTables, prefix: str) -> None:
        """Add all that another table has, its procedures, events and channels under a prefix.

        A handler of an event, a provider or a middleware function is added once, however often.

        Raises:
            UsageError: a name has a handler already.
        """
        for provider in other.providers.values():
            if self.providers.get(provider.provides) is not provider:
                self.add_provider(provider)
        for procedure in other.procedures.values():
            self.add_procedure(procedure.prefixed(prefix))
        for receiver in other.receivers.values():
            self.add_receiver(receiver.prefixed(prefix))
        for channel in other.channels.values():
            self.add_channel(channel.prefixed(prefix))
        for event in other.all_events():
            if event not in self.events.get(event.name, ()):
                self.add_event(event)
        for type, function in other.middleware.items():
            if self.middleware.get(type) is not function:
                self.add_middleware(type, function)

    def signatures(self) -> Iterator[Signature]:
        """Signatures of all handlers."""
        for table in (self.procedures, self.receivers):
            for handler in table.values():
                yield handler.signature
        for event in self.all_events():
            yield event.signature
        for channel in self.channels.values():
            yield from filter(None, (channel.subscribe, channel.publish))

    def all_events(self) -> Iterator[EventHandler]:
        """All handlers of events."""
        for handlers in self.events.values():
            yield from handlers

    def _add(self, what: str, table: dict[str, Any], name: str, handler: Any) -> None:
        if name in table:
            raise UsageError(f"{handler.place}: {what} has a handler already: {table[name].place}")
        self._put(table, name, handler)

    def _put(self, table: dict[Any, Any], key: Any, added: Any) -> None:
        table[key] = added
        try:
            self.on_added(added)
        except BaseException:
            del table[key]
            raise
