"""Questions: what a node has asked others about their members, until they have answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from socketcluster.presence.packets import MAX_NAMED, Ask, chunks

RETRY_SECONDS = 1.0
"""How long after a question without an answer it is asked again."""

SETTLE_SECONDS = 2.0
"""How long at most a question delays the state that viewers of its channels receive first."""

GIVE_UP_SECONDS = 15.0
"""How long a question is repeated to a node that does not answer, maybe of another version."""


class _Question:
    """A question that some nodes have not answered.

    `node` is the one node that is asked, or None; `described` has the channels that it answered.
    """

    __slots__ = ("asked_at", "began_at", "channels", "described", "is_settled", "node", "waiting")

    def __init__(
        self, channels: list[str], node: str | None, waiting: set[str], now: float
    ) -> None:
        self.channels = channels
        self.node = node
        self.waiting = waiting
        self.described: set[str] = set()
        self.began_at = self.asked_at = now
        self.is_settled = False


class Questions:
    """Repeats questions, and notices when all nodes have answered.

    Args:
        ask: sends a question soon.
        settled: called with channels when all nodes have answered, or have had time to, and
            whether all have.
        gave_up: called with a node that has not answered for a long time.

    Attributes:
        complete_at: before this time of the loop, a question to all nodes has no complete answer,
            because some of them are not known yet.
    """

    __slots__ = ("_ask", "_gave_up", "_number", "_open", "_retry", "_settled", "complete_at")

    def __init__(
        self,
        ask: Callable[[Ask], None],
        settled: Callable[[Iterable[str], bool], None],
        gave_up: Callable[[str], None],
    ) -> None:
        self._ask = ask
        self._settled = settled
        self._gave_up = gave_up
        self._number = 0
        self._open: dict[int, _Question] = {}
        self._retry: asyncio.TimerHandle | None = None
        self.complete_at: float = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, number: int) -> bool:
        return number in self._open

    def close(self) -> None:
        """Ask no more; settle the channels of all questions."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        unsettled = [q for q in self._open.values() if not q.is_settled]
        self._open.clear()
        for question in unsettled:
            self._settled(question.channels, False)

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # Asking

    def ask_all(self, channels: list[str], nodes: Iterable[str]) -> None:
        """Ask all nodes for channels; `nodes` are those that are known."""
        self._begin(channels, None, set(nodes), self._now)
        self.check()

    def ask_one(self, channels: list[str], node: str) -> None:
        """Ask one node for all channels, in place of former questions to it alone."""
        former = {number: q for number, q in self._open.items() if q.node == node}
        for number in former:
            del self._open[number]
        unsettled = [q.began_at for q in former.values() if not q.is_settled]
        self._begin(channels, node, {node}, min(unsettled, default=self._now))
        self.check()

    def _begin(
        self, channels: list[str], node: str | None, waiting: set[str], began_at: float
    ) -> None:
        for chunk in chunks(channels):
            self._number += 1
            question = self._open[self._number] = _Question(chunk, node, set(waiting), self._now)
            question.began_at = began_at
            self._ask(Ask(self._number, chunk, [] if node is None else [node]))

    # Answers

    def described(self, node: str, channels: Collection[str]) -> None:
        """Take that a node has described all its members of channels."""
        for question in self._open.values():
            if question.node == node:
                question.described.update(channels)

    def undescribed(self, node: str, number: int) -> list[str]:
        """Return the channels of a question that the one node asked has not described."""
        question = self._open.get(number)
        if question is None or question.node != node:
            return []
        return [channel for channel in question.channels if channel not in question.described]

    def answered(self, node: str, number: int) -> None:
        """Take that a node has answered a question."""
        question = self._open.get(number)
        if question is not None:
            question.waiting.discard(node)
            self.check()

    def lost(self, node: str) -> None:
        """Wait no longer for a node."""
        for question in self._open.values():
            question.waiting.discard(node)
        self.check()

    def check(self) -> None:
        """Settle the questions that are answered, or have had their time; ask others again."""
        now = self._now
        for number, question in list(self._open.items()):
            answered = not question.waiting and now >= self.complete_at
            if answered:
                del self._open[number]
            elif question.waiting and now >= question.began_at + GIVE_UP_SECONDS:
                del self._open[number]
                for node in question.waiting:
                    self._gave_up(node)
            elif question.waiting and now >= question.asked_at + RETRY_SECONDS:
                question.asked_at = now
                nodes = sorted(question.waiting) if len(question.waiting) <= MAX_NAMED else []
                self._ask(Ask(number, question.channels, nodes))
            if not question.is_settled and (answered or now >= question.began_at + SETTLE_SECONDS):
                question.is_settled = True
                self._settled(question.channels, answered)
        if self._open and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self.check()
