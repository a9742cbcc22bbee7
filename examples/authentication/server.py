"""A login: a procedure checks the password and gives the client a token, middleware uses it.

Run it with `socketcluster serve server:server` in this directory. In production, read `auth_key`
from the environment and check passwords against a store of salted hashes.
"""

from __future__ import annotations

import hmac

from socketcluster import AGAction, AGServer, AGServerSocket
from socketcluster.errors import AuthError
from socketcluster.middleware import MiddlewareStream

PASSWORDS = {"alice": "wonderland", "bob": "builder"}

server = AGServer(auth_key="an example secret of at least 32 bytes")


@server.background
async def handle_connections() -> None:
    async for event in server.listener("connection"):
        server.spawn(log_in(event.socket))


async def log_in(socket: AGServerSocket) -> None:
    async for request in socket.procedure("login"):
        with request:
            name, password = str(request.data.get("name")), str(request.data.get("password"))
            if not hmac.compare_digest(PASSWORDS.get(name, "\0").encode(), password.encode()):
                raise AuthError("Wrong name or password")
            await socket.set_auth_token({"name": name}, expires_in=3600)
            request.end()


async def authorize(stream: MiddlewareStream) -> None:
    """Reserve each private channel for one user."""
    async for action in stream:
        private = action.channel.startswith("private/")
        token = action.socket.auth_token or {}
        if private and action.channel != f"private/{token.get('name')}":
            action.block(AuthError("This channel is not yours"))
        elif action.type == AGAction.INVOKE and not isinstance(action.data, dict):
            action.block(AuthError("The call needs an object"))
        else:
            action.allow()


server.set_middleware(server.MIDDLEWARE_INBOUND, authorize)
