"""Binary data in JSON, which travels as `{"base64": true, "data": "…"}`, where a type has it.

msgspec reads binary data from a base64 text. A reader replaces that form with its text, in the
places that are binary by the type, and nowhere else. It checks the sets and dicts of numbers, too.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from msgspec import inspect

from socketcluster.handlers.collisions import check_collisions, hashed_in

Reader = Callable[[Any], Any]

_BINARY = (inspect.BytesType, inspect.ByteArrayType, inspect.MemoryViewType)
_LISTS = (
    inspect.ListType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.VarTupleType,
)
_OBJECTS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)


def kinds_in(kind: inspect.Type) -> Iterator[inspect.Type]:
    """Yield a type and all types in it."""
    seen: set[int] = set()
    waiting = [kind]
    for part in waiting:  # It grows meanwhile.
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            waiting += _inside(part)


def _inside(kind: inspect.Type) -> list[inspect.Type]:
    values = [getattr(kind, name) for name in kind.__struct_fields__]
    values += [item for value in values if isinstance(value, tuple) for item in value]
    values = [value.type if isinstance(value, inspect.Field) else value for value in values]
    return [value for value in values if isinstance(value, inspect.Type)]


def is_binary(kind: inspect.Type) -> bool:
    """Return whether a type is that of binary data."""
    return isinstance(kind, _BINARY)


def text_of_binary(value: Any) -> Any:
    """Return the base64 text of binary data in its JSON form; any other value as it is."""
    if type(value) is dict and len(value) == 2 and value.get("base64") is True:
        data = value.get("data")
        return data if type(data) is str else value
    return value


def with_binary(value: Any) -> Any:
    """Copy a decoded value, with all binary data in its JSON form as bytes."""
    if type(value) is list:
        return [with_binary(item) for item in value]
    text = text_of_binary(value)
    if type(value) is not dict:
        return value
    if text is value:
        return {key: with_binary(item) for key, item in value.items()}
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return value


class Readers:
    """Makes the readers of a type and of its parts, each once: a type may contain itself."""

    def __init__(self) -> None:
        self._made: dict[int, Reader] = {}

    def reader(self, kind: inspect.Type) -> Reader | None:
        """Return a function that copies a decoded value, read; None if nothing in it is read."""
        if not any(is_binary(part) or hashed_in(part) for part in kinds_in(kind)):
            return None
        key = id(kind)
        if key not in self._made:
            # A type inside itself finds this one, before its own is made.
            self._made[key] = partial(self._later, key)
            self._made[key] = self._make(kind)
        return self._made[key]

    def _later(self, key: int, value: Any) -> Any:
        return self._made[key](value)

    def _make(self, kind: Any) -> Reader:
        if isinstance(kind, inspect.UnionType):
            return self._union(kind.types)
        if isinstance(kind, _LISTS):
            return _checked(kind, list, _list_reader(self._made_of(kind.item_type)))
        if isinstance(kind, inspect.DictType):
            return _checked(kind, dict, _dict_reader(self._made_of(kind.value_type)))
        if isinstance(kind, inspect.TupleType):
            return _array_reader(self._found(enumerate(kind.item_types)))
        if isinstance(kind, inspect.NamedTupleType) or _is_array(kind):
            first = 0 if getattr(kind, "tag", None) is None else 1
            items = enumerate((field.type for field in kind.fields), first)
            return _array_reader(self._found(items))
        if isinstance(kind, _OBJECTS):
            fields = ((field.encode_name, field.type) for field in kind.fields)
            return _object_reader(self._found(fields))
        return text_of_binary

    def _made_of(self, kind: inspect.Type) -> Reader:
        return self.reader(kind) or _unread

    def _found(self, kinds: Any) -> list[tuple[Any, Reader]]:
        readers = [(key, self.reader(kind)) for key, kind in kinds]
        return [(key, reader) for key, reader in readers if reader is not None]

    def _union(self, kinds: tuple[inspect.Type, ...]) -> Reader:
        """Choose by the value: msgspec allows one type of each kind, or structs with tags."""
        of_dict: Reader | None = None
        of_list: Reader = _unread
        tagged: dict[Any, Reader] = {}
        tag_field = None
        for kind in kinds:
            if isinstance(kind, inspect.StructType) and kind.tag_field is not None:
                tag_field = kind.tag_field
                tagged[kind.tag] = self._made_of(kind)
            elif isinstance(kind, (*_OBJECTS, inspect.DictType)) and not _is_array(kind):
                of_dict = self._made_of(kind)
            elif not is_binary(kind):
                of_list = self.reader(kind) or of_list
        if of_dict is None:
            of_dict = text_of_binary if any(map(is_binary, kinds)) else _unread

        def read(value: Any) -> Any:
            if type(value) is dict:
                tag = value.get(tag_field)
                return tagged.get(tag if isinstance(tag, str | int) else None, of_dict)(value)
            if type(value) is list:
                tag = value[0] if value else None
                return tagged.get(tag if isinstance(tag, str | int) else None, of_list)(value)
            return value

        return read


def _is_array(kind: Any) -> bool:
    return isinstance(kind, inspect.StructType) and kind.array_like


def _unread(value: Any) -> Any:
    return value


def _checked(
    kind: inspect.Type, container: type[list[Any]] | type[dict[Any, Any]], read: Reader
) -> Reader:
    hashed = hashed_in(kind)
    if hashed is None:
        return read

    def check_and_read(value: Any) -> Any:
        if isinstance(value, container):
            check_collisions(value, hashed)
        return read(value)

    return check_and_read


# A long message may have very many items: nothing is called for scalars and empty ones.


def _list_reader(read_item: Reader) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not list:
            return value
        return [
            read_item(item) if item and (type(item) is dict or type(item) is list) else item
            for item in value
        ]

    return read


def _dict_reader(read_item: Reader) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not dict:
            return value
        copy = None
        for key, item in value.items():
            if item and (type(item) is dict or type(item) is list):
                copy = copy or dict(value)
                copy[key] = read_item(item)
        return copy or value

    return read


def _object_reader(fields: list[tuple[Any, Reader]]) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not dict:
            return value
        copy = None
        for name, read_field in fields:
            item = value.get(name)
            if type(item) is dict or type(item) is list:
                copy = copy or dict(value)
                copy[name] = read_field(item)
        return copy or value

    return read


def _array_reader(items: list[tuple[Any, Reader]]) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not list:
            return value
        copy = list(value)
        for index, read_item in items:
            if index < len(copy):
                copy[index] = read_item(copy[index])
        return copy

    return read
