"""Requests over a NATS link: numbered, so that one subscription takes the answers to all.

Source: NATS documentation, "Client protocol", "JetStream wire API Reference"; nats-server 2.9,
server/errors.json.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from nats.aio.client import Client

from socketcluster.brokers.adapter import LinkListener, StoredPublish
from socketcluster.brokers.nats_parser import write
from socketcluster.errors import BrokerError

ANSWER_SECONDS = 8.0
"""How long the server may take for an answer, and a stream for the confirmation of a publish. The
servers of a cluster elect a leader meanwhile."""

RETRY_SECONDS = 1.0
"""How long to wait for an answer before a request is sent again: while servers elect a leader, none
takes requests."""

STREAM_NOT_FOUND = 10059
NO_MESSAGE = 10037
MESSAGE_NOT_FOUND = 10057
STORE_FAILED = 10077
TRANSIENT = (10005, 10008)
"""Errors of a cluster that elects a leader, or whose servers have just started."""
PROBE_SECONDS = 0.05
"""The interval of attempts to find out whether a stream hears its subjects."""

NO_JETSTREAM = (
    "JetStream, which stores the history of channels, is off: start the NATS servers with it "
    "(`nats-server -js`, or a block `jetstream {}` in the configuration), and enable it for the "
    "account of the broker's user"
)
_HINTS = {
    10039: NO_JETSTREAM,
    10076: NO_JETSTREAM,
    10005: "the parameter replicas of the broker's URL needs as many servers with JetStream",
    10023: "give JetStream more storage (max_file_store)",
    10026: "let the account have more streams (max_streams)",
    10047: "give the account more storage (max_file)",
    10058: "see History in NATS in docs/scaling.md for the configuration that it needs",
    10065: "another stream has these subjects: delete that one",
    10074: "the parameter replicas of the broker's URL needs a NATS cluster",
}


class ApiError(BrokerError):
    """An error of JetStream.

    Attributes:
        number: its `err_code`; 0 if no stream or server listens.
    """

    number: int = 0


def api_error(number: int, text: str) -> ApiError:
    """Make the error of an `err_code`, with what to do if that is known."""
    hint = _HINTS.get(number)
    error = ApiError(f"JetStream refused: {text}" + (f" ({hint})" if hint else ""))
    error.number = number
    return error


class UnansweredError(BrokerError):
    """There was no answer in time."""


def unanswered() -> UnansweredError:
    """Return the error of a request without an answer."""
    return UnansweredError(
        f"JetStream did not answer within {ANSWER_SECONDS:g} s: too few of its servers are there, "
        "or it is off at this one"
    )


class Answer(NamedTuple):
    """A message that answers a request.

    Attributes:
        headers: its headers, empty if it has none.
        payload: its data.
    """

    headers: bytes
    payload: bytes

    @property
    def unheard(self) -> bool:
        """Whether no program listens to the request's subject."""
        return self.headers.startswith(b"NATS/1.0 503")

    @property
    def missing(self) -> bool:
        """Whether it says that there is no such message."""
        return self.headers.startswith(b"NATS/1.0 404")


Waiting = StoredPublish | asyncio.Future[Answer]


def publish_line(subject: str, reply: str, headers: bytes, payload: bytes) -> bytes:
    """Return the protocol's line for a message, with the message."""
    size = len(payload)
    if not headers:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), size, payload)
    headers = b"NATS/1.0\r\n%b\r\n\r\n" % headers
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
        subject.encode(),
        reply.encode(),
        len(headers),
        len(headers) + size,
        headers,
        payload,
    )


