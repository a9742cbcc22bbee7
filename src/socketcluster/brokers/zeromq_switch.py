"""The switch of the ZeroMQ proxy: it passes publishes on to subscribed links.

Each link has a queue of its own, bounded in bytes. A link whose queue is full is cut off: its
process learns that from a last message, connects anew and reports a gap.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from socketcluster.brokers.epochs import LinkEpochs
from socketcluster.brokers.zeromq_store import PageRest, ProxyStore
from socketcluster.brokers.zeromq_wire import (
    BATCH_BYTES,
    BODY_OVERHEAD,
    CUT,
    PUBLISH,
    RECORD_OVERHEAD,
    REQUEST,
    STORE,
    SUBSCRIBE,
    UNSUBSCRIBE,
    WINDOW_BYTES,
    Flow,
    LinkError,
    identity_parts,
    record_of,
    records_in,
)

logger: logging.Logger = logging.getLogger("socketcluster.brokers")

SILENT_SECONDS = 5.0
"""How long a link may be silent before the proxy tests whether its process is still connected."""


class ProxyLink:
    """A process's link, as the proxy sees it.

    Attributes:
        queue: records that are not sent yet.
        queued: their bytes.
        page_rest: of the long page that the process reads.
        is_cut: whether the link was cut off, and its process does not know that yet.
        heard_at, probe_at: when the last message came, and when to test a silent link.
    """

    __slots__ = (
        "flow",
        "heard_at",
        "identity",
        "is_cut",
        "page_rest",
        "probe_at",
        "process",
        "queue",
        "queued",
        "topics",
    )

    def __init__(self, identity: bytes, process: bytes, now: float) -> None:
        self.identity: bytes = identity
        self.process: bytes = process
        self.flow: Flow = Flow()
        self.topics: set[bytes] = set()
        self.queue: deque[bytes] = deque()
        self.queued: int = 0
        self.page_rest: PageRest = deque()
        self.is_cut: bool = False
        self.heard_at: float = now
        self.probe_at: float = now + SILENT_SECONDS


class Switch:
    """Passes records on between links.

    Args:
        send: sends a message to an identity; returns whether that process is connected.
        max_buffered: how many bytes a link's queue holds.
        store: keeps stored publishes.

    Attributes:
        links: identity → link.
        cut_off: how many links were cut off.
    """

    def __init__(
        self, send: Callable[[bytes, bytes], bool], max_buffered: int, store: ProxyStore
    ) -> None:
        self.links: dict[bytes, ProxyLink] = {}
        self.cut_off: int = 0
        self._send = send
        self._max_buffered = max_buffered
        self._store = store
        self._topics: dict[bytes, dict[ProxyLink, None]] = {}
        self._of_process: dict[bytes, ProxyLink] = {}
        self._epochs = LinkEpochs()
        self._changed: dict[ProxyLink, None] = {}

    def handle(self, identity: bytes, message: bytes, now: float) -> None:
        """Carry out a message of a process."""
        link = self.links.get(identity) or self._open(identity, now)
        if link is None or link.is_cut:
            return
        link.heard_at = now
        link.probe_at = now + SILENT_SECONDS
        self._changed[link] = None
        try:
            link.flow.take(message)
            for kind, topic, start, body, end in records_in(message):
                if kind == PUBLISH:
                    size = end - body - BODY_OVERHEAD
                    if size > self._max_buffered:
                        raise LinkError(f"A publish has {size} bytes, above max_buffered")
                    self._pass_on(topic, message[start:end])
                    if link.is_cut:  # Its own queue is full.
                        return
                elif kind == SUBSCRIBE:
                    link.topics.add(topic)
                    self._topics.setdefault(topic, {})[link] = None
                elif kind == UNSUBSCRIBE:
                    self._unsubscribe(link, topic)
                else:
                    self._handle_storing(link, kind, topic, message, body, end)
                    if link.is_cut:
                        return
        except LinkError as fault:
            self._cut(link, f"The proxy cut the link off: {fault}")

    def _handle_storing(
        self, link: ProxyLink, kind: int, topic: bytes, message: bytes, body: int, end: int
    ) -> None:
        if kind == STORE:
            record = self._store.publish(topic, message, body, end)
            if record is not None:
                self._pass_on(topic, record)
        elif kind == REQUEST:
            record = self._store.answer(link.page_rest, topic, message, body, end)
            if record is not None:
                link.queue.append(record)
                link.queued += len(record) + RECORD_OVERHEAD
                self._relieve(link)
        else:
            raise LinkError(f"A record has the unknown kind {kind} and {end - body} bytes")

    def _open(self, identity: bytes, now: float) -> ProxyLink | None:
        parts = identity_parts(identity)
        # What a lost link sent may arrive after messages of the process's next link.
        if parts is None or self._epochs.is_stale(*parts):
            return None
        process = parts[0]
        if process in self._of_process:
            self._forget(self._of_process[process])
        link = ProxyLink(identity, process, now)
        self.links[identity] = self._of_process[process] = link
        return link

    def _pass_on(self, topic: bytes, record: bytes) -> None:
        links = self._topics.get(topic)
        if not links:
            return
        size = len(record) + RECORD_OVERHEAD
        full: list[ProxyLink] = []
        for link in links:
            link.queue.append(record)
            link.queued += size
            if link.queued > self._max_buffered:
                full.append(link)
        self._changed.update(links)
        for link in full:
            self._relieve(link)

    def _relieve(self, link: ProxyLink) -> None:
        """Cut a link off if its queue is full, unless it can be sent."""
        if link.queued <= self._max_buffered:
            return
        # A large publish may follow others of this turn, which are not sent yet.
        if self._send_queued(link) and link.queued > self._max_buffered:
            self._cut(
                link,
                f"This process read too slowly: {len(link.queue)} records of {link.queued} "
                f"bytes waited for it, above the proxy's max_buffered of {self._max_buffered}",
            )

    def _unsubscribe(self, link: ProxyLink, topic: bytes) -> None:
        link.topics.discard(topic)
        links = self._topics.get(topic)
        if links is not None:
            links.pop(link, None)
            if not links:
                del self._topics[topic]

    def _close(self, link: ProxyLink) -> None:
        for topic in list(link.topics):
            self._unsubscribe(link, topic)
        link.queue.clear()
        link.queued = 0
        link.page_rest.clear()
        self._changed.pop(link, None)

    def _cut(self, link: ProxyLink, reason: str) -> None:
        self.cut_off += 1
        logger.warning("The ZeroMQ proxy cuts a process off: %s", reason)
        link.is_cut = True
        self._close(link)
        self._transmit(link, link.flow.acknowledgment(record_of(CUT, b"", reason.encode())))

    def _forget(self, link: ProxyLink) -> None:
        self._close(link)
        self.links.pop(link.identity, None)
        if self._of_process.get(link.process) is link:
            del self._of_process[link.process]

    def _transmit(self, link: ProxyLink, message: bytes) -> bool:
        if self._send(link.identity, message):
            return True
        self._forget(link)
        return False

    def flush(self) -> None:
        """Send what the links' windows allow, and acknowledge the messages handled so far."""
        changed, self._changed = self._changed, {}
        for link in changed:
            if self._send_queued(link) and link.flow.unacknowledged:
                self._transmit(link, link.flow.acknowledgment())

    def _send_queued(self, link: ProxyLink) -> bool:
        queue = link.queue
        while queue and link.flow.on_the_way < WINDOW_BYTES:
            records = [queue.popleft()]
            size = len(records[0])
            while queue and size + len(queue[0]) <= BATCH_BYTES:
                record = queue.popleft()
                records.append(record)
                size += len(record)
            link.queued -= size + len(records) * RECORD_OVERHEAD
            if not self._transmit(link, link.flow.pack(records)):
                return False
        return True

    def probe(self, now: float) -> None:
        """Forget silent links whose processes disconnected: ZeroMQ tells that on sending only."""
        for link in list(self.links.values()):
            if now >= link.probe_at:
                # A process may be stopped for days: test it ever less often.
                link.probe_at = now + max(SILENT_SECONDS, now - link.heard_at)
                self._transmit(link, link.flow.acknowledgment())
