"""Values and JSON texts that hypothesis makes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
WHOLE_TEXTS = st.text(max_size=20)
"""Texts without half a character, which JSON text in UTF-8 cannot have."""
TEXTS = st.one_of(WHOLE_TEXTS, st.text(st.characters(categories=["Cs", "L"]), max_size=5))
SCALARS = st.one_of(st.none(), st.booleans(), INTEGERS, FLOATS, WHOLE_TEXTS)


def nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Lists and dicts of leaves, in a few levels."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=5), st.dictionaries(keys, inner, max_size=5)
        ),
        max_leaves=12,
    )


VALUES = nested(SCALARS, WHOLE_TEXTS)
"""JSON values."""

HALF_VALUES = nested(st.one_of(SCALARS, TEXTS), WHOLE_TEXTS)
"""JSON values with texts that may have half a character."""


def text_of_value(value: Any) -> st.SearchStrategy[str]:
    """JSON texts of a value: as short as can be, indented, with or without escapes."""
    return st.builds(
        lambda indent, escaped: json.dumps(
            value, indent=indent, ensure_ascii=escaped or has_half(value)
        ),
        st.sampled_from([None, 0, 1]),
        st.booleans(),
    )


def has_half(value: Any) -> bool:
    """Whether a value has a text with half a character."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


@st.composite
def objects(draw: st.DrawFn, members: st.SearchStrategy[tuple[str, Any]]) -> str:
    """JSON texts of objects that may name a member twice."""
    drawn = draw(st.lists(members, max_size=7))
    space = draw(st.sampled_from(["", " ", "\n\t"]))
    inner = f"{space},{space}".join(
        f"{json.dumps(name)}{space}:{space}{draw(text_of_value(value))}" for name, value in drawn
    )
    return f"{space}{{{space}{inner}{space}}}{space}"


@st.composite
def broken(draw: st.DrawFn, texts: st.SearchStrategy[bytes]) -> bytes:
    """Messages in which a few bytes were changed, left out or put in."""
    message = bytearray(draw(texts))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(message)))
        inserted = draw(st.sampled_from([b"", b'"', b"\\", b"[", b"}", b"\xff", b"\0", b"1e999"]))
        message[at : at + draw(st.integers(0, 3))] = inserted
    return bytes(message)
