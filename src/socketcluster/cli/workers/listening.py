"""The listening sockets of the workers.

The supervisor owns one for each slot, all on one port (SO_REUSEPORT), and passes it to each process
of the slot. So connections that wait in its accept queue survive a process: the next one accepts
them. A Unix socket, and a single socket that was passed to the supervisor, is shared by all slots.
"""

from __future__ import annotations

import socket
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from socketcluster.cli.settings import Settings
from socketcluster.engines.base import ListenAddress
from socketcluster.engines.bound_socket import bind


class ListeningSockets:
    """The sockets of all slots.

    Args:
        sockets: those of each slot; a socket may serve several slots.
        address: the text that is printed.
        own: whether each slot has a socket of its own, which this program has opened.
    """

    def __init__(
        self, sockets: Sequence[Sequence[socket.socket]], address: str, *, own: bool
    ) -> None:
        self.address = address
        self._sockets = sockets
        self._own = own

    def fds(self, slot: int) -> tuple[int, ...]:
        """Return the descriptors of a slot, counted from 0."""
        return tuple(each.fileno() for each in self._sockets[slot])

    def pause(self, slot: int) -> None:
        """Stop listening in a slot, so that clients connect to others, until a worker listens."""
        if self._own:
            for each in self._sockets[slot]:
                if each.fileno() >= 0:
                    each.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close the supervisor's sockets; those of the workers stay open."""
        for sockets in self._sockets:
            for each in sockets:
                each.close()


@contextmanager
def listening_sockets(settings: Settings, slots: int) -> Generator[ListeningSockets, None, None]:
    """Yield the bound sockets of as many slots.

    Raises:
        OSError: the address is in use, not available, or not permitted.
    """
    with ExitStack() as stack:
        if settings.fds:
            passed = [stack.enter_context(socket.socket(fileno=fd)) for fd in settings.fds]
            sockets = ListeningSockets(_spread(passed, slots), settings.address(None), own=False)
        elif settings.uds is not None:
            bound = stack.enter_context(bind(ListenAddress(uds=settings.uds)))
            stack.callback(Path(settings.uds).unlink, missing_ok=True)
            sockets = ListeningSockets([[bound]] * slots, settings.address(None), own=False)
        else:
            own = [stack.enter_context(each) for each in _bind_all(settings, slots)]
            address = settings.address(own[0].getsockname()[1])
            sockets = ListeningSockets([[each] for each in own], address, own=True)
        yield sockets


def _bind_all(settings: Settings, slots: int) -> list[socket.socket]:
    host, port = settings.host, settings.port
    if not settings.reuse_port:
        # First without SO_REUSEPORT, so that the port of another program is refused, not shared.
        with bind(ListenAddress(host, port)) as bound:
            port = bound.getsockname()[1]
    sockets: list[socket.socket] = []
    try:
        for _ in range(slots):
            sockets.append(bind(ListenAddress(host, port, reuse_port=True)))
            port = sockets[0].getsockname()[1]
    except BaseException:
        for each in sockets:
            each.close()
        raise
    return sockets


def _spread(sockets: Sequence[socket.socket], slots: int) -> list[list[socket.socket]]:
    """Share out passed sockets: every slot serves every address.

    Several sockets of one address go to the slots in turn, and a single one to all.
    """
    spread: list[list[socket.socket]] = [[] for _ in range(slots)]
    addresses: dict[object, list[socket.socket]] = {}
    for each in sockets:
        addresses.setdefault(each.getsockname(), []).append(each)
    for group in addresses.values():
        for number in range(slots):
            spread[number] += group[number::slots] or [group[number % len(group)]]
    return spread
