"""The users of a server, and the sockets of each in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from socketcluster.errors import UsageError
from socketcluster.server.options import ServerOptions
from socketcluster.server.socket import AGServerSocket

TOO_MANY_SOCKETS = "The user has too many connections"
UNKNOWN_USER = "The user of the connection cannot be found out"


def user_of_token(socket: AGServerSocket) -> str | None:
    """Return the claim `sub` of a socket's token, else `username`; an integer as text."""
    claims = cast("object", socket.auth.token)
    if not isinstance(claims, Mapping):
        return None
    for name in ("sub", "username"):
        user = claims.get(name)
        if type(user) is int or (isinstance(user, str) and user):
            return str(user)
    return None


class UserIndex:
    """The sockets of each user. A socket is in it from its log-in until its log-out or end.

    A socket past `sockets_per_user` is closed with 1008, and the user's older sockets stay. With
    that limit a socket is closed with 1011 if the option `identify` fails.

    Attributes:
        follows_tokens: whether the user depends on the token only, as without the option
            `identify`.
    """

    __slots__ = (
        "_count",
        "_identify",
        "_limit",
        "_report_fault",
        "_sockets",
        "_users",
        "follows_tokens",
    )

    def __init__(
        self,
        options: ServerOptions,
        count: Callable[[str], None],
        report_fault: Callable[[BaseException], None],
    ) -> None:
        """`count(kind)` counts a limit that was exceeded."""
        self.follows_tokens: bool = options.identify is None
        self._identify = options.identify or user_of_token
        self._limit = None if options.limits is None else options.limits.sockets_per_user
        self._count = count
        self._report_fault = report_fault
        self._sockets: dict[str, dict[str, AGServerSocket]] = {}
        self._users: dict[str, str] = {}

    def identify(self, socket: AGServerSocket) -> str | None:
        """Return the user of a socket. A fault of the option `identify` is reported."""
        try:
            return self._find(socket)
        except Exception as error:
            self._report_fault(error)
            return None

    def _find(self, socket: AGServerSocket) -> str | None:
        user: Any = self._identify(socket)
        if user is not None and not isinstance(user, str):
            raise UsageError(f"The identify option must return a str or None, not {user!r}")
        return user

    def sockets(self, user: str) -> list[AGServerSocket]:
        """Return the sockets of a user, the oldest log-in first."""
        return list(self._sockets.get(user, {}).values())

    def update(self, socket: AGServerSocket) -> None:
        """Find out the user of a socket anew; close the socket if the user has too many."""
        if socket.life.ended:
            return
        try:
            user = self._find(socket)
        except Exception as error:
            self._report_fault(error)
            user = None
            if self._limit is not None:  # Else it would be a way around the limit.
                socket.disconnect(1011, UNKNOWN_USER)
        if user == self._users.get(socket.id):
            return
        self.forget(socket)
        if user is None:
            return
        if self._limit is not None and len(self._sockets.get(user, ())) >= self._limit:
            self._count("sockets_per_user")
            socket.disconnect(1008, TOO_MANY_SOCKETS)
            return
        self._users[socket.id] = user
        self._sockets.setdefault(user, {})[socket.id] = socket

    def forget(self, socket: AGServerSocket) -> None:
        """Remove a socket."""
        user = self._users.pop(socket.id, None)
        if user is not None:
            sockets = self._sockets[user]
            del sockets[socket.id]
            if not sockets:
                del self._sockets[user]


class UsersMixin:
    """The users of a server's sockets."""

    __slots__ = ()

    users: UserIndex

    def identify(self, socket: AGServerSocket) -> str | None:
        """Return the user of a socket: the claim `sub`, else `username`, or as `identify` says.

        None for a socket without a user.
        """
        return self.users.identify(socket)

    def user_sockets(self, user: str) -> list[AGServerSocket]:
        """Return the sockets of a user in this process, the oldest log-in first."""
        return self.users.sockets(user)
