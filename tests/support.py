"""A small client that speaks the protocol in the open, and other tools of many tests."""

from __future__ import annotations

import asyncio
import datetime
import gc
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from socketcluster import AGClientSocket, AGServer, AGServerSocket
from socketcluster.errors import ResourceLimitError
from transports import WebSocket, dial, on_a_clock

TIMEOUT = 10.0


def require(available: bool, what: str) -> None:
    """Skip a test that lacks a component; on CI it fails instead, and says what is missing."""
    if not available:
        if os.environ.get("CI"):
            pytest.fail(f"Missing: {what}")
        pytest.skip(f"Missing: {what}")


async def soon(awaitable: Any) -> Any:
    """The result of something that is expected within seconds."""
    return await asyncio.wait_for(awaitable, TIMEOUT)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until a condition holds."""
    turns = 0
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            turns += 1
            # A clock moves on when there is nothing to do.
            await asyncio.sleep(0.001 if turns > 100 and on_a_clock() else 0)


class AnswerError(Exception):
    """The server answered a call with an error; `wire` is what it sent."""

    def __init__(self, wire: Any) -> None:
        super().__init__(wire)
        self.wire = wire


class Client:
    """One WebSocket to a server: packets as dicts, pings answered."""

    def __init__(self, ws: WebSocket, ping: str = "", pong: str = "") -> None:
        self.ws = ws
        self.pings = 0
        self.answers_pings = True
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.messages: list[str | bytes] = []
        self._ping, self._pong = ping, pong
        self._cid = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for message in self.ws:
                self.messages.append(message)
                if message == self._ping:
                    self.pings += 1
                    if self.answers_pings:
                        await self.ws.send(self._pong)
                    continue
                if isinstance(message, bytes) or message[:1] not in ("{", "["):
                    continue
                try:
                    packet = json.loads(message)
                except ValueError:  # Of another codec: it is among the messages.
                    continue
                for item in packet if isinstance(packet, list) else [packet]:
                    self._take(item)
        except websockets.ConnectionClosed:
            pass

    def _take(self, packet: Any) -> None:
        answer = self._answers.pop(packet.get("rid"), None)
        if answer is None:
            self.events.put_nowait(packet)
        elif answer.done():
            return
        elif "error" in packet:
            answer.set_exception(AnswerError(packet["error"]))
        else:
            answer.set_result(packet.get("data"))

    def packet(self, event: str, data: Any = None) -> dict[str, Any]:
        """A call that is not sent yet; `answer` of its cid waits for it."""
        self._cid += 1
        self._answers[self._cid] = asyncio.get_running_loop().create_future()
        packet = {"event": event, "cid": self._cid}
        return packet if data is None else {**packet, "data": data}

    def answer(self, packet: dict[str, Any]) -> asyncio.Future[Any]:
        """The answer to a packet; ask before it comes."""
        return self._answers[packet["cid"]]

    async def send(self, packet: Any) -> None:
        """Send a packet, a batch, or a raw message."""
        await self.ws.send(packet if isinstance(packet, str | bytes) else json.dumps(packet))

    async def call(self, event: str, data: Any = None) -> Any:
        """Call a procedure; raises `AnswerError`."""
        packet = self.packet(event, data)
        answer = self.answer(packet)
        await self.send(packet)
        return await soon(answer)

    async def handshake(self, token: str | None = None) -> Any:
        """Shake hands."""
        return await self.call("#handshake", {"authToken": token})

    async def transmit(self, event: str, data: Any = None) -> None:
        """Send an event."""
        await self.send({"event": event, "data": data})

    async def event(self) -> Any:
        """The next packet that is no answer."""
        return await soon(self.events.get())

    async def closed(self) -> tuple[int, str]:
        """(code, reason) with which the server closed."""
        await soon(self.ws.wait_closed())
        return self.ws.close_code or 0, self.ws.close_reason or ""

    async def close(self) -> None:
        """Close, and wait for it."""
        await self.ws.close()
        await self._reader


@asynccontextmanager
async def connected(
    server: AGServer, *, token: str | None = None, handshake: bool = True, **options: Any
) -> AsyncIterator[Client]:
    """A client, its handshake done unless `handshake` is false."""
    version = server.options.protocol_version
    pings = ("#1", "#2") if version == 1 else ("", "")
    client = Client(await dial(server, **options), *pings)
    try:
        if handshake:
            await client.handshake(token)
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def nothing_escapes() -> AsyncIterator[None]:
    """Fail when an exception reached the loop's handler."""
    escaped: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: escaped.append(context))
    yield
    await asyncio.sleep(0)
    gc.collect()
    assert escaped == []


Handle = Callable[[AGServerSocket], Coroutine[Any, Any, Any]]


class Running:
    """Tasks of a test, and the streams they collect."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something until the test ends."""
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        return task

    def collect(self, stream: Any) -> list[Any]:
        """What a stream yields from now on."""
        found: list[Any] = []
        consumer = stream.create_consumer()

        async def loop() -> None:
            async for value in consumer:
                found.append(value)

        self.start(loop())
        return found

    def on_connection(self, server: AGServer, handle: Handle) -> None:
        """Run `handle(socket)` for each connection."""
        consumer = server.listener("connection").create_consumer()

        async def loop() -> None:
            async for event in consumer:
                self.start(handle(event.socket))

        self.start(loop())

    def procedure(
        self, server: AGServer, name: str, answer: Callable[[Any], Any] | None = None
    ) -> None:
        """Answer a procedure of every socket: with its data, or what `answer` makes of it."""

        async def handle(socket: AGServerSocket) -> None:
            async for request in socket.procedure(name):
                try:
                    request.end(request.data if answer is None else answer(request.data))
                except Exception as error:
                    request.error(error)

        self.on_connection(server, handle)

    async def stop(self) -> None:
        """Cancel everything."""
        for task in self.tasks:
            task.cancel()
        results = await asyncio.gather(*self.tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


def record(client: AGClientSocket) -> list[tuple[str, Any]]:
    """(name, event) of everything that a client emits from now on, in order."""
    found: list[tuple[str, Any]] = []
    emit = client.emit

    def recording(event: str, data: Any = None) -> None:
        found.append((event, data))
        emit(event, data)

    client.emit = recording  # type: ignore[method-assign]
    return found


def names(found: list[tuple[str, Any]]) -> list[str]:
    """The names alone."""
    return [name for name, _ in found]


def until_full(send: Callable[[], Any]) -> int:
    """How often something can be sent before there is no room."""
    for number in range(100_000):
        try:
            send()
        except ResourceLimitError:
            return number
    raise AssertionError("There is always room")


def self_signed(folder: Path) -> tuple[str, str]:
    """The files of a certificate for localhost and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    certfile, keyfile = folder / "cert.pem", folder / "key.pem"
    certfile.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    keyfile.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(certfile), str(keyfile)
