"""JSON, one value per line: how data comes in and goes out."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from typing import Any

from socketcluster.cli.exit_status import CommandError, set_done, wrong_usage
from socketcluster.codecs.json import JSONCodec
from socketcluster.errors import InvalidMessageError

_STDIN = 0
_CHUNK = 64 * 1024
_codec = JSONCodec()
# JSON may have them bare, but terminals take some of them for commands and others for a new line.
_UNSAFE = re.compile(r"[\x7f-\x9f\u2028\u2029]")


def to_json(value: Any) -> str:
    """A value as one line of JSON; binary data as the JSON codec has it.

    Raises:
        InvalidArgumentsError: it has no JSON form.
    """
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", _codec.encode(value))


def from_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises InvalidMessageError."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return _codec.decode_value(data)


def values(given: str | None, count: int | None, name: str = "DATA") -> AsyncIterator[Any]:
    """Yield the values to send.

    `given` is repeated `count` times (None: once). Without it, or with "-", the values are read
    from standard input, at most `count` (None: all). `name` is the argument's name.

    Raises:
        CommandError: `given` is no JSON.
    """
    if given is None or given == "-":
        return _of_input(count)
    try:
        return _repeated(from_json(given), count or 1)
    except InvalidMessageError as error:
        raise wrong_usage(
            f"{name} must be JSON, and {given!r} is not; a text needs its quotes: '\"text\"'"
        ) from error


async def _repeated(value: Any, count: int) -> AsyncIterator[Any]:
    for _ in range(count):
        yield value


async def _of_input(count: int | None) -> AsyncIterator[Any]:
    number = 0
    async for line in text_lines():
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


async def text_lines() -> AsyncIterator[bytes]:
    """The lines of standard input, as they come. Cancelling it loses what is half a line."""
    rest = b""
    while chunk := await _read():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


async def _read() -> bytes:
    # Neither a thread, which would hold up the end, nor a pipe transport, which makes a terminal
    # that is also the output non-blocking.
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        loop.add_reader(_STDIN, set_done, ready)
    except PermissionError:
        return os.read(_STDIN, _CHUNK)  # A file is always ready.
    try:
        await ready
    finally:
        loop.remove_reader(_STDIN)
    return os.read(_STDIN, _CHUNK)
