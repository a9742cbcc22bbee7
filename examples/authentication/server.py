"""A login: a procedure checks the password and gives the client a token, handlers use it.

Run it with `socketcluster serve server:server` in this directory. In production, read `auth_key`
from the environment and check passwords against a store of salted hashes.
"""

from __future__ import annotations

import hmac

from msgspec import Struct

from socketcluster import AGServer, AGServerSocket
from socketcluster.errors import AuthError

PASSWORDS = {"alice": "wonderland", "bob": "builder"}

server = AGServer(auth_key="an example secret of at least 32 bytes")


class Credentials(Struct):
    name: str
    password: str


class User(Struct):
    name: str


@server.procedure()
async def login(data: Credentials, socket: AGServerSocket) -> None:
    password = PASSWORDS.get(data.name, "\0")
    if not hmac.compare_digest(password.encode(), data.password.encode()):
        raise AuthError("Wrong name or password")
    await socket.set_auth_token({"name": data.name}, expires_in=3600)


@server.provide
def user(socket: AGServerSocket) -> User:
    """Return the user of a socket, for every handler that asks for one."""
    if socket.auth_token is None:
        raise AuthError("Log in first")
    return User(socket.auth_token["name"])


@server.channel("private/{owner}")
class Private:
    """A channel of one user. When that user logs out, the socket is removed from it."""

    def subscribe(self, owner: str, me: User) -> None:
        if owner != me.name:
            raise AuthError("This channel is not yours")

    publish = subscribe
