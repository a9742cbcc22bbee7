"""Scans of JSON texts: depth, costly numbers and lone surrogates, found without decoding.

A peer chooses the size of a message, and walking its value in Python takes ten times as long as
decoding it. These functions search the bytes at the speed of C. They do not check whether a text
is valid JSON.
"""

from __future__ import annotations

import random
import re
from array import array
from itertools import accumulate
from operator import add

_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_BITS = bytes.maketrans(b"[]", b"10")
_STEPS = [[1 if bit == "1" else -1 for bit in f"{byte:08b}"] for byte in range(256)]
_RISES = bytes(sum(steps) & 255 for steps in _STEPS)
_PEAKS = bytes(max(0, *accumulate(steps)) for steps in _STEPS)
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_DIGITS_AND_E = bytes.maketrans(b"123456789E", b"0" * 9 + b"e")
_SAMPLES = 32
_SAMPLE_BYTES = 512
_MOST = 0.7
_EXPONENT = re.compile(rb"[0-9.]+[eE][-+]?[0-9]+").findall
_EXPONENTS_OF_3_DIGITS = (b"e000", b"e+000", b"E000", b"E+000")
_ESCAPED_BACKSLASH = b"\\\\"
_PLACEHOLDER = b"\0\0"
_LONE = re.compile(
    rb"\\u[dD](?:"
    rb"[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"  # A high surrogate without a low one.
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)


def count_containers(text: bytes) -> int:
    """Return the largest number of lists and objects that a text can have."""
    return text.count(b"[") + text.count(b"{")


def deeper_than(text: bytes, limit: int) -> bool:
    """Return whether lists and objects are nested in more than `limit` levels."""
    brackets = _brackets_outside_strings(text)
    if len(brackets) <= 2 * limit:
        return False
    # Eight brackets make one byte, and a table tells how far it rises: Python's functions make an
    # eighth of the steps, whatever the shape of the value.
    size = -(-len(brackets) // 8)
    bits = brackets.translate(_BITS).ljust(8 * size, b"0")
    eights = int(bits, 2).to_bytes(size, "big")
    starts = accumulate(array("b", eights.translate(_RISES)), initial=0)
    deepest: int = max(map(add, starts, eights.translate(_PEAKS)))
    return deepest > limit


def _brackets_outside_strings(text: bytes) -> bytes:
    if b"\\" in text:
        text = text.replace(_ESCAPED_BACKSLASH, b"").replace(b'\\"', b"")
    text = text.translate(_BRACKETS, _NO_BRACKETS)
    if b'"' in text:
        # Two adjacent strings count as one.
        text = text.replace(b'""', b"")
        if b'"' in text:
            text = b"".join(text.split(b'"')[::2])
    return text


def has_many_exponents(text: bytes) -> bool:
    """Return whether a text has more than one number such as 1e300 in a thousand bytes."""
    most = len(text) // 1000
    if not _has_more(text, b"e", most // 2) and not _has_more(text, b"E", most // 2):
        return False
    return _has_more(text.translate(_DIGITS_AND_E), b"0e", most)


def _has_more(text: bytes, part: bytes, most: int) -> bool:
    # Unlike a count, a split can end early.
    return len(text.split(part, most + 1)) > most + 1


def has_different_exponents(text: bytes) -> bool:
    """Return whether most numbers such as 1e300 of a long text differ, by a random sample."""
    blocks = range(0, len(text), _SAMPLE_BYTES)
    starts = random.sample(blocks, min(_SAMPLES, len(blocks)))
    numbers = [
        number for start in starts for number in _EXPONENT(text, start, start + _SAMPLE_BYTES)
    ]
    return len(set(numbers)) > _MOST * len(numbers)


def may_overflow(text: bytes) -> bool:
    """Return whether a text may have a number that is too large, such as 1e999."""
    zeros = text.translate(_DIGITS, b".[]{}")
    # The largest float is 1.8e308. A larger number has a three-digit exponent, or many digits.
    return b"0" * 200 in zeros or any(exponent in zeros for exponent in _EXPONENTS_OF_3_DIGITS)


def without_lone_surrogates(text: bytes) -> bytes:
    r"""Replace each escape of a lone surrogate, such as `\ud83d` alone, with U+FFFD.

    Without one, return the same object.
    """
    if b"\\u" not in text or b"\0" in text:
        return text
    escapes = text.replace(_ESCAPED_BACKSLASH, _PLACEHOLDER)
    whole, changes = _LONE.subn(rb"\\ufffd", escapes)
    return whole.replace(_PLACEHOLDER, _ESCAPED_BACKSLASH) if changes else text
