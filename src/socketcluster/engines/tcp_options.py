"""Sockets that ignore the TCP options that picows sets, because Unix sockets have none."""

from __future__ import annotations

import socket
from typing import Any


class _IgnoresOptionsMixin:
    __slots__ = ()

    def setsockopt(self, *args: Any) -> None:
        pass

    def getsockopt(self, *args: Any) -> Any:
        return 0


class FileNumber(_IgnoresOptionsMixin):
    """A connected socket, reduced to its file number, which is all that a picows parser needs."""

    __slots__ = ("_fileno",)

    def __init__(self, fileno: int) -> None:
        self._fileno = fileno

    def fileno(self) -> int:
        """The file number."""
        return self._fileno


class UnixSocket(_IgnoresOptionsMixin, socket.socket):
    """A Unix socket that picows can connect with."""

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
