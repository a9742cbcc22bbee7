"""The broker that all adapters share: one link at a time, with heartbeats and gap reports.

Publishes of one loop turn are sent in one batch. They return through the backend, so that all
subscribers see a channel in the backend's order. A heartbeat takes the same way. When it does not
return, the broker drops the link, opens another, subscribes to everything again and reports the
gap.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable
from typing import Final

from socketcluster.brokers.adapter import BrokerOptions, Connector, Publish
from socketcluster.brokers.base import BackendBroker, BrokerListener
from socketcluster.brokers.outage import Outage, OutageLog
from socketcluster.brokers.session import Session, as_broker_error, measured, resolve
from socketcluster.brokers.storing_methods import StoringMixin, check_room
from socketcluster.errors import BrokerError, UsageError
from socketcluster.protocol.state import CLOSED, CONNECTING, StateMachine, Transitions

logger: logging.Logger = logging.getLogger("socketcluster.brokers")

UP: Final = "up"
LOST: Final = "lost"

LINK_TRANSITIONS: Final[Transitions[str]] = {
    CLOSED: (CONNECTING,),
    CONNECTING: (UP, LOST, CLOSED),
    UP: (LOST, CLOSED),
    LOST: (UP, CLOSED),
}
"""States of a broker's link. `start` leads to 'connecting', `close` to 'closed'. In 'lost' the
broker tries to open another link; an attempt that fails does not change the state."""

MIN_BACK_OFF_SECONDS = 0.1
MAX_BACK_OFF_SECONDS = 5.0

CANCEL_ATTEMPTS = 5
CANCEL_RETRY_SECONDS = 2.0
"""The number and the interval of attempts to cancel the connecting task again: libraries of
backends may swallow a cancellation."""

SubscriptionChange = tuple[bool, "asyncio.Future[None]"]
"""(Whether to subscribe or unsubscribe, completed when that is done)."""


def new_inbox() -> str:
    """Return the name of a channel for the heartbeats of one broker."""
    return f"$inbox.{secrets.token_hex(12)}"


def closed_early() -> BrokerError:
    """Return the error that `start` raises if `close` is called meanwhile."""
    return BrokerError("The broker was closed before it was connected")


def already_started(name: str) -> UsageError:
    """Return the error that a second `start` raises."""
    return UsageError(f"The broker of {name} is started already. Use one broker for each server")


class RemoteBroker(StoringMixin, BackendBroker):
    """A `Broker` over a backend that a `Connector` reaches.

    During an outage subscriptions stay, and changes of them take effect when it ends; publishes do
    as `BrokerOptions.away` says. A broker that is not started behaves as in an outage.

    Args:
        connector: opens links to the backend.
        options: see `BrokerOptions`.
        outage: the outage inherited from the broker that this one replaces.
        inbox: the channel for its heartbeats; a random one if None.

    Attributes:
        outage: the present outage, if any.
    """

    def __init__(
        self,
        connector: Connector,
        options: BrokerOptions,
        outage: Outage | None = None,
        inbox: str | None = None,
    ) -> None:
        self.name: str = connector.name
        self.outage = outage
        self.inbox: str = inbox or new_inbox()
        self._connector = connector
        self._options = options
        self._listener: BrokerListener | None = None
        self._channels: set[str] = set()
        self._state = StateMachine(LINK_TRANSITIONS, CLOSED)
        self._session: Session | None = None  # None unless the state is 'up'.
        self._outgoing: list[Publish] = []
        self._outgoing_bytes = 0
        self._stores = False  # Whether a stored publish is among them.
        self._changes: dict[str, SubscriptionChange] = {}
        self._applying: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None
        self._log = OutageLog(connector.name)

    def attach(self, listener: BrokerListener) -> None:
        self._listener = listener

    @property
    def ready(self) -> bool:
        """Whether the link is up, and its last heartbeat returned."""
        return self._session is not None

    def broken_since(self) -> Outage | None:
        """Return since when channels that leave this broker now may lack publishes, if at all."""
        if self._session is None:
            return self.outage
        error = BrokerError(f"{self.name} handed channels over to another server")
        return Outage(self._session.proven_at, error)

    def measure(self) -> tuple[int, float | None]:
        return measured(self._session, len(self._outgoing))

    async def start(self) -> None:
        """Try to connect once; if that fails, keep trying in the background.

        Raises:
            BrokerError: connecting failed and the backend is required, or `close` was called.
            UsageError: the broker is started already.
        """
        if self._state.state != CLOSED:
            raise already_started(self.name)
        self._state.to(CONNECTING)
        attempted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner = asyncio.ensure_future(self._run(attempted))
        self._runner.add_done_callback(lambda _: resolve(attempted, closed_early()))
        await attempted
        if self._options.required and self.outage is not None:
            await self.close()
            raise BrokerError(f"Cannot reach {self.name}: {self.outage.error}")

    async def close(self) -> None:
        """Disconnect, once the backend answered all publishes or `heartbeat_timeout` has passed."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._flush()
            if self._session is not None and self._session.unconfirmed:
                unconfirmed = [publish.confirmed for publish in self._session.unconfirmed]
                await asyncio.wait(unconfirmed, timeout=self._options.heartbeat_timeout)
            for _ in range(CANCEL_ATTEMPTS):
                runner.cancel()
                if (await asyncio.wait([runner], timeout=CANCEL_RETRY_SECONDS))[0]:
                    break
            else:
                logger.warning("%s: the task that connects to it does not end", self.name)
            self._state.to(CLOSED)
        if self._applying:
            await asyncio.wait(self._applying)

    async def check(self) -> None:
        await self.link_session().prove()

    # Requests of the exchange

    def publish(self, channel: str, payload: bytes) -> Awaitable[None]:
        """Complete when the backend accepted it. See `Broker.publish`."""
        if self._session is None:
            raise self._publish_in_outage(channel, payload)
        count = len(self._session.unconfirmed) + len(self._outgoing)
        waiting = self._session.unconfirmed_bytes + self._outgoing_bytes
        check_room(self.name, self._options, count, waiting, len(payload))
        self._flush_soon()
        publish = Publish(channel, payload, asyncio.get_running_loop().create_future())
        self._outgoing.append(publish)
        self._outgoing_bytes += len(payload)
        return publish.confirmed

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        """Complete when the backend delivers the channel, or at once in an outage."""
        self._channels.add(channel)
        return self._change(channel, True)

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        """Complete when the backend knows, or at once in an outage."""
        self._channels.discard(channel)
        return self._change(channel, False)

    def _change(self, channel: str, subscribe: bool) -> Awaitable[None] | None:
        if self._session is None:
            return None  # The next session subscribes to `_channels`.
        self._flush_soon()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changes[channel] = (subscribe, done)
        return done

    def _flush_soon(self) -> None:
        if not self._outgoing and not self._changes:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        publishes, self._outgoing = self._outgoing, []
        self._outgoing_bytes = 0
        changes, self._changes = self._changes, {}
        if self._stores:
            publishes = self._send_stored(publishes)
        if self._session is None:
            for publish in publishes:
                error = self._publish_in_outage(publish.channel, publish.payload)
                resolve(publish.confirmed, error)
            for _, done in changes.values():
                resolve(done)
            return
        if publishes:
            self._session.publish(publishes)
        if changes:
            task = asyncio.ensure_future(self._apply(self._session, changes))
            self._applying.add(task)
            task.add_done_callback(self._applying.discard)

    async def _apply(self, session: Session, changes: dict[str, SubscriptionChange]) -> None:
        refused: dict[str, BrokerError] = {}
        added = [channel for channel, (subscribe, _) in changes.items() if subscribe]
        removed = [channel for channel, (subscribe, _) in changes.items() if not subscribe]
        assert session.link is not None
        try:
            if removed:
                await session.run(session.link.unsubscribe(removed))
            if added:
                refused.update(await session.run(session.link.subscribe(added)))
        except Exception as error:
            # The next session subscribes to `_channels`, these among them.
            session.link_lost(as_broker_error(error))
        finally:
            self._channels.difference_update(refused)
            for channel, (_, done) in changes.items():
                resolve(done, refused.get(channel))

    def _publish_in_outage(self, channel: str, payload: bytes) -> BrokerError:
        if self._options.away == "fail":
            return BrokerError(f"The publish failed, for {self.describe_outage()}")
        if channel in self._channels and self._listener is not None:
            self._listener.message_received(channel, payload)
        return BrokerError(
            f"The publish reached subscribers of this process only, for {self.describe_outage()}"
        )

    # The link

    async def _run(self, attempted: asyncio.Future[None]) -> None:
        """Keep a link up, until it is cancelled; `attempted` is completed by the first attempt."""
        started_at = asyncio.get_running_loop().time()
        back_off = MIN_BACK_OFF_SECONDS
        while True:
            session = Session(self._options, self.inbox, self._deliver, self._failed)
            since = self.outage.since if self.outage else started_at
            heartbeats: asyncio.Task[None] | None = None
            try:
                await session.open(self._connector, self._channels)
                if self._runner is not asyncio.current_task():
                    return  # `close` gave up waiting for this task.
                self._link_up(session)
                resolve(attempted)
                back_off = MIN_BACK_OFF_SECONDS
                heartbeats = asyncio.ensure_future(session.prove_repeatedly())
                error = await asyncio.shield(session.ended)
                since = session.proven_at
            except BrokerError as caught:
                error = caught
            except Exception as caught:
                logger.exception("%s: unexpected fault", self.name)
                error = as_broker_error(caught)
            finally:
                self._session = None
                session.link_lost(BrokerError("The broker is closed"))
                if heartbeats is not None:
                    heartbeats.cancel()
                if session.link is not None:
                    await session.link.close()
            if self._options.required and not attempted.done():
                self.outage = Outage(since, error)
                resolve(attempted)  # `start` closes the broker and raises.
                return
            self._link_lost(Outage(since, error))
            resolve(attempted)
            await asyncio.sleep(back_off * random.uniform(0.5, 1))
            back_off = min(back_off * 2, MAX_BACK_OFF_SECONDS)

    def _link_up(self, session: Session) -> None:
        self._state.to(UP)
        session.proven_at = now = asyncio.get_running_loop().time()
        self._session = session
        outage, self.outage = self.outage, None
        if outage is not None:
            self._log.back(now - outage.since)
            if self._listener is not None:
                duration = (now - outage.since) * 1000
                self._listener.backend_recovered(duration, outage.error, self._channels, self.name)

    def _link_lost(self, outage: Outage) -> None:
        if self._state.state != LOST:
            self._state.to(LOST)
        former, self.outage = self.outage, outage
        self._log.away(outage.error)
        if former is None and self._listener is not None:
            self._listener.backend_lost(outage.error, self._channels, self.name)

    def _failed(self, error: BrokerError) -> None:
        if self._listener is not None:
            self._listener.broker_failed(error)

    def _deliver(self, channel: str, payload: bytes) -> None:
        if channel in self._channels and self._listener is not None:
            self._listener.backend_message_received(channel, payload)
