"""TLS connections: their handshakes wait for their turn."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conformance.sites import REQUEST, Site
from socketcluster.engines import request_limits, tls_acceptor
from socketcluster.engines.tls_acceptor import TlsAcceptor
from support import self_signed, soon, until


class Held:
    """A site with TLS whose pace admits nothing until `go`."""

    def __init__(self, engine: str, certfile: str) -> None:
        self.site = Site(engine)
        self.pace = self.site.endpoint.pace
        self.context = ssl.create_default_context(cafile=certfile)

    @property
    def acceptor(self) -> TlsAcceptor:
        acceptor = self.site.listeners[0]._acceptor
        assert isinstance(acceptor, TlsAcceptor)
        return acceptor

    @property
    def waiting(self) -> int:
        return len(self.pace._waiting)

    def hold(self) -> None:
        self.pace._left = 0

    def go(self) -> None:
        self.pace._turn()

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.site.port, ssl=self.context, server_hostname="localhost"
        )


@pytest.fixture(params=["picows", "asgi"])
async def held(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Held]:
    certfile, keyfile = self_signed(tmp_path)
    held = Held(request.param, certfile)
    await held.site.listen(ssl_certfile=certfile, ssl_keyfile=keyfile)
    yield held
    for listener in held.site.listeners:
        await listener.close()


async def test_a_handshake_waits_for_its_turn(held: Held) -> None:
    held.hold()
    dialling = [asyncio.ensure_future(held.dial()) for _ in range(3)]
    await until(lambda: held.waiting == 3)
    assert not any(each.done() for each in dialling)
    held.go()
    for each in dialling:
        reader, writer = await soon(each)
        writer.write(REQUEST)
        assert b" 101 " in await soon(reader.readline())
        writer.transport.abort()
    await until(lambda: not held.acceptor._tasks)


async def test_a_silent_client_holds_nothing_back_and_is_dropped(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = socket.create_connection(("127.0.0.1", held.site.port), 5)
    await until(lambda: len(held.acceptor._silent) == 1)
    reader, writer = await soon(held.dial())
    writer.write(REQUEST)
    assert b" 101 " in await soon(reader.readline())
    monkeypatch.setattr(request_limits, "HEAD_SECONDS", 0.05)
    reader2, writer2 = await asyncio.open_connection("127.0.0.1", held.site.port)
    assert await soon(reader2.read()) == b""
    for each in (writer, writer2):
        each.transport.abort()
    silent.close()


async def test_bytes_that_are_not_tls_end_the_connection(held: Held) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", held.site.port)
    writer.write(REQUEST)
    assert b"HTTP" not in await soon(reader.read())
    await until(lambda: not held.acceptor._tasks)
    writer.close()


async def test_a_closing_server_drops_those_that_are_not_encrypted_yet(held: Held) -> None:
    held.hold()
    silent, silent_writer = await asyncio.open_connection("127.0.0.1", held.site.port)
    ready, ready_writer = await asyncio.open_connection("127.0.0.1", held.site.port)
    ready_writer.write(b"\x16\x03\x01")
    await until(lambda: held.waiting == 1 and len(held.acceptor._silent) == 1)
    await held.site.listeners[0].close()
    assert await soon(silent.read()) == b""
    with contextlib.suppress(ConnectionResetError):  # Its bytes were not read.
        assert await soon(ready.read()) == b""
    held.go()
    assert not held.acceptor._tasks
    silent_writer.close()
    ready_writer.close()


async def test_without_descriptors_it_tries_again_later(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_acceptor, "AGAIN_SECONDS", 0.01)
    acceptor: Any = held.acceptor
    listening, attempts = acceptor._listening, []

    class Exhausted:
        def fileno(self) -> int:
            return int(listening.fileno())

        def accept(self) -> Any:
            attempts.append(1)
            if len(attempts) < 3:
                raise OSError(errno.EMFILE, "Too many open files")
            return listening.accept()

    acceptor._listening = Exhausted()
    _, writer = await soon(held.dial())
    assert len(attempts) == 3
    writer.transport.abort()
    acceptor._listening = listening
