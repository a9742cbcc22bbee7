"""Fake backends whose refusals and faults each test scripts, and a recorder of reports."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Reports:
    """A `BrokerListener` that records."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.failures: list[str] = []
        self.lost: list[str] = []
        self.recovered = asyncio.Event()

    def message_received(self, channel: str, payload: bytes) -> None:
        self.received.append((channel, payload))

    def backend_message_received(self, channel: str, payload: bytes) -> None:
        self.received.append((channel, payload))

    def broker_failed(self, error: BaseException) -> None:
        self.failures.append(str(error))

    def backend_lost(self, error: BaseException, channels: Any = None, server: Any = None) -> None:
        self.lost.append(str(error))

    def backend_recovered(
        self, duration: float, error: BaseException, channels: Any = None, server: Any = None
    ) -> None:
        self.recovered.set()


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """The port of a server that runs `serve` for each connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


class FakeNats:
    """A NATS server for one client at a time.

    Attributes:
        refused: subjects that the client may neither publish to nor subscribe to.
        options: the last CONNECT's.
        info: what the server says about itself.
        tls: for a connection, after INFO.
        subscriptions: subject → number of the client's subscription.
    """

    def __init__(self, *refused: str, **info: Any) -> None:
        self.refused = refused
        self.info = {"max_payload": 1000, **info}
        self.options: dict[str, Any] = {}
        self.tls: ssl.SSLContext | None = None
        self.writer: asyncio.StreamWriter | None = None
        self.subscriptions: dict[bytes, bytes] = {}

    def send(self, line: str) -> None:
        """Send a line to the client."""
        assert self.writer is not None
        self.writer.write(f"{line}\r\n".encode())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.writer = writer
        self.subscriptions.clear()
        self.send(f"INFO {json.dumps(self.info)}")
        if self.tls is not None:
            await writer.start_tls(self.tls)
        while line := await reader.readline():
            kind, *fields = line.split()
            match kind:
                case b"CONNECT":
                    self.options = json.loads(line.split(b" ", 1)[1])
                case b"PING":
                    self.send("PONG")
                case b"SUB":
                    self._subscribe(*fields)
                case b"UNSUB":
                    self._unsubscribe(fields[0])
                case b"PUB":
                    payload = (await reader.readexactly(int(fields[-1]) + 2))[:-2]
                    self._publish(fields[0], fields[1], payload)

    def _subscribe(self, subject: bytes, number: bytes) -> None:
        if subject.decode() in self.refused:
            self.send(f"-ERR 'Permissions Violation for Subscription to \"{subject.decode()}\"'")
        else:
            self.subscriptions[subject] = number

    def _unsubscribe(self, number: bytes) -> None:
        for subject in [s for s, n in self.subscriptions.items() if n == number]:
            del self.subscriptions[subject]

    def _publish(self, subject: bytes, reply: bytes, payload: bytes) -> None:
        if subject.decode() in self.refused:
            self.send(f"-ERR 'Permissions Violation for Publish to \"{subject.decode()}\"'")
        elif subject in self.subscriptions:
            number = self.subscriptions[subject]
            assert self.writer is not None
            head = b" ".join([b"MSG", subject, number, reply, b"%d" % len(payload)])
            self.writer.write(b"\r\n".join([head, payload, b""]))


class FakeRedis:
    """A Redis server for one client at a time.

    Attributes:
        answers: what to answer commands with, in RESP; keys are a command, or one with its first
            arguments.
        commands: those received.
        connections: how many there were.
        subscribed: the channels of the client.
    """

    def __init__(self, answers: dict[str, bytes] | None = None) -> None:
        self.answers = {} if answers is None else answers
        self.commands: list[list[str]] = []
        self.connections = 0
        self.writer: asyncio.StreamWriter | None = None
        self.subscribed: dict[bytes, None] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.writer = writer
        self.connections += 1
        self.subscribed.clear()
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while command := parser.gets():
                writer.write(self._answer(command))

    def _answer(self, command: list[bytes]) -> bytes:
        words = [word.decode() for word in command]
        self.commands.append(words)
        for count in range(len(words), 0, -1):
            answer = self.answers.get(" ".join(words[:count]))
            if answer is not None:
                return answer
        match words[0]:
            case "HELLO":
                return b"%1\r\n+id\r\n:1\r\n"
            case "CLIENT":
                return bulk(b"addr=127.0.0.1:1 name=x") if words[1] == "INFO" else b":1\r\n"
            case "SUBSCRIBE" | "SSUBSCRIBE":
                self.subscribed[command[1]] = None
                return self._changed(command)
            case "UNSUBSCRIBE" | "SUNSUBSCRIBE":
                self.subscribed.pop(command[1], None)
                return self._changed(command)
            case "PUBLISH" | "SPUBLISH":
                kind = b"message" if words[0] == "PUBLISH" else b"smessage"
                subscribed = command[1] in self.subscribed
                delivered = push(bulk(kind), *map(bulk, command[1:])) if subscribed else b""
                return delivered + b":1\r\n"
        return b"-ERR unknown command\r\n"

    def _changed(self, command: list[bytes]) -> bytes:
        count = b":%d\r\n" % len(self.subscribed)
        return push(bulk(command[0].lower()), bulk(command[1]), count)


def bulk(data: bytes) -> bytes:
    """A string in RESP."""
    return b"$%d\r\n%s\r\n" % (len(data), data)


def push(*values: bytes) -> bytes:
    """A push in RESP 3."""
    return b">%d\r\n" % len(values) + b"".join(values)
