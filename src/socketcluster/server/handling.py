"""The handlers of a server: its decorators, and the sources of their parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from socketcluster.codecs.base import CodecEngine
from socketcluster.codecs.json import JSONCodec
from socketcluster.errors import InvalidMessageError, UsageError
from socketcluster.handlers.handler import ChannelHandler, EventHandler, ProcedureHandler
from socketcluster.handlers.plan import Source, get_socket
from socketcluster.handlers.router import Decorators
from socketcluster.literals import MiddlewareType
from socketcluster.middleware import MIDDLEWARE_INBOUND, MiddlewareFunction
from socketcluster.pubsub.exchange import AGExchange
from socketcluster.pubsub.rules import ChannelRule
from socketcluster.server.channel_policy import ChannelPolicy
from socketcluster.server.context import SocketContext
from socketcluster.server.hub import Hub
from socketcluster.server.lifecycle import Lifecycle
from socketcluster.server.listeners import SERVER_EVENTS
from socketcluster.server.middleware import MiddlewareMixin
from socketcluster.server.packets.direct import direct_table
from socketcluster.server.packets.limited import limited_table
from socketcluster.server.parts.deciders import Decider, Deciders
from socketcluster.server.socket import AGServerSocket
from socketcluster.sockets.handling import Handling
from socketcluster.sockets.streams import handled_twice
from socketcluster.streams import AsyncStreamEmitter


def server_sources(server: Any, exchange: AGExchange) -> dict[str, Source]:
    """Return the sources of the parameters of a server's handlers, except the data or the event."""
    return {
        "socket": Source(AGServerSocket, get_socket, "socket"),
        "server": Source(type(server), lambda invocation: server, "server"),
        "exchange": Source(AGExchange, lambda invocation: exchange, "server"),
    }


def report_invalid(socket: AGServerSocket, error: Exception) -> None:
    """Emit that a client's data is invalid; count data that is no value at all as malformed."""
    socket.emit_error(error)
    if isinstance(error, InvalidMessageError):
        socket.inbound.rejections.count_malformed()


class HandlersMixin(Decorators, MiddlewareMixin, AsyncStreamEmitter):
    """The decorators of a server, and its events for handlers. Source: `Decorators`."""

    __slots__ = ()

    _context: SocketContext
    channel_policy: ChannelPolicy
    hub: Hub
    lifecycle: Lifecycle

    @property
    def handling(self) -> Handling:
        """The running of the handlers. See `socketcluster.testing.override`."""
        return self._context.handling

    def _connect_handlers(self) -> None:
        """React to handlers that are declared from now on; all other parts exist."""
        self.handlers.on_added = self._handler_added
        self.handlers.on_middleware = self._middleware_added
        self._context.handling.on_resolved = self._handlers_resolved

    def _middleware_added(self, type: MiddlewareType, function: MiddlewareFunction) -> None:
        self.set_middleware(type, function)

    def _handlers_resolved(self) -> None:
        context, handling = self._context, self._context.handling
        context.deciders = Deciders(
            handling.start,
            [(each, Decider(each, handling)) for each in self.handlers.channels.values()],
        )
        self._paths_changed()

    def _handler_added(self, added: Any) -> None:
        self.loop_binding.check()
        if isinstance(added, ProcedureHandler):
            for socket in self.hub.sockets():
                if socket.streams.has_procedure(added.name):
                    raise handled_twice(added.name, added.place, "a loop of a connected socket")
        if isinstance(added, EventHandler):
            self._context.reporter.check_event_name(added.name, SERVER_EVENTS)
        if isinstance(added, ChannelHandler) and (added.history or added.presence):
            self._add_rule(added)
        if self._context.handling.is_open:
            self._context.handling.resolve()
        if isinstance(added, ChannelHandler):  # Last, so that a wrong handler opens nothing.
            self.channel_policy.add(added.pattern)

    def _add_rule(self, handler: ChannelHandler) -> None:
        rule = ChannelRule(handler.pattern, history=handler.history, presence=handler.presence)
        try:
            self._context.exchange.add_rule(rule)
        except UsageError as error:
            raise UsageError(f"{handler.place}: {error}") from None
        self._begin_presence()

    @abstractmethod
    def _begin_presence(self) -> None:
        """Begin to follow the members of channels, if a rule has presence."""

    def set_codec_engine(self, codec_engine: CodecEngine) -> None:
        """Encode and decode messages with another codec from now on."""
        self.loop_binding.check()
        self._context.wire.use(codec_engine)
        self._paths_changed()

    def _paths_changed(self) -> None:
        context = self._context
        for removed in self.handlers.middleware.keys() - self.middleware_functions:
            del self.handlers.middleware[removed]
        # INBOUND middleware sees plain data, of each message; other parts may see each call.
        is_direct = (
            type(context.wire.codec) is JSONCodec
            and MIDDLEWARE_INBOUND not in self.middleware_functions
            and context.equip is None
        )
        context.direct = direct_table(context.handling) if is_direct else {}
        if context.rate_limits.size:
            context.direct = limited_table(context.direct, context.rate_limits)

    def emit(self, event: str, data: Any = None) -> None:
        """Emit an event to its handlers and its listeners."""
        if self._context.handling.events:
            self.loop_binding.check()
            self._context.handling.emit(event, data)
        super().emit(event, data)

    def emit_tracked(self, event: str, data: Any, done: Callable[[], None]) -> None:
        """Emit an event, and call `done()` when handlers and consumers have processed it."""
        if event not in self._context.handling.events:
            super().emit_tracked(event, data, done)
            return
        self.loop_binding.check()
        tasks = self._context.handling.emit(event, data)
        unfinished = 1 + len(tasks)

        def one_done(*_: Any) -> None:
            nonlocal unfinished
            unfinished -= 1
            if unfinished == 0:
                done()

        for task in tasks:
            task.add_done_callback(one_done)
        super().emit_tracked(event, data, one_done)

    def has_listener(self, event: str) -> bool:
        """Return whether an event has a handler or a listener."""
        return event in self._context.handling.events or super().has_listener(event)
