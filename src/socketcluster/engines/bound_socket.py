"""Binds the listening socket of a `ListenAddress`."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from socketcluster.engines.base import ListenAddress


def bind(address: ListenAddress) -> socket.socket:
    """Bind a socket to an address.

    Raises:
        OSError: the address is in use, not available, or not permitted; the text names it.
    """
    if address.fd is not None:
        bound = socket.socket(fileno=address.fd)
        bound.setblocking(False)
        return bound
    if address.uds is not None:
        return _bind_unix(address.uds)
    try:
        return _bind_tcp(address)
    except OSError as error:
        raise OSError(
            error.errno, f"Cannot listen on {address.host}:{address.port}: {error.strerror}"
        ) from error


def _bind_tcp(address: ListenAddress) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(where)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _bind_unix(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_abandoned(path):
            os.unlink(path)
        bound.bind(path)
    except OSError as error:
        bound.close()
        raise OSError(
            error.errno, f"Cannot listen on the Unix socket {path}: {error.strerror or error}"
        ) from error
    return bound


def _is_abandoned(path: str) -> bool:
    """Whether a path is a socket without a listener, as a killed process leaves one behind."""
    if not Path(path).is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED
