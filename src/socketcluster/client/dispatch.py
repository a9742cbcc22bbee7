"""The dispatcher of a client: carries out each packet from the server.

Source: SocketCluster protocol 2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import msgspec

from socketcluster.client.authentication import ClientAuth
from socketcluster.client.connection import ClientConnection
from socketcluster.client.flow_control import FlowControl
from socketcluster.client.handling import ClientHandling, HandledConnection
from socketcluster.client.messaging import ClientMessaging
from socketcluster.client.recovering import Recovering
from socketcluster.client.reporting import Events
from socketcluster.client.responder import ConnectionResponder
from socketcluster.client.settings import Settings
from socketcluster.client.subscriptions import Subscriptions
from socketcluster.errors import InvalidMessageError, ResourceLimitError
from socketcluster.events import MessageEvent, RawEvent
from socketcluster.protocol.frames import may_be_sent
from socketcluster.protocol.packets import (
    AnyPacket,
    Batch,
    Packet,
    Publication,
    Unparsed,
    answer_of,
    public_message,
)
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.sockets.messaging import unknown_procedure
from socketcluster.sockets.request import AGRequest
from socketcluster.sockets.streams import PeerStreams
from socketcluster.streams import MADE_WEIGHT, NO_VALUE, StreamDemux


class Dispatcher:
    """Carries out the messages of one client's server, in the order in which they arrive."""

    __slots__ = (
        "_auth",
        "_binding",
        "_channel_outputs",
        "_connection",
        "_event_handlers",
        "_events",
        "_flow_control",
        "_handled",
        "_handlers",
        "_messaging",
        "_procedure_handlers",
        "_recovering",
        "_responder",
        "_settings",
        "_socket",
        "_streams",
        "_subscriptions",
    )

    def __init__(
        self,
        socket: Any,
        settings: Settings,
        binding: LoopBinding,
        messaging: ClientMessaging,
        auth: ClientAuth,
        subscriptions: Subscriptions,
        streams: PeerStreams,
        channel_outputs: StreamDemux[Any],
        handlers: ClientHandling,
        flow_control: FlowControl,
        events: Events,
    ) -> None:
        """`socket` is the `socket` attribute of requests."""
        self._socket = socket
        self._settings = settings
        self._binding = binding
        self._messaging = messaging
        self._auth = auth
        self._subscriptions = subscriptions
        self._streams = streams
        self._channel_outputs = channel_outputs
        self._handlers = handlers
        self._flow_control = flow_control
        self._events = events
        own = self._published, self._deliver_event
        self._recovering = Recovering(settings, subscriptions, events, *own)
        self._connection: ClientConnection
        self._responder: ConnectionResponder
        self._handled: HandledConnection
        self._procedure_handlers: dict[str, Callable[[AGRequest], None]] = {
            "#setAuthToken": self._call_set_token,
            "#removeAuthToken": self._call_remove_token,
        }

    def use(self, connection: ClientConnection) -> None:
        """Answer calls over this connection from now on."""
        self._connection = connection
        self._responder = ConnectionResponder(connection, self._events, self._binding)
        self._handled = self._handlers.connection(self._responder)
        self._event_handlers: dict[str, Callable[[Any], object]] = {
            "#publish": self._published,
            "#kickOut": self._kicked_out,
            "#setAuthToken": self._set_token_event,
            "#removeAuthToken": self._remove_token_event,
        }
        if self._settings.options.protocol_version == 1:
            self._event_handlers["#disconnect"] = self._disconnect_event
        self._recovering.add_to(self._event_handlers)

    def receive(self, message: bytes, is_ping: bool) -> None:
        """Emit 'message' if it has listeners, and carry the message out unless it is a ping."""
        if self._events.has_listener("message"):
            self._events.emit("message", MessageEvent(public_message(message)))
        if is_ping:
            return
        try:
            decoded = self._settings.reader.decode(message)
        except InvalidMessageError as error:
            self._reject(error, self._settings.wire.cid_of(message))
            return
        if isinstance(decoded, Batch):
            for index in range(len(decoded)):
                try:
                    self._dispatch(decoded.packet(index), message)
                except InvalidMessageError as error:  # The others are carried out all the same.
                    self._events.emit_error(error)
        else:
            self._dispatch(decoded, message)
        self._flow_control.received()

    def _reject(self, error: InvalidMessageError, cid: int | float | None) -> None:
        self._events.emit_error(error)
        if cid is not None:
            try:
                self._responder.respond(cid, None, error)
            except ResourceLimitError as full:  # There is no room for the answer.
                self._events.emit_error(full)

    def _dispatch(self, packet: AnyPacket, message: bytes) -> None:
        event = packet.event
        if event is None:
            assert isinstance(packet, Packet)
            self._dispatch_answer(packet, message)
        elif packet.cid is None:
            self._dispatch_event(event, packet.data)
        else:
            self._dispatch_call(packet.cid, event, packet.data)

    def _dispatch_answer(self, packet: Packet, message: bytes) -> None:
        if packet.rid is not None:
            # A packet in the outbox was not sent yet, and cannot be answered.
            messaging = self._messaging
            if packet.rid in messaging.calls and packet.rid not in messaging.outbox:
                messaging.calls.answer(packet.rid, *answer_of(packet))
        elif self._events.has_listener("raw"):
            self._events.emit("raw", RawEvent(public_message(message)))

    def _dispatch_event(self, event: str, data: Any) -> None:
        handler = self._event_handlers.get(event)
        if handler is None:
            self._handlers.receive_event(self._handled, event, data)
        if type(data) is Unparsed:
            if handler is None:
                self._deliver_unparsed(self._streams.receiver_demux, event, data.size, data.parse)
                return
            try:
                data = data.parse()
            except InvalidMessageError as invalid:
                self._events.emit_error(invalid)
                return
        if handler is not None:
            handler(data)
        else:
            self._streams.put_event(event, data)

    def _dispatch_call(self, cid: int | float, event: str, data: Any) -> None:
        if event not in self._procedure_handlers and self._handlers.receive_call(
            self._handled, cid, event, data
        ):
            return
        size = 0
        if type(data) is Unparsed:
            size = data.size
            try:
                data = data.parse()
            except InvalidMessageError as invalid:
                self._reject(invalid, cid)
                return
        request = AGRequest(self._socket, cid, event, data, self._responder)
        try:
            self._deliver_request(request, size)
        except ResourceLimitError as full:  # There is no room for the answer.
            self._events.emit_error(full)

    def _deliver_request(self, request: AGRequest, size: int) -> None:
        event = request.procedure
        handler = self._procedure_handlers.get(event)
        if handler is not None:
            handler(request)
            return
        if size:
            procedures = self._streams.procedure_demux
            found = procedures.write_deferred(event, size * MADE_WEIGHT, lambda: request)
        else:
            found = self._streams.put_call(event, request)
        if not found:
            request.error(unknown_procedure(event))

    def _deliver_unparsed(
        self, streams: StreamDemux[Any], name: str, size: int, parse: Callable[[], Any]
    ) -> None:
        """Deliver data that is parsed when its first consumer takes it."""

        def make() -> Any:
            try:
                return parse()
            except InvalidMessageError as error:
                self._events.emit_error(error)
                return NO_VALUE

        streams.write_deferred(name, size, make)

    # The protocol's own events and procedures

    def _published(self, data: Any) -> None:
        if isinstance(data, Publication):
            channel, payload = data.channel, cast("Any", data.data)
        elif isinstance(data, dict) and isinstance(data.get("channel"), str):
            channel, payload = data["channel"], data.get("data")
        else:
            return
        outputs = self._channel_outputs
        channel = self._subscriptions.undecorated(channel)
        # A payload without a consumer is not parsed.
        if channel not in self._subscriptions.channels or not outputs.get_consumer_count(channel):
            return
        if type(payload) is not msgspec.Raw:
            outputs.put(channel, payload)
            return
        wire, received = self._settings.wire, bytes(payload)
        if len(received) > wire.unparsed_above:
            parse = partial(wire.payloads.decode, received)
            self._deliver_unparsed(outputs, channel, len(received), parse)
        else:
            outputs.put(channel, wire.payloads.decode(received))

    def _deliver_event(self, event: str, data: Any) -> None:
        self._handlers.receive_event(self._handled, event, data)
        self._streams.put_event(event, data)

    def _kicked_out(self, data: Any) -> None:
        if isinstance(data, dict) and isinstance(data.get("channel"), str):
            channel = self._subscriptions.undecorated(data["channel"])
            self._subscriptions.kicked_out(channel, data.get("message"))

    def _set_token(self, data: Any) -> bool:
        token = data.get("token") if isinstance(data, dict) else None
        if not isinstance(token, str):
            return False
        self._auth.set_token(token)
        return True

    def _set_token_event(self, data: Any) -> None:
        if not self._set_token(data):
            self._events.emit_error(_no_token())

    def _call_set_token(self, request: AGRequest) -> None:
        if self._set_token(request.data):
            request.end()
        else:
            request.error(_no_token())

    def _remove_token_event(self, data: Any) -> None:
        self._auth.remove_token()

    def _call_remove_token(self, request: AGRequest) -> None:
        self._auth.remove_token()
        request.end()

    def _disconnect_event(self, data: Any) -> None:
        # Servers of protocol 1 give the reason here: their close frame has only the code.
        code = data.get("code") if isinstance(data, dict) else None
        if type(code) is int and may_be_sent(code):
            reason = data.get("data")
            self._connection.close(code, reason if isinstance(reason, str) else None)


def _no_token() -> InvalidMessageError:
    return InvalidMessageError("No token data provided by #setAuthToken event")
