"""permessage-deflate of one connection, on top of the websockets package. Source: RFC 7692."""

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
from socketcluster.protocol.frames import frame_payload

_RSV1 = 0x40
_CACHED_FRAMES = 16


class InflateError(Exception):
    """A compressed message is broken or too long; `code` is the close code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class DeflateCache:
    """Compressed forms of the last frames, so that what goes to many is compressed once."""

    __slots__ = ("_frames", "_last")

    def __init__(self) -> None:
        self._last: tuple[Sequence[bytes], int | None, list[bytes]] = ((), None, [])
        # Keyed by identity; the frame is held too, so that no other can take its id.
        self._frames: OrderedDict[tuple[int, int | None], tuple[bytes, bytes]] = OrderedDict()

    def last(self, frames: Sequence[bytes], window: int | None) -> list[bytes] | None:
        """The compressed forms of this very list, if it was the last one: what a loop turn sends
        to many connections comes as the same list."""
        known, of_window, compressed = self._last
        return compressed if frames is known and window == of_window else None

    def put_last(
        self, frames: Sequence[bytes], window: int | None, compressed: list[bytes]
    ) -> None:
        """Remember the compressed forms of a list."""
        self._last = (frames, window, compressed)

    def get(self, frame: bytes, window: int | None) -> bytes | None:
        """The compressed form of this very object."""
        found = self._frames.get((id(frame), window))
        return None if found is None else found[1]

    def put(self, frame: bytes, window: int | None, compressed: bytes) -> None:
        """Remember a compressed form."""
        self._frames[(id(frame), window)] = (frame, compressed)
        if len(self._frames) > _CACHED_FRAMES:
            self._frames.popitem(last=False)


class Deflate:
    """Compresses and inflates the messages of one connection."""

    __slots__ = ("_cache", "_extension", "_threshold")

    def __init__(self, extension: PerMessageDeflate, threshold: int, cache: DeflateCache) -> None:
        self._extension = extension
        self._threshold = threshold
        self._cache = cache

    def compress(self, frames: Sequence[bytes]) -> Sequence[bytes]:
        """Finished frames with those of at least the threshold compressed. They may not be
        changed after it."""
        alone = self._extension.local_no_context_takeover
        window = self._extension.local_max_window_bits
        if alone and (known := self._cache.last(frames, window)) is not None:
            return known
        threshold = self._threshold
        compressed = [self._compress(f) if len(f) >= threshold else f for f in frames]
        if alone:
            self._cache.put_last(frames, window, compressed)
        return compressed

    def _compress(self, frame: bytes) -> bytes:
        is_text, payload = frame_payload(frame)
        if len(payload) < self._threshold or frame[0] & 0x08:
            return frame
        extension = self._extension
        alone = extension.local_no_context_takeover
        window = extension.local_max_window_bits
        if alone and (known := self._cache.get(frame, window)) is not None:
            return known
        opcode = Opcode.TEXT if is_text else Opcode.BINARY
        data = bytes(extension.encode(Frame(opcode, payload)).data)
        compressed = _with_header(frame[0] | _RSV1, data)
        if alone:
            self._cache.put(frame, window, compressed)
        return compressed

    def inflate(self, opcode: int, fin: bool, rsv1: bool, payload: bytes, limit: int) -> bytes:
        """The payload of a data frame; `limit` bytes at most.

        Raises:
            InflateError: it is longer (1009) or broken (1007).
        """
        frame = Frame(Opcode(opcode), payload, fin, rsv1)
        try:
            return bytes(self._extension.decode(frame, max_size=limit).data)
        except PayloadTooBig as error:
            raise InflateError(1009) from error
        except WebSocketProtocolError as error:
            raise InflateError(1007) from error


def _with_header(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def negotiate(
    offer: str | None, options: DeflateOptions, cache: DeflateCache
) -> tuple[str, Deflate] | None:
    """The Sec-WebSocket-Extensions header to answer an offer with, and what it stands for; None
    if the offer has no permessage-deflate that suits."""
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
    """A client's offer of permessage-deflate; `header` is its Sec-WebSocket-Extensions."""

    __slots__ = ("_factory", "_threshold", "header")

    def __init__(self, options: DeflateOptions) -> None:
        self._threshold = options.threshold
        self._factory = ClientPerMessageDeflateFactory(
            compress_settings={"level": options.level, "memLevel": 5}
        )
        self.header = build_extension([(self._factory.name, self._factory.get_request_params())])

    def agreed(self, answer: str | None) -> Deflate | None:
        """What the server's header makes of it; None if it has declined.

        Raises:
            InflateError: the server answered with what was not offered.
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
