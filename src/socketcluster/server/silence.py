"""Whether a peer is alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket


def hears(socket: AGServerSocket, now: float, timeout: float) -> bool:
    """Whether the peer is alive: it sent something in the last `timeout` seconds, a part of a
    message too, or it is not being read from. `now` is the ticker's."""
    inbound = socket.inbound
    if inbound.reading.was_paused():
        inbound.last_seen = now
        return True
    silence = now - inbound.last_seen
    if silence > timeout / 2:
        activity = socket.connection.get_activity()
        if inbound.silence is None or inbound.silence[0] != inbound.last_seen:
            inbound.silence = (inbound.last_seen, activity)
        elif activity != inbound.silence[1]:
            inbound.last_seen = now
            inbound.silence = (now, activity)
            silence = 0.0
    return silence <= timeout
