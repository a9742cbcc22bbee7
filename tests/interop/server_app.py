"""The server that the drivers of all clients talk to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from socketcluster import AGRequest, AGServer, AGServerSocket
from support import Running

KEY = "the key of the tests, which is long enough"
USERS = ("alice", "bob", "kate")


class OddError(Exception):
    """An error with a name of its own."""


class FailedLoginError(Exception):
    """An unknown user."""


class Application:
    """Answers the procedures of the drivers."""

    def __init__(self, server: AGServer, running: Running) -> None:
        self.server = server
        self.running = running
        self.batches: dict[str, list[int]] = {}
        self.published: list[Any] = running.collect(server.exchange.subscribe("room"))
        running.on_connection(server, self.handle)

    async def handle(self, socket: AGServerSocket) -> None:
        """Answer one socket."""
        self.running.start(self._count_batches(socket))
        self.running.start(self._notes(socket))
        self.running.start(self._disconnects(socket))
        self.running.start(self._raw(socket))
        answers: dict[str, Callable[[AGServerSocket, Any], Coroutine[Any, Any, Any]]] = {
            "echo": self._echo,
            "fail": self._fail,
            "call me back": self._call_back,
            "login": self._login,
            "logout": self._logout,
            "who": self._who,
            "set auth key": self._set_key,
            "answer after": self._answer_after,
            "publish for me": self._publish,
            "what was published": self._was_published,
            "kick me": self._kick,
            "my channels": self._channels,
            "batch to me": self._batch,
            "batches received": self._batches,
            "wait for pings": self._pings,
        }
        for name, answer in answers.items():
            self.running.start(self._procedure(socket, name, answer))

    async def _procedure(self, socket: AGServerSocket, name: str, answer: Any) -> None:
        async for request in socket.procedure(name):
            # Each in a task: a call may wait for the client.
            self.running.start(self._answer(socket, request, answer))

    async def _answer(self, socket: AGServerSocket, request: AGRequest, answer: Any) -> None:
        try:
            request.end(await answer(socket, request.data))
        except (OddError, FailedLoginError) as error:
            request.error(error)

    async def _notes(self, socket: AGServerSocket) -> None:
        async for data in socket.receiver("note"):
            socket.transmit("noted", data)

    async def _disconnects(self, socket: AGServerSocket) -> None:
        async for code in socket.receiver("disconnect me"):
            socket.disconnect(code, "Enough")

    async def _raw(self, socket: AGServerSocket) -> None:
        async for data in socket.receiver("send me raw"):
            socket.send(data)

    async def _echo(self, socket: AGServerSocket, data: Any) -> Any:
        return data

    async def _fail(self, socket: AGServerSocket, data: Any) -> None:
        raise OddError(data)

    async def _call_back(self, socket: AGServerSocket, data: Any) -> Any:
        return await socket.invoke("double", data)

    async def _login(self, socket: AGServerSocket, data: Any) -> None:
        if data["name"] not in USERS:
            raise FailedLoginError("Failed to login")
        await socket.set_auth_token({"name": data["name"]}, expires_in=600)

    async def _logout(self, socket: AGServerSocket, data: Any) -> None:
        await socket.deauthenticate()

    async def _who(self, socket: AGServerSocket, data: Any) -> Any:
        return socket.auth_token

    async def _set_key(self, socket: AGServerSocket, key: str) -> None:
        self.server.signature_key = self.server.verification_key = key

    async def _answer_after(self, socket: AGServerSocket, milliseconds: int) -> str:
        await asyncio.sleep(milliseconds / 1000)
        return "late"

    async def _publish(self, socket: AGServerSocket, data: Any) -> None:
        await self.server.exchange.invoke_publish("room", data)

    async def _was_published(self, socket: AGServerSocket, data: Any) -> Any:
        published, self.published[:] = list(self.published), []
        return published

    async def _kick(self, socket: AGServerSocket, data: Any) -> None:
        await socket.kick_out(data, "Out")

    async def _channels(self, socket: AGServerSocket, data: Any) -> Any:
        return socket.subscriptions()

    async def _batch(self, socket: AGServerSocket, data: Any) -> None:
        socket.start_batch()
        socket.transmit("one", 1)
        socket.transmit("two", 2)
        socket.flush_batch()

    async def _count_batches(self, socket: AGServerSocket) -> None:
        sizes = self.batches.setdefault(socket.id, [])
        async for event in socket.listener("message"):
            packets = self.server.codec.decode(event.message) if event.message else None
            if isinstance(packets, list):
                sizes.append(len(packets))

    async def _batches(self, socket: AGServerSocket, data: Any) -> list[int]:
        return self.batches[socket.id]

    async def _pings(self, socket: AGServerSocket, count: int) -> str:
        """Wait until the client has answered some pings: each is a message received."""
        received = socket.inbound_received_message_count
        while socket.inbound_received_message_count < received + count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return "still here"
