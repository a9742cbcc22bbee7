"""The requests of a `StoringBroker` over a link, one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from socketcluster.brokers.adapter import BrokerOptions, Publish, StoredPublish, StoringLink
from socketcluster.brokers.outage import Outage
from socketcluster.brokers.session import Session, as_broker_error, resolve
from socketcluster.brokers.storing import Page, Position, Retention
from socketcluster.errors import BrokerError

Result = TypeVar("Result")


def check_room(name: str, options: BrokerOptions, count: int, waiting: int, size: int) -> None:
    """Refuse a publish if too many, or too many bytes of them, wait for the backend.

    Raises:
        BrokerError: there is no room.
    """
    if count >= options.max_unconfirmed:
        raise BrokerError(f"{options.max_unconfirmed} publishes wait for {name} already")
    if waiting + size > options.max_buffered:
        raise BrokerError(
            f"The publish has {size} bytes and {waiting} bytes wait for {name} already, above its "
            f"max_buffered of {options.max_buffered}"
        )


class StoringMixin:
    """Forwards requests to the link of the present session, stored publishes at the turn's end."""

    name: str
    outage: Outage | None
    _options: BrokerOptions
    _session: Session | None
    _outgoing: list[Publish]
    _outgoing_bytes: int
    _stores: bool

    def _flush_soon(self) -> None:
        raise NotImplementedError

    def describe_outage(self) -> str:
        """Say that the backend is away, and why."""
        return f"{self.name} is away: {self.outage.error if self.outage else 'not connected yet'}"

    def link_session(self) -> Session:
        """Return the present session.

        Raises:
            BrokerError: the backend is away.
        """
        if self._session is None:
            raise BrokerError(self.describe_outage())
        return self._session

    def publish_stored(
        self, channel: str, payload: bytes, retention: Retention, id: str | None = None
    ) -> Awaitable[None]:
        session = self.link_session()
        count = len(session.unconfirmed) + len(self._outgoing)
        waiting = session.unconfirmed_bytes + self._outgoing_bytes
        check_room(self.name, self._options, count, waiting, len(payload))
        self._flush_soon()
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outgoing.append(StoredPublish(channel, payload, confirmed, retention, id))
        self._outgoing_bytes += len(payload)
        self._stores = True
        return confirmed

    def _send_stored(self, publishes: list[Publish]) -> list[Publish]:
        """Send those of the turn's publishes that are stored; return the others."""
        self._stores = False
        stored = [publish for publish in publishes if isinstance(publish, StoredPublish)]
        if self._session is not None:
            self._session.publish_stored(stored)
        else:
            for publish in stored:
                resolve(publish.confirmed, BrokerError(self.describe_outage()))
        return [publish for publish in publishes if type(publish) is Publish]

    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        return await self._ask(lambda link: link.history(channel, retention, since, limit, reverse))

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        return await self._ask(lambda link: link.renew_epoch(channel, retention, seen))

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None:
        await self._ask(lambda link: link.keep(values, seconds))

    async def take(self, key: str) -> bytes | None:
        return await self._ask(lambda link: link.take(key))

    async def _ask(self, ask: Callable[[StoringLink], Coroutine[Any, Any, Result]]) -> Result:
        session = self.link_session()
        try:
            return await session.run(ask(session.storing_link))
        except BrokerError:
            raise
        except Exception as error:  # An answer of a wrong form: any program can send one.
            raise as_broker_error(error) from error
