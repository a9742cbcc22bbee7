"""What each message of a server does to a client. Source: SocketCluster protocol 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from socketcluster.client.link import Link
from socketcluster.errors import (
    BadConnectionError,
    InvalidMessageError,
    UnknownProcedureError,
    dehydrate_error,
    hydrate_error,
)
from socketcluster.events import MessageEvent, RawEvent
from socketcluster.protocol.packets import Packet, Publication, PublishPacket, readable
from socketcluster.request import AGRequest

if TYPE_CHECKING:
    from socketcluster.client.socket import AGClientSocket


class ClientRequest(AGRequest):
    """A call by the server; its answer goes to the connection that it came over, or nowhere."""

    __slots__ = ("_link",)

    def __init__(
        self, socket: AGClientSocket, link: Link | None, cid: int | float, procedure: str, data: Any
    ) -> None:
        super().__init__(socket, cid, procedure, data)
        self._link = link

    def _answer(self, data: Any, error: BaseException | str | None) -> None:
        link = self._link
        if link is None or link.writer is None or link.writer.closed:
            self.socket.emit_error(BadConnectionError("WebSocket is not open", "disconnect"))
            return
        packet: dict[str, Any] = {"rid": self.id}
        if error is not None:
            packet["error"] = dehydrate_error(error)
        elif data is not None:
            packet["data"] = data
        link.writer.send(packet)


def receive(socket: AGClientSocket, message: bytes) -> None:
    """Carry out a message that is no ping."""
    try:
        decoded = socket.wire.decode(message)
    except InvalidMessageError as error:
        socket.emit_error(error)
        return
    for packet in decoded if isinstance(decoded, list) else [decoded]:
        _dispatch(socket, packet, message)


def _dispatch(socket: AGClientSocket, packet: Packet | PublishPacket, message: bytes) -> None:
    event = packet.event
    if event is None:
        assert isinstance(packet, Packet)
        if packet.rid is not None:
            error = None if packet.error is None else hydrate_error(packet.error)
            socket.calls.answer(packet.rid, error, packet.data)
        elif socket.get_listener_consumer_count("raw"):
            socket.emit("raw", RawEvent(readable(message)))
    elif packet.cid is None:
        handler = _EVENTS.get(event)
        if handler is not None:
            handler(socket, packet.data)
        else:
            socket.receivers.write(event, packet.data)
    else:
        request = ClientRequest(socket, socket.link, packet.cid, event, packet.data)
        procedure = _PROCEDURES.get(event)
        if procedure is not None:
            procedure(socket, request)
        elif not socket.procedures.write(event, request):
            name = event if len(event) <= 100 else event[:100] + "…"
            request.error(UnknownProcedureError(f"There is no procedure {name!r}"))


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
        if type(payload) is msgspec.Raw:
            try:
                payload = socket.wire.decode_payload(bytes(payload))
            except InvalidMessageError as error:
                socket.emit_error(error)
                return
        socket.write_channel(channel, payload)


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


def _token_call(socket: AGClientSocket, request: ClientRequest) -> None:
    if _given_token(socket, request.data):
        request.end()
    else:
        request.error(_no_token())


def _no_token() -> InvalidMessageError:
    return InvalidMessageError("No token data provided by #setAuthToken event")


def _token_taken(socket: AGClientSocket, data: Any) -> None:
    socket.auth.taken()


def _token_taken_call(socket: AGClientSocket, request: ClientRequest) -> None:
    socket.auth.taken()
    request.end()


_EVENTS: dict[str, Callable[[AGClientSocket, Any], object]] = {
    "#publish": _published,
    "#kickOut": _kicked_out,
    "#setAuthToken": _token_event,
    "#removeAuthToken": _token_taken,
}
_PROCEDURES: dict[str, Callable[[AGClientSocket, ClientRequest], None]] = {
    "#setAuthToken": _token_call,
    "#removeAuthToken": _token_taken_call,
}


def show_message(socket: AGClientSocket, message: bytes) -> None:
    """Emit 'message', if anybody listens."""
    if socket.get_listener_consumer_count("message"):
        socket.emit("message", MessageEvent(readable(message)))
