"""The handlers of a server, as descriptions need them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol


class DataType(Protocol):
    """The type of a handler's data or answer.

    Attributes:
        annotation: the type, as written.
        is_any: whether nothing is checked.
        kind: the library that checks it: "msgspec" or "pydantic".
    """

    @property
    def annotation(self) -> Any: ...
    @property
    def is_any(self) -> bool: ...
    @property
    def kind(self) -> str: ...


class Receiver(Protocol):
    """A handler of events; `data` is None if it takes none. `doc` is its docstring, or ""."""

    @property
    def doc(self) -> str: ...
    @property
    def data(self) -> DataType | None: ...


class Procedure(Receiver, Protocol):
    """A handler of calls; `returns` is None if it answers without data."""

    @property
    def returns(self) -> DataType | None: ...


class Pattern(Protocol):
    """A pattern of channel names, such as "room/{room}"."""

    @property
    def text(self) -> str: ...


class ChannelHandler(Protocol):
    """A handler of a channel; `publish` is the type that clients publish, None if they may not."""

    @property
    def doc(self) -> str: ...
    @property
    def pattern(self) -> Pattern: ...
    @property
    def publish(self) -> DataType | None: ...


class HandlerTables(Protocol):
    """All handlers of a server, by name."""

    @property
    def procedures(self) -> Mapping[str, Procedure]: ...
    @property
    def receivers(self) -> Mapping[str, Receiver]: ...
    @property
    def channels(self) -> Iterable[ChannelHandler]: ...
