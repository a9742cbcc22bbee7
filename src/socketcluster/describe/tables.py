"""The handlers of a server, as descriptions need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from socketcluster.history.options import History


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
    """A handler of events.

    Attributes:
        doc: its docstring, or "".
        data: the type of its data; None if it takes none.
        default: its data if a client sends none; `inspect.Parameter.empty` without one.
    """

    @property
    def doc(self) -> str: ...
    @property
    def default(self) -> Any: ...
    @property
    def data(self) -> DataType | None: ...


class Procedure(Receiver, Protocol):
    """A handler of calls; `returns` is None if it answers without data."""

    @property
    def returns(self) -> DataType | None: ...


class Pattern(Protocol):
    """A pattern of channel names, such as "room/{room}"; the most specific one counts."""

    @property
    def text(self) -> str: ...
    @property
    def specificity(self) -> Any: ...


class ChannelHandler(Protocol):
    """A handler of a channel.

    Attributes:
        data: the type of the publishes; None if it is not known.
        message: the type of its messages; None if it is not known.
        publishable: whether clients may publish.
        history: the rule that keeps its publishes; None without one.
        presence: the rule that shows its members; None without one.
    """

    @property
    def doc(self) -> str: ...
    @property
    def pattern(self) -> Pattern: ...
    @property
    def data(self) -> DataType | None: ...
    @property
    def message(self) -> DataType | None: ...
    @property
    def publishable(self) -> bool: ...
    @property
    def history(self) -> History | None: ...
    @property
    def presence(self) -> object: ...


class HandlerTables(Protocol):
    """All handlers of a server, by name."""

    @property
    def procedures(self) -> Mapping[str, Procedure]: ...
    @property
    def receivers(self) -> Mapping[str, Receiver]: ...
    @property
    def channels(self) -> Mapping[str, ChannelHandler]: ...
