"""Texts with half a character in them: a lone surrogate, which no UTF-8 can say.

JavaScript leaves one when it cuts a text inside an emoji. U+FFFD takes its place, as when a browser
sends such a text itself.
"""

from __future__ import annotations

from typing import Any


def whole_text(text: str) -> str:
    """The text with U+FFFD for each half of a character; two that belong together become one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def utf8(text: str) -> bytes:
    """A text as UTF-8, whatever is in it."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return whole_text(text).encode()


def with_whole_texts(value: Any) -> Any:
    """A value with every text in it whole, keys too; lists, tuples and dicts are copied."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, dict):
        return {with_whole_texts(key): with_whole_texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(with_whole_texts, value)) if type(value) in (list, tuple) else value
    return value
