"""The keys of stored publishes in Redis, each in the slot of its channel.

`<prefix>:history:{<prefix>:<channel>}` is the stream of a channel, `…:position:{…}` its hash. The
braces make the name of the channel decide on the slot of a cluster, as it does for its publishes.

Source: Redis documentation, "Redis cluster specification", "Hash tags".
"""

from __future__ import annotations

import binascii
from functools import cache

SLOTS = 16384


def slot_of(name: str) -> int:
    """Return the slot of a key or channel: the CRC16 (XMODEM) of its name, or of its hash tag."""
    tag = hash_tag(name)
    key = (name if tag is None else tag).encode("utf-8", "surrogateescape")
    return binascii.crc_hqx(key, 0) % SLOTS


def hash_tag(name: str) -> str | None:
    """Return the part in braces that decides on the slot; None if the whole name does."""
    start = name.find("{")
    end = name.find("}", start + 1)
    return name[start + 1 : end] if start >= 0 and end > start + 1 else None


class StoreKeys:
    """Makes the keys of one application. `prefix` includes its separator."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        # Braces before those of the channel would decide on the slot.
        self._root = prefix.replace("{", "%7B").replace("}", "%7D")

    def of_channel(self, channel: str) -> tuple[str, str]:
        """Return the keys of the channel's stream and of its hash."""
        tagged = _tagged(self._prefix + channel)
        return f"{self._root}history:{tagged}", f"{self._root}position:{tagged}"

    def of_id(self, channel: str, id: str) -> str:
        """Return the key of the id of a publish."""
        tagged = _tagged(self._prefix + channel)
        # The length tells where the channel ends, whatever it has in common with ids.
        return f"{self._root}id:{len(tagged)}:{tagged}:{id}"

    def of_value(self, key: str) -> str:
        """Return the key of a kept value. Its slot is its own."""
        return f"{self._root}kept:{key}"


def _tagged(name: str) -> str:
    """Return text whose hash tag has the slot of `name`, and which no other name has."""
    if name and "}" not in name:
        return f"{{{name}}}"
    tag = hash_tag(name)
    if tag is None:  # The name itself would end at its first brace.
        tag = _tags_of_slots()[slot_of(name)]
    return f"{{{tag}}}{name}"


@cache
def _tags_of_slots() -> dict[int, str]:
    """Return a tag for each slot: the first decimal number that has it."""
    tags: dict[int, str] = {}
    number = 0
    while len(tags) < SLOTS:
        tags.setdefault(binascii.crc_hqx(b"%d" % number, 0) % SLOTS, str(number))
        number += 1
    return tags
