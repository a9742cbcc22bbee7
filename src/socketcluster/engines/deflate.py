"""permessage-deflate for one connection, on top of the websockets package. Source: RFC 7692."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from websockets.exceptions import InvalidHeaderFormat, NegotiationError, PayloadTooBig
from websockets.exceptions import ProtocolError as WebSocketProtocolError
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode
from websockets.headers import build_extension, parse_extension

from socketcluster.engines.base import DeflateOptions
from socketcluster.protocol.frames import RSV1, build_frame, frame_payload

_CACHED_FRAMES = 16
"""Compressed frames to remember: those that one loop turn sends to many connections."""

_CONTROL_BIT = 0x08
"""The bit of an opcode that marks a control frame, which is never compressed."""


class InflateError(Exception):
    """A compressed message cannot be inflated or is too long; `code` is the close code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class DeflateCache:
    """Caches the last compressed frames, so that many connections share one compression."""

    __slots__ = ("_frames", "_last")

    def __init__(self) -> None:
        self._last: tuple[Sequence[bytes], int | None, list[bytes]] = ((), None, [])
        # The keys hold ids; the values keep the frames alive, so that no id is used again.
        self._frames: OrderedDict[tuple[int, int | None], tuple[bytes, bytes]] = OrderedDict()

    def last(self, frames: Sequence[bytes], window: int | None) -> list[bytes] | None:
        """Return the compressed frames of this very list if it was the last one, else None.

        The writes of a loop turn to many connections pass the same list.
        """
        last_frames, last_window, compressed = self._last
        return compressed if frames is last_frames and window == last_window else None

    def put_last(
        self, frames: Sequence[bytes], window: int | None, compressed: list[bytes]
    ) -> None:
        """Remember the compressed frames of a list."""
        self._last = (frames, window, compressed)

    def get(self, frame: bytes, window: int | None) -> bytes | None:
        """Return the compressed form of this very object, or None."""
        entry = self._frames.get((id(frame), window))
        return None if entry is None else entry[1]

    def put(self, frame: bytes, window: int | None, compressed: bytes) -> None:
        """Remember the compressed form of a frame."""
        self._frames[(id(frame), window)] = (frame, compressed)
        if len(self._frames) > _CACHED_FRAMES:
            self._frames.popitem(last=False)


class Deflate:
    """Compresses and inflates one connection's messages."""

    __slots__ = ("_cache", "_extension", "_threshold")

    def __init__(self, extension: PerMessageDeflate, threshold: int, cache: DeflateCache) -> None:
        self._extension = extension
        self._threshold = threshold
        self._cache = cache

    def compress(self, frames: Sequence[bytes]) -> Sequence[bytes]:
        """Compress the finished frames that are at least as long as the threshold.

        The list must not be changed afterwards: the cache recognizes it by identity.
        """
        shareable = self._extension.local_no_context_takeover
        window = self._extension.local_max_window_bits
        if shareable and (cached := self._cache.last(frames, window)) is not None:
            return cached
        threshold = self._threshold
        compressed = [self._compress(f) if len(f) >= threshold else f for f in frames]
        if shareable:
            self._cache.put_last(frames, window, compressed)
        return compressed

    def _compress(self, frame: bytes) -> bytes:
        is_text, payload = frame_payload(frame)
        if len(payload) < self._threshold or frame[0] & _CONTROL_BIT:
            return frame
        extension = self._extension
        shareable = extension.local_no_context_takeover
        window = extension.local_max_window_bits
        if shareable and (cached := self._cache.get(frame, window)) is not None:
            return cached
        opcode = Opcode.TEXT if is_text else Opcode.BINARY
        data = bytes(extension.encode(Frame(opcode, payload)).data)
        compressed = build_frame(frame[0] | RSV1, data)
        if shareable:
            self._cache.put(frame, window, compressed)
        return compressed

    def inflate(self, opcode: int, fin: bool, rsv1: bool, payload: bytes, limit: int) -> bytes:
        """Inflate the payload of a data frame, to at most `limit` bytes.

        Raises:
            InflateError: it is longer (1009) or cannot be inflated (1007).
        """
        frame = Frame(Opcode(opcode), payload, fin, rsv1)
        try:
            return bytes(self._extension.decode(frame, max_size=limit).data)
        except PayloadTooBig as error:
            raise InflateError(1009) from error
        except WebSocketProtocolError as error:
            raise InflateError(1007) from error


def negotiate(
    offer: str | None, options: DeflateOptions, cache: DeflateCache
) -> tuple[str, Deflate] | None:
    """Accept a client's offer of permessage-deflate.

    Returns the Sec-WebSocket-Extensions header for the answer, and the compression it stands for;
    None if the offer has no acceptable permessage-deflate.
    """
    if offer is None:
        return None
    factory = ServerPerMessageDeflateFactory(
        server_no_context_takeover=options.server_no_context_takeover,
        client_no_context_takeover=options.client_no_context_takeover,
        server_max_window_bits=options.server_max_window_bits,
        client_max_window_bits=options.client_max_window_bits,
        compress_settings={"level": options.level, "memLevel": 5},
        require_client_max_window_bits=False,
    )
    try:
        offers = parse_extension(offer)
    except InvalidHeaderFormat:
        return None
    for name, params in offers:
        if name != factory.name:
            continue
        try:
            answer, extension = factory.process_request_params(params, [])
        except NegotiationError:
            continue
        assert isinstance(extension, PerMessageDeflate)
        header = build_extension([(name, answer)])
        return header, Deflate(extension, options.threshold, cache)
    return None


class DeflateOffer:
    """A client's offer of permessage-deflate. `header` is the value of Sec-WebSocket-Extensions."""

    __slots__ = ("_factory", "_threshold", "header")

    def __init__(self, options: DeflateOptions) -> None:
        self._threshold = options.threshold
        self._factory = ClientPerMessageDeflateFactory(
            compress_settings={"level": options.level, "memLevel": 5}
        )
        self.header: str = build_extension(
            [(self._factory.name, self._factory.get_request_params())]
        )

    def agreed(self, answer: str | None) -> Deflate | None:
        """The compression that the server's header agrees to; None if it declines.

        Raises:
            InflateError: 1010, the server chose an extension that was not offered.
        """
        if not answer:
            return None
        try:
            ((name, params),) = parse_extension(answer)
            if name != self._factory.name:
                raise NegotiationError(f"unexpected extension {name}")
            extension = self._factory.process_response_params(params, [])
        except (InvalidHeaderFormat, NegotiationError, ValueError) as error:
            raise InflateError(1010) from error
        assert isinstance(extension, PerMessageDeflate)
        return Deflate(extension, self._threshold, DeflateCache())
