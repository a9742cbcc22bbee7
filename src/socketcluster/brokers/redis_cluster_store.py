"""Stored publishes in a Redis cluster: each request goes to the server that owns its slot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping

from socketcluster.brokers.redis_keys import StoreKeys, slot_of
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.brokers.storing import Page, Position, Retention


class ClusterStoring:
    """Forwards the requests of a `StoringBroker` to the server that owns the channel or the key."""

    _keys: StoreKeys

    def _server_of(self, channel: str) -> RemoteBroker:
        raise NotImplementedError

    def _server_of_slot(self, slot: int) -> RemoteBroker:
        raise NotImplementedError

    def publish_stored(
        self, channel: str, payload: bytes, retention: Retention, id: str | None = None
    ) -> Awaitable[None]:
        return self._server_of(channel).publish_stored(channel, payload, retention, id)

    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        server = self._server_of(channel)
        return await server.history(channel, retention, since, limit, reverse)

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        return await self._server_of(channel).renew_epoch(channel, retention, seen)

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None:
        """Send one batch to each server; if one fails, the others keep their values."""
        parts: dict[RemoteBroker, dict[str, bytes]] = {}
        for key, value in values.items():
            parts.setdefault(self._keeper_of(key), {})[key] = value
        kept = (server.keep(part, seconds) for server, part in parts.items())
        for result in await asyncio.gather(*kept, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def take(self, key: str) -> bytes | None:
        return await self._keeper_of(key).take(key)

    def _keeper_of(self, key: str) -> RemoteBroker:
        return self._server_of_slot(slot_of(self._keys.of_value(key)))
