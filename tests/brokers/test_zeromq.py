"""The ZeroMQ proxy's files: accessible to one user, and never opened through symbolic links."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from socketcluster.brokers.zeromq import Proxy
from socketcluster.errors import BrokerError


@pytest.fixture(params=[0o000, 0o022, 0o077])
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_sockets_and_lock_are_for_this_user_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    proxy = Proxy(str(tmp_path / "b"))
    proxy.start()
    try:
        assert [mode(tmp_path / f"b.{end}") for end in ("in", "out", "lock")] == [0o600] * 3
        assert os.umask(mask) == mask
    finally:
        proxy.stop()


def test_one_that_takes_over_makes_them_so_too(tmp_path: Path) -> None:
    before = os.umask(0)
    first, second = Proxy(str(tmp_path / "b")), Proxy(str(tmp_path / "b"))
    try:
        first.start()
        second.start()
        first.stop()
        assert second._running.wait(10)
        assert [mode(tmp_path / f"b.{end}") for end in ("in", "out")] == [0o600] * 2
    finally:
        second.stop()
        os.umask(before)


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing"])
def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path, there: bool) -> None:
    other = tmp_path / "other"
    if there:
        other.write_bytes(b"precious")
    (tmp_path / "b.lock").symlink_to(other)
    with pytest.raises(BrokerError, match=r"b\.lock is a symbolic link"):
        Proxy(str(tmp_path / "b")).start()
    assert other.exists() == there
    assert not there or other.read_bytes() == b"precious"


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    proxy = Proxy(str(tmp_path / "b"))
    proxy.start()
    try:
        assert proxy._lock is not None
        assert not os.get_inheritable(proxy._lock.fileno())
    finally:
        proxy.stop()
