"""NumberedReader: decodes messages with the offsets of publishes, for a client that recovers.

Other clients do not pay for it: `Wire.decode` skips the offset.
"""

from __future__ import annotations

import msgspec

from socketcluster.codecs.scan import without_lone_surrogates
from socketcluster.protocol.json_packets import DECODE_ERRORS
from socketcluster.protocol.packets import AnyPacket, Batch, Publication, PublishPacket
from socketcluster.protocol.wire import Wire


class NumberedPublication(Publication, gc=False):
    """The data of a '#publish', with its number in the channel's history; None without one."""

    offset: int | None = None


class _Data(msgspec.Struct, gc=False):
    offset: int | None = None


class _Fields(msgspec.Struct, gc=False):
    data: _Data


_FIELDS = msgspec.json.Decoder(_Fields)


class NumberedReader:
    """Decodes messages as its wire does; publishes have their offset."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def decode(self, message: bytes) -> AnyPacket | Batch:
        """See `Wire.decode`."""
        decoded = self._wire.decode(message)
        if isinstance(decoded, Batch):
            return _NumberedBatch(decoded.items, decoded.make)
        return _numbered(decoded, message)


class _NumberedBatch(Batch):
    __slots__ = ()

    def packet(self, index: int) -> AnyPacket:
        item = self.items[index]
        return _numbered(super().packet(index), item)


def _numbered(packet: AnyPacket, message: bytes | msgspec.Raw) -> AnyPacket:
    # Only JSON has such packets. In another codec's, the data has the offset.
    if type(packet) is PublishPacket:
        data = packet.data
        offset = _offset(bytes(message))
        packet.data = NumberedPublication(data.channel, data.data, data.id, offset)
    return packet


def _offset(message: bytes) -> int | None:
    for text in (message, without_lone_surrogates(message)):
        try:
            return _FIELDS.decode(text).data.offset
        except DECODE_ERRORS:
            pass
    return None
