"""Sockets on which the TCP options that picows sets have no effect: Unix sockets have none."""

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
    """As much of a connected socket as a picows parser needs: its file number."""

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