class Requests:
    """The requests of one link, and its publishes that wait for JetStream's confirmation.

    Args:
        client: the link's.
        inbox: what the subjects of answers begin with.
        listener: told of publishes that are confirmed or refused.
        publish_failed: called with a publish that no stream heard.
    """

    def __init__(
        self,
        client: Client,
        inbox: str,
        listener: LinkListener,
        publish_failed: Callable[[StoredPublish], None],
    ) -> None:
        self._client = client
        self._inbox = inbox
        self._start = len(inbox)
        self._listener = listener
        self._publish_failed = publish_failed
        self._last = 0
        self._waiting: dict[int, tuple[str, Waiting]] = {}
        self._batches: deque[tuple[float, int]] = deque()
        self._outgoing: list[bytes] = []
        self._deaf: BrokerError | None = None

    @property
    def inbox(self) -> str:
        """The subjects of all answers."""
        return f"{self._inbox}*"

    # Sending

    def send(self, subject: str, headers: bytes, payload: bytes, item: Waiting | None) -> None:
        """Put a message into the batch that `flush` sends; its answer is for `item`, if any.

        Raises:
            BrokerError: the message is too long for the server, or no answer can arrive.
        """
        if self._deaf is not None:
            raise self._deaf
        size = len(payload) + (len(headers) + 14 if headers else 0)
        if size > self._client.max_payload:
            raise BrokerError(
                f"maximum payload exceeded: {size} bytes with headers, and the server's "
                f"max_payload is {self._client.max_payload}"
            )
        if item is None:
            self._outgoing.append(publish_line(subject, "", headers, payload))
            return
        self._last += 1
        self._waiting[self._last] = (subject, item)
        reply = f"{self._inbox}{self._last}"
        self._outgoing.append(publish_line(subject, reply, headers, payload))

    def flush(self) -> None:
        """Send the batch."""
        if not self._outgoing:
            return
        lines, self._outgoing = self._outgoing, []
        self._batches.append((asyncio.get_running_loop().time(), self._last))
        write(self._client, b"".join(lines))

    def ask_soon(
        self, subject: str, payload: bytes, headers: bytes = b""
    ) -> asyncio.Future[Answer]:
        """Put a request into the batch. Raises as `send` does."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.send(subject, headers, payload, answered)
        return answered

    async def ask(
        self,
        subject: str,
        payload: bytes = b"",
        headers: bytes = b"",
        seconds: float | None = None,
    ) -> Answer:
        """Send a request and wait for the answer.

        Raises:
            BrokerError: the server refused it, or did not answer.
        """
        answered = self.ask_soon(subject, payload, headers)
        number = self._last
        self.flush()
        try:
            async with asyncio.timeout(ANSWER_SECONDS if seconds is None else seconds):
                return await answered
        except TimeoutError as error:
            raise unanswered() from error
        finally:
            self._waiting.pop(number, None)

    async def api(
        self, name: str, body: dict[str, Any] | None = None, *, once: bool = False
    ) -> dict[str, Any]:
        """Call the API of JetStream.

        Args:
            name: the function and the stream.
            body: its argument.
            once: whether the request must not be sent again.

        Raises:
            ApiError: it answered with an error.
            BrokerError: it did not answer, or the user may not call it.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + ANSWER_SECONDS
        while True:
            left = ends_at - loop.time()
            seconds = left if once else min(left, RETRY_SECONDS)
            try:
                answer = await self.ask(f"$JS.API.{name}", payload, seconds=seconds)
                if answer.unheard:
                    raise BrokerError(NO_JETSTREAM)
                return checked(answer)
            except UnansweredError:
                if left <= RETRY_SECONDS or once:
                    raise
            except ApiError as error:
                if error.number not in TRANSIENT or left <= RETRY_SECONDS:
                    raise
                await asyncio.sleep(RETRY_SECONDS / 4)

    async def until_heard(self, subject: str) -> None:
        """Wait until a stream hears this subject, as another server may not know yet.

        Raises:
            BrokerError: none does.
        """
        # The stream refuses this message, because it has another name.
        probe = b"Nats-Expected-Stream: -"
        for _ in range(int(ANSWER_SECONDS / PROBE_SECONDS)):
            answer = await self.ask(subject, headers=probe)
            if not answer.unheard:
                return
            await asyncio.sleep(PROBE_SECONDS)
        raise BrokerError(f"No stream of JetStream hears {subject!r}: its servers are away")

    # Answers

    def answered(self, subject: bytes, headers: bytes, payload: bytes) -> bool:
        """Handle a message if its subject is that of an answer; return whether it is."""
        if not subject.startswith(self._inbox.encode()):
            return False
        number = subject[self._start :]
        waiting = self._waiting.pop(int(number), None) if number.isdigit() else None
        if waiting is None:
            return True
        item = waiting[1]
        if not isinstance(item, StoredPublish):
            if not item.done():
                item.set_result(Answer(headers, payload))
        elif not headers and b'"error"' not in payload:
            self._listener.publishes_confirmed((item,))
        elif headers:
            self._publish_failed(item)
        else:
            self._listener.publish_refused(item, error_of(payload))
        return True

    def refused(self, subject: str, error: BrokerError) -> bool:
        """Fail the first request with a subject that the user may not use; whether there is one."""
        for number, (used, item) in self._waiting.items():
            if used == subject:
                del self._waiting[number]
                self._fail(item, error)
                return True
        return False

    def close(self, error: BrokerError) -> None:
        """Fail all requests, present and future ones, because no answer can arrive."""
        self._deaf = error
        waiting, self._waiting = self._waiting, {}
        for _, item in waiting.values():
            self._fail(item, error)

    def check(self) -> None:
        """Fail publishes that no stream has confirmed for long."""
        latest = asyncio.get_running_loop().time() - ANSWER_SECONDS
        overdue = 0
        while self._batches and (not self._waiting or self._batches[0][0] < latest):
            overdue = self._batches.popleft()[1]
        for number, (_, item) in list(self._waiting.items()):
            if number > overdue:
                break
            del self._waiting[number]
            text = f"The stream did not confirm the publish within {ANSWER_SECONDS:g} s"
            self._fail(item, BrokerError(f"{text}; it may be stored later"))

    def _fail(self, item: Waiting, error: BrokerError) -> None:
        if isinstance(item, StoredPublish):
            self._listener.publish_refused(item, error)
        elif not item.done():
            item.set_exception(error)


def checked(answer: Answer) -> dict[str, Any]:
    """Return the data of an answer.

    Raises:
        ApiError: it is an error.
    """
    if answer.unheard:
        raise api_error(0, "no stream has the subject")
    data = _parsed(answer.payload)
    if "error" in data:
        raise error_of(answer.payload)
    return data


def error_of(payload: bytes) -> ApiError:
    """Return the error in an answer."""
    try:
        error = _parsed(payload)["error"]
        text = error.get("description", "no reason was given")
        return api_error(int(error.get("err_code", 0)), text)
    except ApiError as error:
        return error
    except (ValueError, TypeError, KeyError, AttributeError):
        return _malformed()


def _parsed(payload: bytes) -> dict[str, Any]:
    # Any program can send an answer.
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise _malformed()
    return data


def _malformed() -> ApiError:
    return api_error(0, "the answer is malformed")
