"""Token stores: keep the signed token of a client between connections, in memory or in a file.

Source: npm socketcluster-client, `authEngine`.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, Protocol


class TokenStore(Protocol):
    """The `auth_engine` of a client, which keeps its signed token between connections.

    Its methods may be async. Their exceptions are emitted as 'error'; an exception of `load_token`
    also fails the handshake.
    """

    def save_token(self, name: str, token: str, options: Mapping[str, Any]) -> Any | Awaitable[Any]:
        """Store a token under a name; `options` is empty."""

    def load_token(self, name: str) -> str | Awaitable[str | None] | None:
        """Return the token stored under a name, or None."""

    def remove_token(self, name: str) -> str | Awaitable[str | None] | None:
        """Remove the token stored under a name, and return it."""


class MemoryTokenStore:
    """Keeps tokens in memory, as long as the store exists. The default."""

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens: dict[str, str] = {}

    def save_token(self, name: str, token: str, options: Mapping[str, Any]) -> None:
        """See `TokenStore.save_token`."""
        self._tokens[name] = token

    def load_token(self, name: str) -> str | None:
        """See `TokenStore.load_token`."""
        return self._tokens.get(name)

    def remove_token(self, name: str) -> str | None:
        """See `TokenStore.remove_token`."""
        return self._tokens.pop(name, None)


class FileTokenStore:
    """Keeps tokens in a JSON file that only its owner may read (mode 0600).

    The file is replaced as a whole: another process sees the old tokens or the new ones. If several
    processes write at the same time, the last one wins.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def save_token(self, name: str, token: str, options: Mapping[str, Any]) -> None:
        """See `TokenStore.save_token`. Raises OSError: the file cannot be written."""
        self._write({**self._read(), name: token})

    def load_token(self, name: str) -> str | None:
        """See `TokenStore.load_token`. Raises OSError, ValueError: the file cannot be read."""
        return self._read().get(name)

    def remove_token(self, name: str) -> str | None:
        """See `TokenStore.remove_token`. Raises OSError: the file cannot be written."""
        tokens = self._read()
        token = tokens.pop(name, None)
        if token is not None:
            self._write(tokens)
        return token

    def _read(self) -> dict[str, str]:
        try:
            tokens = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError) as error:
            raise ValueError(f"The token file {self._path} is not valid JSON: {error}") from error
        if not isinstance(tokens, dict) or not all(isinstance(t, str) for t in tokens.values()):
            raise ValueError(f"The token file {self._path} must hold one object of strings")
        return tokens

    def _write(self, tokens: dict[str, str]) -> None:
        # mkstemp creates the file with mode 0600.
        number, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                json.dump(tokens, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
