"""The session of a socket: where a server finds it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from socketcluster.server.socket import AGServerSocket

LABEL = b"socketcluster session 1\n"
"""Keeps these hashes apart from others of the same text."""


def session_reader(source: str | Callable[[Any], Any]) -> Callable[[AGServerSocket], Any]:
    """Return the function from a socket to its session, by the option `session` of Recovery."""
    if callable(source):
        return source
    kind, _, name = source.partition(":")
    return (
        (lambda socket: _of_query(socket, name))
        if kind == "query"
        else (lambda socket: _of_claim(socket, name))
    )


def _of_query(socket: AGServerSocket, name: str) -> str | None:
    query = socket.request.url.partition("?")[2]
    for field in query.split("&"):
        key, _, value = field.partition("=")
        if unquote_plus(key) == name:
            return unquote_plus(value)
    return None


def _of_claim(socket: AGServerSocket, name: str) -> Any:
    claims: object = socket.auth.token
    return claims.get(name) if isinstance(claims, Mapping) else None


def session_id(session: str) -> str:
    """Return the hash by which servers know a session."""
    return _hash(session)


def owner_of(id: str, user: str | None) -> str | None:
    """Return the hash by which servers know the user of a session; None without a user."""
    return None if user is None else _hash(f"{id}\n{user}")


def _hash(text: str) -> str:
    digest = hashlib.sha256(LABEL + text.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
