"""Keys and tokens from files and environment variables."""

from __future__ import annotations

import os
from pathlib import Path

from socketcluster.cli.exit_status import CommandError
from socketcluster.cli.reporting import describe


def read_secret(kind: str, path: Path) -> str:
    """Read a secret from a file, without the newline that editors append.

    `kind` names the secret in error messages.

    Raises:
        CommandError: the file cannot be read, or is empty.
    """
    try:
        text = path.read_text().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"Cannot read the {kind} {str(path)!r}: {describe(error)}") from error
    if not text:
        raise CommandError(f"The {kind} {str(path)!r} is empty")
    return text


def from_environment(name: str) -> str | None:
    """Return an environment variable, or None if it is missing or empty."""
    return os.environ.get(name) or None
