"""The name and text of any error, even if its `__str__` fails."""

from __future__ import annotations

_OTHER_NAME = (ImportError, AttributeError, NameError)  # Their `name` is not the error's.


def text_of(error: object) -> str:
    """Return `str(error)`, or a replacement if that raises."""
    try:
        return str(error)
    except Exception:
        return f"(the text of this {type(error).__name__} cannot be shown: its __str__ raises)"


def wire_name(error: BaseException) -> str:
    """Return an error's name on the wire: its `name` if that is a string, or its class name."""
    name = None if isinstance(error, _OTHER_NAME) else getattr(error, "name", None)
    return name if isinstance(name, str) and name else type(error).__name__


def describe_error(error: BaseException) -> str:
    """Return an error as "Name: message"."""
    return f"{wire_name(error)}: {text_of(error)}"
