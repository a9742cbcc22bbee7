"""Settings: the current options of a client, and the wire format for them."""

from __future__ import annotations

from socketcluster.client.options import ClientOptions
from socketcluster.codecs.json import JSONCodec
from socketcluster.protocol.numbered import NumberedReader
from socketcluster.protocol.wire import Wire, largest_uncounted


class Settings:
    """One value that the parts of a client share; `connect(**options)` replaces its content.

    Attributes:
        options: the ClientOptions.
        wire: encodes and decodes packets with the codec of the options.
        reader: decodes received messages.
        recovers: whether a subscription recovers, so that `reader` gives the offsets of publishes.
    """

    __slots__ = ("options", "reader", "recovers", "wire")

    options: ClientOptions
    wire: Wire
    reader: Wire | NumberedReader

    def __init__(self, options: ClientOptions) -> None:
        self.recovers: bool = False
        self.use(options)

    def use(self, options: ClientOptions) -> None:
        """Replace the options, and make a new wire for their codec."""
        uncounted = largest_uncounted(
            options.max_inbound_backlog, options.max_inbound_backlog_bytes
        )
        self.options = options
        self.wire = Wire(options.codec_engine or JSONCodec(), unparsed_above=uncounted)
        self.reader = NumberedReader(self.wire) if self.recovers else self.wire

    def recover(self) -> None:
        """Read the offsets of publishes from now on."""
        self.recovers = True
        self.reader = NumberedReader(self.wire)
