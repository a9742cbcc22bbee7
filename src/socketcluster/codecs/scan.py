"""Scans of JSON texts: depth, costly numbers and lone surrogates, found without decoding.

A peer chooses the size of a message, and walking its value in Python takes ten times as long as
decoding it. These functions search the bytes at the speed of C. They do not check whether a text
is valid JSON.
"""

from __future__ import annotations

import marshal
import random
import re
from array import array
from itertools import accumulate
from math import isinf
from typing import Any

_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_RUN = b"[" * 16
_RUNS = ((_RUN, b"A"), (b"]" * 16, b"a"), (b"[" * 4, b"B"), (b"]" * 4, b"b"))
_LEVELS = bytes.maketrans(b"[]AaBb", bytes((1, 255, 16, 240, 4, 252)))
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
    # Without its innermost pairs a text has exactly one level less. When few pairs are found, the
    # text has long runs of brackets, and each run counts as one step.
    long_runs = brackets.count(_RUN) * 8 * len(_RUN) > 3 * len(brackets)
    while len(brackets) > 2 * limit and not long_runs:
        if limit < 0:
            return True
        size = len(brackets)
        brackets = brackets.replace(b"[]", b"")
        limit -= 1
        if 5 * len(brackets) > 4 * size:
            break
    if len(brackets) <= 2 * limit:
        return False
    for run, short in _RUNS:
        brackets = brackets.replace(run, short)
    return max(accumulate(array("b", brackets.translate(_LEVELS)))) > limit


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


def has_infinity(value: Any) -> bool:
    """Return whether a decoded value contains an infinite float."""
    dump = marshal.dumps(value, 2)
    if b"g\0\0\0\0\0\0\xf0\x7f" not in dump and b"g\0\0\0\0\0\0\xf0\xff" not in dump:
        return False
    return _contains_infinity(value)  # An integer of many digits may have the same bytes.


def _contains_infinity(value: Any) -> bool:
    if type(value) is list:
        return any(map(_contains_infinity, value))
    if type(value) is dict:
        return any(map(_contains_infinity, value.values()))
    return type(value) is float and isinf(value)


def without_lone_surrogates(text: bytes) -> bytes:
    r"""Replace each escape of a lone surrogate, such as `\ud83d` alone, with U+FFFD.

    Without one, return the same object.
    """
    if b"\\u" not in text or b"\0" in text:
        return text
    escapes = text.replace(_ESCAPED_BACKSLASH, _PLACEHOLDER)
    whole, changes = _LONE.subn(rb"\\ufffd", escapes)
    return whole.replace(_PLACEHOLDER, _ESCAPED_BACKSLASH) if changes else text
