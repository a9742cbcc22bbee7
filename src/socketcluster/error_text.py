"""The text of an error, which no error can refuse."""

from __future__ import annotations


def text_of(error: object) -> str:
    """`str(error)`; a replacement if the error's own `__str__` raises."""
    try:
        return str(error)
    except Exception:
        return f"(the text of this {type(error).__name__} cannot be shown: its __str__ raises)"
