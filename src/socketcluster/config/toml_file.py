"""TomlFile: a configuration file, and the line of each of its keys."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socketcluster.errors import InvalidOptionsError

KeyPath = tuple[str | int, ...]
"""The keys that lead to a value, from the outermost table; the index of an array's item."""

_POSITION = re.compile(r" \(at line (\d+), column \d+\)$| \(at end of document\)$")


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A TOML file that was read.

    Attributes:
        path: as the user wrote it.
        text: the content.
        data: the parsed content.
    """

    path: str
    text: str
    data: dict[str, Any]

    @classmethod
    def read(cls, path: str) -> TomlFile:
        """Read and parse a file.

        Raises:
            InvalidOptionsError: it cannot be read or is not TOML; the error names the line.
        """
        try:
            text = Path(path).read_bytes().decode()
        except OSError as error:
            raise InvalidOptionsError(f"{path}: {error.strerror}", "config") from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise InvalidOptionsError(f"{path}:{line}: not UTF-8", "config") from error
        try:
            return cls(path, text, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            message = str(error)
            found = _POSITION.search(message)
            line = int(found[1]) if found and found[1] else text.count("\n") + 1
            message = _POSITION.sub("", message)
            raise InvalidOptionsError(
                f"{path}:{line}: this is not TOML: {message}", "config"
            ) from None
        except RecursionError:
            raise InvalidOptionsError(f"{path}: it is nested too deeply", "config") from None

    def place(self, keys: KeyPath) -> str:
        """Return "file:line" of the statement that sets a value, or the file alone."""
        line = line_of(self.text, keys)
        return self.path if line is None else f"{self.path}:{line}"


def line_of(text: str, keys: KeyPath) -> int | None:
    """Return the line of the statement that sets a value; None if nothing sets it.

    tomllib keeps no positions. A prefix of the text that ends between two statements parses, so
    the first prefix that has the value ends with its statement.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    complete = 0
    for count in range(1, len(lines) + 1):
        try:
            data = tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue  # Inside of a statement of several lines.
        if _has(data, keys):
            return complete + 1
        complete = count
    return None


def _has(value: Any, keys: KeyPath) -> bool:
    try:
        for key in keys:
            value = value[key]
    except (KeyError, IndexError, TypeError):
        return False
    return True
