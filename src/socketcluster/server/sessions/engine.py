"""SessionEngine: the states of clients in the broker's backend, for when a process is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from socketcluster.errors import BrokerError
from socketcluster.server.sessions.kept import Name, allowed_names

TAKE_SECONDS = 5.0
"""How long the backend may take to give a state."""

BATCH = 1000
"""The most states that are kept by one call."""


class KeepingBroker(Protocol):
    """The part of a `StoringBroker` that keeps values."""

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None: ...
    async def take(self, key: str) -> bytes | None: ...


class SessionEngine:
    """Keeps and takes states.

    Args:
        broker: has the backend.
        seconds: how long to keep a state.
    """

    __slots__ = ("_broker", "_seconds")

    def __init__(self, broker: KeepingBroker, seconds: float) -> None:
        self._broker = broker
        self._seconds = seconds

    async def keep(self, states: Mapping[Name, bytes]) -> None:
        """Keep states, in place of former ones.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        values = {_key(name): state for name, state in states.items()}
        keys = list(values)
        for start in range(0, len(keys), BATCH):
            part = {key: values[key] for key in keys[start : start + BATCH]}
            await self._broker.keep(part, self._seconds)

    async def take(self, name: Name) -> bytes | None:
        """Remove and return the state of a session that a client may have.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        names = allowed_names(name)
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                found = await asyncio.gather(*(self._broker.take(_key(name)) for name in names))
        except TimeoutError as error:
            raise BrokerError("The backend did not give the state of a session in time") from error
        return next((state for state in found if state is not None), None)


def _key(name: Name) -> str:
    return f"session-{name.id}-{name.owner or ''}"
