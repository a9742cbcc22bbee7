"""What each message of a server does to a client. Source: SocketCluster protocol 2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from socketcluster.errors import (
    BadConnectionError,
    InvalidMessageError,
    ResourceLimitError,
    dehydrate_error,
    internal_error,
)
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
from socketcluster.protocol.state import OPEN
from socketcluster.sockets.messaging import unknown_procedure
from socketcluster.sockets.request import AGRequest, report_dropped, report_failed
from socketcluster.streams import MADE_WEIGHT, NO_VALUE, StreamDemux

if TYPE_CHECKING:
    from socketcluster.client.socket import AGClientSocket


class LinkResponder:
    """Carries the answer to a call by the server over the connection that it came by, or
    nowhere."""

    __slots__ = ("_link", "_socket")

    def __init__(self, socket: AGClientSocket) -> None:
        self._socket = socket
        self._link = socket.link

    def respond(self, rid: int | float, data: Any, error: BaseException | str | None) -> None:
        """See `Responder.respond`."""
        self._socket.loop_binding.check()
        link = self._link
        if link is None or link.writer is None or link.writer.closed:
            self._socket.emit_error(BadConnectionError("WebSocket is not open", "disconnect"))
            return
        packet: dict[str, Any] = {"rid": rid}
        if error is not None:
            packet["error"] = dehydrate_error(error)
        elif data is not None:
            packet["data"] = data
        link.writer.send(packet)

    def request_dropped(self, rid: int | float, procedure: str) -> None:
        """See `Responder.request_dropped`."""
        self._socket.loop_binding.finalize(self._answer_dropped, rid, procedure)

    def _answer_dropped(self, rid: int | float, procedure: str) -> None:
        if self._link is not None and self._link.state == OPEN:
            report_dropped(self._socket.reporter, procedure)
            self.respond(rid, None, internal_error())

    def request_failed(self, procedure: str, error: BaseException) -> None:
        """See `Responder.request_failed`."""
        report_failed(self._socket.reporter, procedure, error)


def receive(socket: AGClientSocket, message: bytes) -> None:
    """Carry out a message that is no ping."""
    try:
        decoded = socket.wire.decode(message)
    except InvalidMessageError as error:
        _unreadable(socket, error, socket.wire.cid_of(message))
        return
    if isinstance(decoded, Batch):
        for index in range(len(decoded)):
            try:
                _dispatch(socket, decoded.packet(index), message)
            except InvalidMessageError as error:  # It is not the end of the others.
                socket.emit_error(error)
    else:
        _dispatch(socket, decoded, message)
    socket.reading.received()


def _unreadable(
    socket: AGClientSocket, error: InvalidMessageError, cid: int | float | None
) -> None:
    socket.emit_error(error)
    if cid is not None:
        try:
            LinkResponder(socket).respond(cid, None, error)
        except ResourceLimitError as full:  # There is no room for the answer.
            socket.emit_error(full)


def _dispatch(socket: AGClientSocket, packet: AnyPacket, message: bytes) -> None:
    event = packet.event
    if event is None:
        assert isinstance(packet, Packet)
        if packet.rid is not None:
            # What is in the outbox was not sent yet, and cannot be answered.
            if packet.rid in socket.calls and packet.rid not in socket.outbox:
                socket.calls.answer(packet.rid, *answer_of(packet))
        elif socket.get_listener_consumer_count("raw"):
            socket.emit("raw", RawEvent(public_message(message)))
        return
    if packet.cid is None:
        _dispatch_event(socket, event, packet.data)
        return
    data, size = packet.data, 0
    if type(data) is Unparsed:
        size = data.size
        try:
            data = data.parse()
        except InvalidMessageError as invalid:
            _unreadable(socket, invalid, packet.cid)
            return
    request = AGRequest(socket, packet.cid, event, data, LinkResponder(socket))
    try:
        _dispatch_call(socket, request, size)
    except ResourceLimitError as full:  # There is no room for the answer.
        socket.emit_error(full)


def _dispatch_event(socket: AGClientSocket, event: str, data: Any) -> None:
    version = socket.options.protocol_version
    handler = (_EVENTS if version == 2 else _EVENTS_OF_VERSION_1).get(event)
    if type(data) is Unparsed:
        if handler is None:
            _deliver_later(socket, socket.streams.receiver_demux, event, data.size, data.parse)
            return
        try:
            data = data.parse()
        except InvalidMessageError as invalid:
            socket.emit_error(invalid)
            return
    if handler is not None:
        handler(socket, data)
    else:
        socket.streams.receiver_demux.put(event, data)


def _dispatch_call(socket: AGClientSocket, request: AGRequest, size: int) -> None:
    event = request.procedure
    procedure = _PROCEDURES.get(event)
    if procedure is not None:
        procedure(socket, request)
        return
    if size:
        found = socket.streams.procedure_demux.write_deferred(
            event, size * MADE_WEIGHT, lambda: request
        )
    else:
        found = socket.streams.procedure_demux.put(event, request)
    if not found:
        request.error(unknown_procedure(event))


def _deliver_later(
    socket: AGClientSocket,
    streams: StreamDemux[Any],
    name: str,
    size: int,
    parse: Callable[[], Any],
) -> None:
    """Give data to the consumers of a stream, parsed when the first of them takes it."""

    def make() -> Any:
        try:
            return parse()
        except InvalidMessageError as error:
            socket.emit_error(error)
            return NO_VALUE

    streams.write_deferred(name, size, make)


def _published(socket: AGClientSocket, data: Any) -> None:
    if isinstance(data, Publication):
        channel, payload = data.channel, cast(Any, data.data)
    elif isinstance(data, dict) and isinstance(data.get("channel"), str):
        channel, payload = data["channel"], data.get("data")
    else:
        return
    channel = socket.subscribed.undecorated(channel)
    # A payload that nobody wants is not parsed.
    if channel in socket.subscribed.channels and socket.has_channel_consumer(channel):
        outputs = socket._channel_outputs
        if type(payload) is msgspec.Raw:
            data = bytes(payload)
            parse = partial(socket.wire.payloads.decode, data)
            if len(data) > socket.wire.unparsed_above:
                _deliver_later(socket, outputs, channel, len(data), parse)
            else:
                outputs.put(channel, parse())
        else:
            outputs.put(channel, payload)


def _kicked_out(socket: AGClientSocket, data: Any) -> None:
    if isinstance(data, dict) and isinstance(data.get("channel"), str):
        channel = socket.subscribed.undecorated(data["channel"])
        socket.subscribed.kicked_out(channel, data.get("message"))


def _given_token(socket: AGClientSocket, data: Any) -> bool:
    token = data.get("token") if isinstance(data, dict) else None
    if not isinstance(token, str):
        return False
    socket.auth.given(token)
    return True


def _token_event(socket: AGClientSocket, data: Any) -> None:
    if not _given_token(socket, data):
        socket.emit_error(_no_token())


def _token_call(socket: AGClientSocket, request: AGRequest) -> None:
    if _given_token(socket, request.data):
        request.end()
    else:
        request.error(_no_token())


def _told_to_leave(socket: AGClientSocket, data: Any) -> None:
    # How servers of protocol 1 say why they close: their close frame has only the code.
    code = data.get("code") if isinstance(data, dict) else None
    link = socket.link
    if link is not None and type(code) is int and may_be_sent(code):
        reason = data.get("data")
        link.close(code, reason if isinstance(reason, str) else None)


def _no_token() -> InvalidMessageError:
    return InvalidMessageError("No token data provided by #setAuthToken event")


def _token_taken(socket: AGClientSocket, data: Any) -> None:
    socket.auth.taken()


def _token_taken_call(socket: AGClientSocket, request: AGRequest) -> None:
    socket.auth.taken()
    request.end()


_EVENTS: dict[str, Callable[[AGClientSocket, Any], object]] = {
    "#publish": _published,
    "#kickOut": _kicked_out,
    "#setAuthToken": _token_event,
    "#removeAuthToken": _token_taken,
}
_EVENTS_OF_VERSION_1 = {**_EVENTS, "#disconnect": _told_to_leave}
_PROCEDURES: dict[str, Callable[[AGClientSocket, AGRequest], None]] = {
    "#setAuthToken": _token_call,
    "#removeAuthToken": _token_taken_call,
}


def show_message(socket: AGClientSocket, message: bytes) -> None:
    """Emit 'message', if anybody listens."""
    if socket.get_listener_consumer_count("message"):
        socket.emit("message", MessageEvent(public_message(message)))
