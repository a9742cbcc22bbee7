"""The options of `serve` for listening: contradictions, and sockets that were passed on."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, MutableMapping

from socketcluster.cli.exit_status import usage_error
from socketcluster.cli.systemd import take_passed_fds

_ADDRESS_OPTIONS = ("host", "port", "uds", "reuse_port")


def inherited_sockets(
    fd: int | None, used: Collection[str], environment: MutableMapping[str, str]
) -> tuple[int, ...]:
    """Return the descriptors of the listening sockets that this process has inherited.

    Args:
        fd: the option `fd`, from the command line, a variable or the file.
        used: the names of the options on the command line, as in Python.
        environment: variables, of which those of systemd's socket activation are removed.

    Raises:
        CommandError: two options contradict each other, or a descriptor is no stream socket.
    """
    passed = take_passed_fds(environment)
    if "uds" in used and "reuse_port" in used:
        raise usage_error("--uds and --reuse-port exclude one another: a Unix socket has no port")
    if fd is None and not passed:
        return ()
    if fd is not None and passed:
        raise usage_error("--fd and the sockets of systemd exclude one another: leave out --fd")
    source = "systemd passed a listening socket" if fd is None else "--fd is a listening socket"
    for name in (*_ADDRESS_OPTIONS, "reload"):
        if name in used:
            option = f"--{name.replace('_', '-')}"
            raise usage_error(f"{source}, with which {option} has no effect: leave out {option}")
    fds = passed if fd is None else (fd,)
    for each in fds:
        _check(each, "systemd's" if fd is None else "--fd:")
        os.set_inheritable(each, False)
    return fds


def _check(fd: int, source: str) -> None:
    try:
        found = socket.socket(fileno=fd)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise usage_error(
            f"{source} descriptor {fd} is not a socket that this process has inherited: {reason}"
        ) from None
    try:
        if found.type != socket.SOCK_STREAM:
            raise usage_error(f"{source} descriptor {fd} is not a stream socket (TCP or Unix)")
    finally:
        found.detach()
