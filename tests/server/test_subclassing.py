"""Applications that subclass AGServer, and assign its attributes after it was made."""

from __future__ import annotations

from typing import Any

import pytest

from socketcluster import AGServer
from socketcluster.auth import JWTAuthEngine
from support import AnswerError, connected


class Server(AGServer):
    """Overrides the documented methods that the server itself calls."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.notes: list[str] = []

    def generate_id(self) -> str:
        return "mine"

    def emit_warning(self, warning: BaseException) -> None:
        self.notes.append(str(warning))
        super().emit_warning(warning)

    async def start(self) -> None:
        self.notes.append("start")
        await super().start()

    async def close(self, keep_sockets_open: bool = False) -> None:
        self.notes.append("close")
        await super().close(keep_sockets_open)


async def test_sockets_use_the_overridden_methods_of_their_server(make_server: Any) -> None:
    server = await make_server(Server(drain_timeout=100))
    server.notes.clear()
    async with connected(server) as client:
        assert list(server.clients) == ["mine"]
        with pytest.raises(AnswerError):
            await client.call("#handshake")
        assert server.notes == ["The handshake has already been completed"]


async def test_an_asgi_server_starts_and_closes_by_the_overridden_methods() -> None:
    server = Server()
    received = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(received)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await server({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert server.notes == ["start", "close"]


async def test_an_application_that_is_assigned_later_is_served() -> None:
    server = AGServer()
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    server.app = app
    await server({"type": "http", "path": "/page"}, lambda: None, lambda _: None)
    assert server.app is app
    assert seen == ["/page"]


async def test_an_auth_engine_and_its_options_can_be_assigned(make_server: Any) -> None:
    class Engine(JWTAuthEngine):
        def verify_token(self, signed_token: str, key: Any, options: Any) -> Any:
            return {"user": signed_token, "options": sorted(options)}

    server = await make_server()
    server.auth = Engine()
    server.default_verification_options = {"leeway": 5}
    server.default_signature_options = {**server.default_signature_options, "more": 1}
    async with connected(server, token="alice"):
        (socket,) = server.clients.values()
        assert socket.auth_token == {"user": "alice", "options": ["leeway", "socket"]}
    assert server.default_signature_options == {"algorithm": "HS256", "more": 1}
