"""Sessions: the sessions of one server, of connected clients and of lost ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec

from socketcluster.brokers.storing import Position
from socketcluster.errors import BrokerError
from socketcluster.history.stored_channel import StoredChannel
from socketcluster.pubsub.exchange import AGExchange
from socketcluster.runtime.reporting import Reporter
from socketcluster.server.parts.session import Saved, SessionSubscriptions, SocketSession, State
from socketcluster.server.parts.stored_channels import Start, StoredChannels
from socketcluster.server.recovery import Recovery, is_secret
from socketcluster.server.reporting import ServerReports
from socketcluster.server.sessions.engine import SessionEngine
from socketcluster.server.sessions.kept import KeptSessions, Name, allowed_names
from socketcluster.server.sessions.messages import MAX_STATE, FoundState, SessionMessages
from socketcluster.server.sessions.reading import owner_of, session_id, session_reader
from socketcluster.server.socket import AGServerSocket

CLOSE_TAKEN_OVER = 4509
"""The close code of a socket whose session another connection has. Stock clients stay away after
codes from 4500 on: two that share a session would take it from each other for ever."""

TAKEN_OVER = "Another connection has the session"
WEAK = (
    "The session of a client was refused, and it goes on without recovery. A session is a secret "
    "of 122 random bits or more, such as crypto.randomUUID()"
)
CLEAN = 1000
PAUSE_EVERY = 250
"""How many states to make before other callbacks of the loop run."""

HAND_ON_SECONDS = 2.0
"""How long a closing server may take to give its states to others."""

_decode = msgspec.json.Decoder(dict[str, Saved]).decode
_encode = msgspec.json.Encoder().encode


class _Channels:
    """The channels with history, for sessions."""

    __slots__ = ("_exchange", "_shared")

    def __init__(self, exchange: AGExchange, shared: StoredChannels) -> None:
        self._exchange = exchange
        self._shared = shared

    @property
    def delivered(self) -> int:
        return self._exchange.stored.numbers.count

    def stored(self, channel: str) -> StoredChannel | None:
        return self._exchange.stored_channel(channel)

    def start(self, user: str | None, channel: str, position: Position) -> Start:
        return self._shared.start(user, channel, position)

    def start_of(self, socket: AGServerSocket, channel: str) -> Start | None:
        subscribed = socket.subscribed
        assert isinstance(subscribed, SessionSubscriptions)
        return subscribed.start_of(channel)

    def user(self, socket: AGServerSocket) -> str | None:
        return self._shared.user(socket)


class Sessions:
    """The sessions of one server.

    Args:
        recovery: the option.
        exchange: has the channels.
        reports: reports faults.
        reporter: logs.

    Attributes:
        kept: the states of lost clients.
        messages: to other servers; None if there are none.
        engine: the backend that keeps states; None if it does not.
    """

    def __init__(
        self, recovery: Recovery, exchange: AGExchange, reports: ServerReports, reporter: Reporter
    ) -> None:
        self._recovery = recovery
        self._exchange = exchange
        self._reports = reports
        self._reporter = reporter
        self._read = session_reader(recovery.session)
        self._shared: StoredChannels | None = None
        self._channels: _Channels | None = None
        self._live: dict[str, list[SocketSession]] = {}
        self._unwritten: dict[Name, None] = {}
        self._tasks: set[asyncio.Future[Any]] = set()
        self.kept: KeptSessions = KeptSessions(lambda: asyncio.get_running_loop().time())
        self.messages: SessionMessages | None = None
        self.engine: SessionEngine | None = None

    def use(self, shared: StoredChannels) -> None:
        """Begin to serve sessions, because a rule has history."""
        self._shared = shared
        self._channels = _Channels(self._exchange, shared)

    @property
    def counts(self) -> dict[str, int]:
        """How many sessions have a connected client, and how many a lost one."""
        return {"connected": sum(map(len, self._live.values())), "lost": len(self.kept)}

    # Sockets

    def opened(self, socket: AGServerSocket) -> None:
        """Take over the session of a socket whose handshake is complete."""
        id = None if self._channels is None else self._id_of(socket)
        if id is None or self._channels is None or self._shared is None:
            return
        session = SocketSession(id, socket, self._channels, self._ended)
        name = _name_of(session)
        found = self.take(name)
        former = socket.subscribed
        socket.subscribed = made = SessionSubscriptions(socket, socket.context, self._shared)
        made.take_over(former)
        made.session = made.noted = session
        self._live.setdefault(id, []).append(session)
        if isinstance(found, bytes):
            self._resume(session, found)
        elif found is not None or self.messages is not None or self.engine is not None:
            session.looking = asyncio.ensure_future(self._look(session, name, found))

    def _id_of(self, socket: AGServerSocket) -> str | None:
        """Return the hash of a socket's session; None without one."""
        try:
            text = self._read(socket)
        except Exception as error:
            self._reports.report_fault(error, socket)
            return None
        if text is None:
            return None
        if not is_secret(text):
            self._reporter.line_once(WEAK, "session", socket=socket)
            return None
        return session_id(text)

    def pinged(self, socket: AGServerSocket) -> None:
        """Note a ping, which the caller sends now."""
        session = _session_of(socket)
        if session is not None:
            session.pinged()

    def ponged(self, socket: AGServerSocket) -> None:
        """Take a pong."""
        session = _session_of(socket)
        if session is not None:
            session.ponged()

    def _ended(self, session: SocketSession) -> None:
        """Keep the state of a client that was lost."""
        if session.is_over:
            return
        if session.looking is not None:  # Until then it may be taken over as it is.
            session.looking.add_done_callback(lambda _: self._ended(session))
            return
        self._forget(session)
        name = _name_of(session)
        if session.socket.closing.code == CLEAN:
            if self.engine is not None:
                self._take_stored_soon(self.engine, name)
        elif (state := self._encoded(session)) is not None:
            self.keep(name, state, self._recovery.seconds)

    def _forget(self, session: SocketSession) -> None:
        session.is_over = True
        sessions = self._live[session.id]
        sessions.remove(session)
        if not sessions:
            del self._live[session.id]

    def keep(self, name: Name, state: bytes, seconds: float) -> None:
        """Keep the state of a lost client."""
        self.kept.put(name, state, seconds)
        if self.engine is not None:
            self._unwritten[name] = None

    def _encoded(self, session: SocketSession) -> bytes | None:
        """Return the state of a session, encoded; None if it is empty."""
        state = session.state()
        if not state:
            return None
        encoded = _encode(state)
        return encoded if len(encoded) <= MAX_STATE else _encode(_cut(state))

    # States of former sockets

    def take(self, name: Name) -> FoundState:
        """Remove and return the state of a session that a client may have.

        A socket that has the session is closed.
        """
        for each in allowed_names(name):
            for session in self._live.get(name.id, ()):
                if _name_of(session) == each:
                    return self._take_over(session)
            if (state := self.kept.take(each)) is not None:
                return state
        return None

    def _take_over(self, session: SocketSession) -> FoundState:
        looking = session.looking
        state = None if looking is not None else self._encoded(session) or b"{}"
        self._forget(session)
        session.socket.closing.leave(CLOSE_TAKEN_OVER, TAKEN_OVER, TAKEN_OVER)
        return state if looking is None else self._take_later(session, looking)

    async def _take_later(
        self, session: SocketSession, looking: asyncio.Future[None]
    ) -> bytes | None:
        await asyncio.shield(looking)
        return self._encoded(session)

    async def _look(
        self, session: SocketSession, name: Name, found: Awaitable[bytes | None] | None
    ) -> None:
        """Look for the state of a client's former socket, which is not in this process."""
        try:
            state = None if found is None else await found
            if state is None:
                state = await self._search(name)
            if state is not None:
                self._resume(session, state)
        except Exception as error:
            self._reports.report_fault(error, session.socket)
        finally:
            session.looking = None

    def _resume(self, session: SocketSession, state: bytes) -> None:
        try:
            session.resume(_decode(state))
        except msgspec.DecodeError as error:  # Of a server of another version.
            self._reports.report_fault(error, session.socket)

    async def _search(self, name: Name) -> bytes | None:
        """Ask the other servers and the backend, at the same time. What a server has is newer."""
        stored = None
        if self.engine is not None:
            stored = self._take_stored_soon(self.engine, name)
        state = None if self.messages is None else await self.messages.ask(name)
        return await stored if state is None and stored is not None else state

    def _take_stored_soon(self, engine: SessionEngine, name: Name) -> asyncio.Future[bytes | None]:
        stored = asyncio.ensure_future(self._take_stored(engine, name))
        self._tasks.add(stored)
        stored.add_done_callback(self._tasks.discard)
        return stored

    async def _take_stored(self, engine: SessionEngine, name: Name) -> bytes | None:
        try:
            return await engine.take(name)
        except BrokerError as error:
            self._reports.report_broker("session", error)
            return None

    # The backend, and other servers

    async def write(self) -> None:
        """Write all states to the backend."""
        if self.engine is None:
            return
        states: dict[Name, bytes] = {}
        for number, session in enumerate(list(self._sessions()), 1):
            if not session.is_over and (state := self._encoded(session)) is not None:
                states[_name_of(session)] = state
            if number % PAUSE_EVERY == 0:
                await asyncio.sleep(0)
        unwritten, self._unwritten = self._unwritten, {}
        lost = {name: state for name, state, _ in self.kept.items() if name in unwritten}
        try:
            await self.engine.keep(states | lost)
        except BrokerError as error:
            self._unwritten = dict.fromkeys(lost) | self._unwritten
            self._reports.report_broker("session", error)

    def _sessions(self) -> Iterator[SocketSession]:
        for sessions in self._live.values():
            yield from sessions

    async def run(self, pause: Callable[[], float]) -> None:
        """Write all states once in `pause()` seconds, until cancelled."""
        while True:
            await asyncio.sleep(pause())
            await self.write()

    async def hand_on(self) -> None:
        """Give the states to the backend and to another server, because this one ends."""
        try:
            async with asyncio.timeout(HAND_ON_SECONDS):
                await self.write()
                if self.messages is not None:
                    await self.messages.hand_on(self.kept.items())
        except (BrokerError, TimeoutError) as error:
            self._reports.report_broker("session", error)


def _name_of(session: SocketSession) -> Name:
    return Name(session.id, owner_of(session.id, session.user))


def _session_of(socket: AGServerSocket) -> SocketSession | None:
    subscribed = socket.subscribed
    return subscribed.noted if isinstance(subscribed, SessionSubscriptions) else None


def _cut(state: State) -> State:
    """Return the first channels of a state that is too long."""
    kept: dict[str, Saved] = {}
    room = MAX_STATE
    for channel, saved in state.items():
        room -= len(_encode({channel: saved}))
        if room < 0:
            break
        kept[channel] = saved
    return kept
