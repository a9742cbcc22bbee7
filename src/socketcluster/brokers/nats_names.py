"""Names on a NATS server: the subjects of channels and histories, and the streams of JetStream."""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

from socketcluster.brokers.storing import Retention

_UNSAFE = re.compile(r"[\x00-\x20\x7f*>%]|^\.|\.$|\.(?=\.)|(?<=\.)\.")
_NO_NAME = re.compile(r"[^A-Za-z0-9-]")
_RETENTION = re.compile(r"([0-9]{1,9})-([0-9]{1,15})(s|ms)")


def subject_of(channel: str) -> str:
    """Return a channel's subject.

    Whitespace, `*`, `>`, `%`, and dots that would leave an empty token are percent-encoded.
    """
    return _UNSAFE.sub(lambda match: f"%{ord(match.group()):02X}", channel) or "%"


def retention_name(retention: Retention) -> str:
    """Return what a retention is called in names: `100-300s`, or `100-1500ms`."""
    milliseconds = max(1, round(retention.ttl * 1000))
    if milliseconds % 1000:
        return f"{retention.size}-{milliseconds}ms"
    return f"{retention.size}-{milliseconds // 1000}s"


def parse_retention(name: str) -> Retention | None:
    """Return the retention of a name; None if it names none."""
    match = _RETENTION.fullmatch(name)
    if match is None:
        return None
    return Retention(int(match[1]), int(match[2]) / (1 if match[3] == "s" else 1000))


class Names(NamedTuple):
    """The names of one application.

    All subjects begin with the prefix and "!": no channel leads to them.

    Attributes:
        channels: what the subjects of channels begin with: `sc.`.
        own: what all other subjects begin with: `sc!`.
        streams: what the names of streams begin with: `sc_`.
    """

    channels: str
    own: str
    streams: str

    @property
    def replies(self) -> tuple[str, str]:
        """The beginnings of subjects of answers, and of the messages about epochs, begin with."""
        return f"{self.own}reply.", f"{self.own}renewed."

    @classmethod
    def of(cls, prefix: str) -> Names:
        """Return the names for the prefix of a broker's options."""
        encoded = _NO_NAME.sub(lambda match: f"={ord(match.group()):02X}", prefix)
        return cls(f"{prefix}.", f"{prefix}!", f"{encoded}_")

    def stored(self, retention: Retention) -> str:
        """Return what the subjects of a retention's stored publishes begin with."""
        return f"{self.own}history.{retention_name(retention)}."

    def stream(self, retention: Retention) -> str:
        """Return the name of a retention's stream."""
        return f"{self.streams}history_{retention_name(retention)}"

    def retention(self, stream: str) -> Retention | None:
        """Return the retention of a stream; None if the stream is another program's."""
        start = f"{self.streams}history_"
        return parse_retention(stream[len(start) :]) if stream.startswith(start) else None


def epoch_of(stream_epoch: str, subject: bytes) -> str:
    """Return the epoch of a channel: that of its stream, and a hash of its subject."""
    return f"{stream_epoch}-{crc32(subject):08x}"
