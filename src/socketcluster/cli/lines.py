"""JSON lines: the values of standard input and arguments, and their form on standard output."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator
from typing import Any

from socketcluster.cli.exit_status import CommandError, usage_error
from socketcluster.cli.waiting import wait_readable
from socketcluster.codecs.json import JSONCodec
from socketcluster.errors import InvalidMessageError

_STDIN = 0
_CHUNK_BYTES = 64 * 1024
_codec = JSONCodec()
# JSON allows these unescaped, but a terminal takes some for commands and others for line breaks.
_UNSAFE = re.compile(r"[\x7f-\x9f\u2028\u2029]")


def to_json(value: Any) -> str:
    """Encode a value as one line of JSON; binary data has the form of the JSON codec.

    Raises:
        InvalidArgumentsError: the value has no JSON form.
    """
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", _codec.encode(value))


def from_json(text: str | bytes) -> Any:
    """Decode a JSON text. Raises InvalidMessageError."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return _codec.decode_value(data)


def values(argument: str | None, count: int | None, name: str = "DATA") -> AsyncIterator[Any]:
    """Yield the values that a command sends.

    An argument is decoded and repeated `count` times (once by default). Without an argument, or
    with "-", each line of standard input is a value; `count` limits their number. `name` names
    the argument in error messages.

    Raises:
        CommandError: the argument or a line is not JSON.
    """
    if argument is None or argument == "-":
        return _input_values(count)
    try:
        return _repeat(from_json(argument), count or 1)
    except InvalidMessageError as error:
        raise usage_error(
            f"{name} must be JSON, and {argument!r} is not; a text needs its quotes: '\"text\"'"
        ) from error


async def _repeat(value: Any, count: int) -> AsyncIterator[Any]:
    for _ in range(count):
        yield value


async def _input_values(count: int | None) -> AsyncIterator[Any]:
    number = 0
    async for line in input_lines():
        number += 1
        if not line.strip():
            continue
        try:
            value = from_json(line)
        except InvalidMessageError as error:
            raise CommandError(f"Line {number} of standard input: {error}") from error
        yield value
        if count is not None and (count := count - 1) == 0:
            return


async def input_lines() -> AsyncIterator[bytes]:
    """Yield the lines of standard input as they arrive. Cancelling loses an incomplete line."""
    rest = b""
    while chunk := await _read_input():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


async def _read_input() -> bytes:
    # Not in a thread, because a blocked read would delay the end of the program; and not through
    # a pipe transport, which makes a terminal non-blocking that is the output as well.
    with contextlib.suppress(PermissionError):  # A regular file is always ready.
        await wait_readable(_STDIN)
    return os.read(_STDIN, _CHUNK_BYTES)
