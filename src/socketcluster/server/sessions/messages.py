"""SessionMessages: the servers ask each other for the states of lost clients, and hand them on.

The data of the messages:

- "session-ask", to all: `{"n": 1, "sessions": [["<id>", "<owner>" or null], …]}`;
- "session-answer", to the server that asked: `{"n": 1, "found": [[0, state], …], "more": false}`,
  with the places of the sessions in the question;
- "session-push", to one: `{"states": [["<id>", "<owner>" or null, seconds, state], …]}`.

A state is what `Saved` has, by channel. Sessions are in none of them, only hashes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from socketcluster.errors import BrokerError
from socketcluster.nodes.messages import Message, NodeMessages
from socketcluster.nodes.table import Node
from socketcluster.server.sessions.kept import Name

ASK_SECONDS = 1.0
"""How long the answers of other servers may take."""

COLLECT_SECONDS = 0.005
"""How long questions are collected: many clients come at once."""

KNOW_ALL_SECONDS = 3.0
"""How long after its start a server may not know all others, which introduce themselves at once."""

MAX_ASKED = 200
"""The most sessions of one question."""

MAX_STATE = 40_000
"""The most bytes of one state, so that it fits into a message."""

MAX_REMEMBERED = 10_000
"""How many questions of others are remembered, for states that come later."""

ASK = "session-ask"
ANSWER = "session-answer"
PUSH = "session-push"

T = TypeVar("T")

FoundState = bytes | Awaitable[bytes | None] | None
"""A state; what returns one a little later; or none."""


class _Question(msgspec.Struct):
    n: int
    sessions: list[tuple[str, str | None]]


class _Answer(msgspec.Struct):
    n: int
    found: list[tuple[int, Any]]
    more: bool = False


class _Push(msgspec.Struct):
    states: list[tuple[str, str | None, float, Any]]


class _Asked(NamedTuple):
    """A question of this server that waits for answers.

    Attributes:
        futures: one for each session.
        nodes: those that have not answered.
        knows_all: whether no other server may be there.
    """

    futures: list[asyncio.Future[bytes | None]]
    nodes: set[str]
    knows_all: bool


class _Asker(NamedTuple):
    """A session that another server asked for, when this one did not have it."""

    owner: str | None
    node: str
    number: int
    place: int
    until: float

    def waits(self, owner: str | None, now: float) -> bool:
        """Whether it still waits for a state, and may have that of an owner."""
        return self.until > now and owner in (None, self.owner)


class SessionMessages:
    """Asks for states, answers, and hands all of them on before this server ends.

    Args:
        nodes: sends the messages.
        take: removes and returns the state that this server has, and the name may have.
        put: keeps the state that another server hands on: (name, state, seconds).
    """

    def __init__(
        self,
        nodes: NodeMessages,
        take: Callable[[Name], FoundState],
        put: Callable[[Name, bytes, float], None],
    ) -> None:
        self._nodes = nodes
        self._take = take
        self._put = put
        self._collected: list[tuple[Name, asyncio.Future[bytes | None]]] = []
        self._asked: dict[int, _Asked] = {}
        self._askers: OrderedDict[str, _Asker] = OrderedDict()
        self._number = 0
        self._knows_all_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        nodes.on(ASK, self._question_received)
        nodes.on(ANSWER, self._answer_received)
        nodes.on(PUSH, self._push_received)

    def start(self) -> None:
        """Begin: until all others had time to introduce themselves, each answer is waited for."""
        loop = asyncio.get_running_loop()
        self._knows_all_at = loop.time() + KNOW_ALL_SECONDS

    # Asking

    async def ask(self, name: Name) -> bytes | None:
        """Return the state of a session that another server has, which forgets it then."""
        loop = asyncio.get_running_loop()
        if not self._nodes.nodes and loop.time() >= self._knows_all_at:
            return None
        found: asyncio.Future[bytes | None] = loop.create_future()
        if not self._collected:
            loop.call_later(COLLECT_SECONDS, self._send_questions)
        self._collected.append((name, found))
        return await found

    def _send_questions(self) -> None:
        collected, self._collected = self._collected, []
        for start in range(0, len(collected), MAX_ASKED):
            self._send_question(collected[start : start + MAX_ASKED])

    def _send_question(self, asked: list[tuple[Name, asyncio.Future[bytes | None]]]) -> None:
        loop = asyncio.get_running_loop()
        self._number = number = self._number + 1
        self._asked[number] = _Asked(
            [future for _, future in asked],
            {node.id for node in self._nodes.nodes},
            loop.time() >= self._knows_all_at,
        )
        try:
            self._nodes.send(ASK, {"n": number, "sessions": [tuple(name) for name, _ in asked]})
        except BrokerError:
            self._end(number)
        else:
            loop.call_later(ASK_SECONDS, self._end, number)

    def _end(self, number: int) -> None:
        asked = self._asked.pop(number, None)
        if asked is not None:
            for future in asked.futures:
                if not future.done():
                    future.set_result(None)

    def _answer_received(self, message: Message) -> None:
        answer = msgspec.convert(message.data, _Answer)
        asked = self._asked.get(answer.n)
        if asked is None:
            return
        for place, state in answer.found:
            if 0 <= place < len(asked.futures) and not asked.futures[place].done():
                asked.futures[place].set_result(msgspec.json.encode(state))
        if not answer.more:
            asked.nodes.discard(message.node)
        if all(future.done() for future in asked.futures) or (asked.knows_all and not asked.nodes):
            self._end(answer.n)

    # Answering

    def _question_received(self, message: Message) -> None:
        question = msgspec.convert(message.data, _Question)
        found: list[tuple[int, bytes]] = []
        later: list[tuple[int, Awaitable[bytes | None]]] = []
        for place, fields in enumerate(question.sessions):
            name = Name(*fields)
            state = self._take(name)
            if isinstance(state, bytes):
                found.append((place, state))
            elif state is not None:
                later.append((place, state))
            else:
                self._remember(name, message.node, question.n, place)
        self._answer(message.node, question.n, found, more=bool(later))
        if later:
            task = asyncio.ensure_future(self._answer_later(message.node, question.n, later))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _remember(self, name: Name, node: str, number: int, place: int) -> None:
        now = asyncio.get_running_loop().time()
        self._askers[name.id] = _Asker(name.owner, node, number, place, now + ASK_SECONDS)
        self._askers.move_to_end(name.id)
        if len(self._askers) > MAX_REMEMBERED:
            self._askers.popitem(last=False)

    async def _answer_later(
        self, node: str, number: int, later: list[tuple[int, Awaitable[bytes | None]]]
    ) -> None:
        states = await asyncio.gather(*(state for _, state in later))
        places = [place for place, _ in later]
        found = [(p, state) for p, state in zip(places, states, strict=True) if state is not None]
        self._answer(node, number, found, more=False)

    def _answer(
        self, node: str, number: int, found: list[tuple[int, bytes]], *, more: bool
    ) -> None:
        parts = list(_parts(found, lambda each: len(each[1]))) or [[]]
        for index, part in enumerate(parts):
            states = [(place, msgspec.Raw(state)) for place, state in part]
            is_last = not more and index == len(parts) - 1
            data = {"n": number, "found": states, "more": not is_last}
            try:
                self._nodes.send(ANSWER, data, node)
            except BrokerError:  # The one that asked stops waiting by itself.
                return

    # Handing on

    async def hand_on(self, states: Iterable[tuple[Name, bytes, float]]) -> None:
        """Give states to another server that goes on, if there is one.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        peer = self._peer()
        if peer is None:
            return
        for part in _parts(states, lambda each: len(each[1])):
            data = [(*name, seconds, msgspec.Raw(state)) for name, state, seconds in part]
            accepted = self._nodes.send(PUSH, {"states": data}, peer.id)
            if accepted is not None:
                await accepted

    def _peer(self) -> Node | None:
        """Return a server that does not close; the one that started last, if it can be."""
        return max(self._nodes.peers, key=lambda node: node.since, default=None)

    def _push_received(self, message: Message) -> None:
        now = asyncio.get_running_loop().time()
        for id, owner, seconds, data in msgspec.convert(message.data, _Push).states:
            state = msgspec.json.encode(data)
            asker = self._askers.pop(id, None)
            if asker is not None and asker.node != message.node and asker.waits(owner, now):
                # It was on its way here when the client came back elsewhere.
                self._answer(asker.node, asker.number, [(asker.place, state)], more=True)
            else:
                self._put(Name(id, owner), state, seconds)


def _parts(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield the items in lists of at most `MAX_STATE` bytes, or of one."""
    part: list[T] = []
    total = 0
    for item in items:
        needed = size(item) + 200
        if part and total + needed > MAX_STATE:
            yield part
            part, total = [], 0
        part.append(item)
        total += needed
    if part:
        yield part
