"""Messages for the user: one line each, on standard error."""

from __future__ import annotations

import contextlib
import re
import sys

from socketcluster.errors import RemoteError

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def describe(error: BaseException) -> str:
    """Describe an error for the user.

    An OSError loses its number. An error from the server's application keeps the name that the
    application gave it.
    """
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, RemoteError) and error.name not in ("RemoteError", "Error"):
        return f"{error.name}: {text}"
    return text or type(error).__name__


def report(message: str) -> None:
    """Print a message on standard error, in one line.

    Control characters become spaces, because the text may come from a server.
    """
    text = _CONTROL_CHARACTERS.sub(" ", message).strip()
    with contextlib.suppress(BrokenPipeError):
        print(f"socketcluster: {text}", file=sys.stderr, flush=True)
