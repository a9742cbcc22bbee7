"""The part that all brokers on a backend share: one link at a time, and honesty about it.

Publishes of one loop turn go out in one go. They come back through the backend, so all subscribers
see a channel in the backend's order. A heartbeat goes the same way; when it does not come back the
link is dropped, a new one is opened, everything is subscribed again, and the gap is reported.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass

from socketcluster.brokers.adapter import BrokerOptions, Connector, Publish
from socketcluster.brokers.base import BrokerListener
from socketcluster.brokers.session import Session, as_broker_error, settle
from socketcluster.errors import BrokerError

logger = logging.getLogger("socketcluster.brokers")

FIRST_BACK_OFF_SECONDS = 0.1
LONGEST_BACK_OFF_SECONDS = 5.0
CANCEL_AGAIN_SECONDS = 2.0
CANCEL_TIMES = 5

Wish = tuple[bool, "asyncio.Future[None]"]


@dataclass(frozen=True, slots=True)
class Away:
    """Since when a backend does not deliver (the loop's time), and why."""

    since: float
    error: BrokerError


def new_inbox() -> str:
    """A channel of one broker alone, for its heartbeats."""
    return f"$inbox.{secrets.token_hex(12)}"


def closed_early() -> BrokerError:
    """What `start` raises when `close` was called meanwhile."""
    return BrokerError("The broker was closed before it was connected")


class RemoteBroker:
    """A `Broker` on a backend that a `Connector` reaches.

    While the backend is away subscribers stay, and what they want is subscribed when it is back;
    see `BrokerOptions.away` for what publishes do. Before `start` it is away.

    Args:
        connector: reaches the backend.
        options: see `BrokerOptions`.
        away: since when and why what it takes over from another broker is not delivered.
        inbox: the channel for its heartbeats; a random one if None.
    """

    def __init__(
        self,
        connector: Connector,
        options: BrokerOptions,
        away: Away | None = None,
        inbox: str | None = None,
    ) -> None:
        self.name = connector.name
        self.away = away
        self._connector = connector
        self._options = options
        self._listener: BrokerListener | None = None
        self._channels: set[str] = set()
        self.inbox = inbox or new_inbox()
        self._session: Session | None = None
        self._outgoing: list[Publish] = []
        self._wishes: dict[str, Wish] = {}
        self._fulfilling: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None
        self._said: set[str] = set()

    def attach(self, listener: BrokerListener) -> None:
        """See `Broker.attach`."""
        self._listener = listener

    @property
    def ready(self) -> bool:
        """Whether the backend is there, and delivered when it was last asked."""
        return self._session is not None

    async def start(self) -> None:
        """Connect, once; if that fails try on in the background.

        Raises:
            BrokerError: that failed and the broker is required, or it was closed meanwhile.
        """
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner = asyncio.ensure_future(self._run(first))
        self._runner.add_done_callback(lambda _: settle(first, closed_early()))
        await first
        if self._options.required and self.away is not None:
            await self.close()
            raise BrokerError(f"Cannot reach {self.name}: {self.away.error}")

    async def close(self) -> None:
        """Let the backend take what was published, then leave it. See `Broker.close`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._flush()
            if self._session is not None and self._session.unconfirmed:
                waiting = [publish.taken for publish in self._session.unconfirmed]
                await asyncio.wait(waiting, timeout=self._options.heartbeat_timeout)
            for _ in range(CANCEL_TIMES):
                runner.cancel()  # Again, as a library of a backend may swallow it.
                if (await asyncio.wait([runner], timeout=CANCEL_AGAIN_SECONDS))[0]:
                    break
            else:
                logger.warning("%s: what connects to it does not end", self.name)
        if self._fulfilling:
            await asyncio.wait(self._fulfilling)

    async def check(self) -> None:
        """See `Broker.check`."""
        if self._session is None:
            raise BrokerError(self._state())
        await self._session.prove()

    # What the exchange asks for

    def publish(self, channel: str, payload: bytes) -> Awaitable[None]:
        """Done when the backend has taken it; see `Broker.publish`."""
        if self._session is None:
            raise self._publish_while_away(channel, payload)
        if len(self._session.unconfirmed) + len(self._outgoing) >= self._options.max_unconfirmed:
            raise BrokerError(
                f"{self._options.max_unconfirmed} publishes wait for {self.name} already"
            )
        self._flush_soon()
        publish = Publish(channel, payload, asyncio.get_running_loop().create_future())
        self._outgoing.append(publish)
        return publish.taken

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        """Done when the backend delivers it, or at once while it is away."""
        self._channels.add(channel)
        return self._wish(channel, True)

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        """Done when the backend was told, or at once while it is away."""
        self._channels.discard(channel)
        return self._wish(channel, False)

    def _wish(self, channel: str, wanted: bool) -> Awaitable[None] | None:
        if self._session is None:
            return None
        self._flush_soon()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wishes[channel] = (wanted, done)
        return done

    def _flush_soon(self) -> None:
        if not self._outgoing and not self._wishes:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        publishes, self._outgoing = self._outgoing, []
        wishes, self._wishes = self._wishes, {}
        if self._session is None:
            for publish in publishes:
                error = self._publish_while_away(publish.channel, publish.payload)
                settle(publish.taken, error)
            for _, done in wishes.values():
                settle(done)
            return
        if publishes:
            self._session.publish(publishes)
        if wishes:
            task = asyncio.ensure_future(self._fulfil(self._session, wishes))
            self._fulfilling.add(task)
            task.add_done_callback(self._fulfilling.discard)

    async def _fulfil(self, session: Session, wishes: dict[str, Wish]) -> None:
        refused: dict[str, BrokerError] = {}
        wanted = [channel for channel, (want, _) in wishes.items() if want]
        unwanted = [channel for channel, (want, _) in wishes.items() if not want]
        assert session.link is not None
        try:
            if unwanted:
                await session.run(session.link.unsubscribe(unwanted))
            if wanted:
                refused.update(await session.run(session.link.subscribe(wanted)))
        except Exception as error:
            # What is wanted is subscribed when the backend is back.
            session.lost(as_broker_error(error))
        finally:
            self._channels.difference_update(refused)
            for channel, (_, done) in wishes.items():
                settle(done, refused.get(channel))

    def _state(self) -> str:
        return f"{self.name} is away: {self.away.error if self.away else 'not connected yet'}"

    def _publish_while_away(self, channel: str, payload: bytes) -> BrokerError:
        if self._options.away == "fail":
            return BrokerError(f"The publish failed, for {self._state()}")
        if channel in self._channels and self._listener is not None:
            self._listener.message_received(channel, payload)
        return BrokerError(
            f"The publish reached subscribers of this process only, for {self._state()}"
        )

    # The link's life

    async def _run(self, first: asyncio.Future[None]) -> None:
        started_at = asyncio.get_running_loop().time()
        back_off = FIRST_BACK_OFF_SECONDS
        while True:
            session = Session(self._options, self.inbox, self._deliver, self._failed)
            since = self.away.since if self.away else started_at
            watch: asyncio.Task[None] | None = None
            try:
                await session.open(self._connector, self._channels)
                self._recovered(session)
                settle(first)
                back_off = FIRST_BACK_OFF_SECONDS
                watch = asyncio.ensure_future(session.watch())
                error = await asyncio.shield(session.over)
                since = session.proven_at
            except BrokerError as caught:
                error = caught
            except Exception as caught:
                logger.exception("%s: unexpected fault", self.name)
                error = as_broker_error(caught)
            finally:
                self._session = None
                session.lost(BrokerError("The broker is closed"))
                if watch is not None:
                    watch.cancel()
                if session.link is not None:
                    await session.link.close()
            if self._options.required and not first.done():
                self.away = Away(since, error)
                settle(first)
                return
            self._lost(Away(since, error))
            settle(first)
            await asyncio.sleep(back_off * random.uniform(0.5, 1))
            back_off = min(back_off * 2, LONGEST_BACK_OFF_SECONDS)

    def _recovered(self, session: Session) -> None:
        session.proven_at = now = asyncio.get_running_loop().time()
        self._session = session
        away, self.away = self.away, None
        self._said.clear()
        if away is not None:
            logger.warning("%s is back after %.1f s", self.name, now - away.since)
            if self._listener is not None:
                self._listener.backend_recovered((now - away.since) * 1000, away.error)

    def _lost(self, away: Away) -> None:
        known, self.away = self.away, away
        if str(away.error) not in self._said:  # Each reason once, however often it is tried.
            self._said.add(str(away.error))
            logger.warning("%s is away, trying again: %s", self.name, away.error)
        if known is None and self._listener is not None:
            self._listener.backend_lost(away.error)

    def _failed(self, error: BrokerError) -> None:
        if self._listener is not None:
            self._listener.broker_failed(error)

    def _deliver(self, channel: str, payload: bytes) -> None:
        if channel in self._channels and self._listener is not None:
            self._listener.backend_message_received(channel, payload)
