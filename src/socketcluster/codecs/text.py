"""Replacement of lone surrogates, which UTF-8 cannot encode, with U+FFFD.

JavaScript leaves one when it cuts a text inside an emoji. A browser that sends such a text replaces
it in the same way.
"""

from __future__ import annotations

from typing import Any


def whole_text(text: str) -> str:
    """Replace lone surrogates with U+FFFD; a pair of surrogates becomes one character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def utf8(text: str) -> bytes:
    """Encode any text as UTF-8, lone surrogates as U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return whole_text(text).encode()


def with_whole_texts(value: Any) -> Any:
    """Copy a value, and apply `whole_text` to all texts in lists, tuples and dicts, keys too."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, dict):
        return {with_whole_texts(key): with_whole_texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(with_whole_texts, value)) if type(value) in (list, tuple) else value
    return value
