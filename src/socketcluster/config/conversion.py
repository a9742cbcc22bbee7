"""Conversion of configured values to the types of options.

A value comes from TOML, or is the text of an environment variable. The types are the annotations of
the options: dataclasses, sequences, mappings, Literals, durations, texts, numbers and unions of
them. The parts of a union that only Python code can make are left out.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import inspect
import re
import types
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from socketcluster.config.toml_file import KeyPath
from socketcluster.errors import SocketClusterError
from socketcluster.options import snake_case

FILE_SUFFIX = "_file"
"""`auth_key_file` names a file that has the value of `auth_key`."""

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d)")
_FLAGS = {"yes": True, "on": True, "no": False, "off": False}
_SCALARS: dict[Any, str] = {
    str: "a text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
}
_SEQUENCES = (list, tuple, set, frozenset)
_SEQUENCE_ORIGINS = (*_SEQUENCES, collections.abc.Sequence, collections.abc.Collection)
_MAPPING_ORIGINS = (dict, collections.abc.Mapping)


class ConversionError(Exception):
    """A configured value is wrong.

    Attributes:
        keys: the keys that lead to the value.
    """

    def __init__(self, message: str, keys: KeyPath) -> None:
        super().__init__(message)
        self.keys = keys


class Variable(str):
    """The text of an environment variable.

    Attributes:
        name: the variable.
    """

    __slots__ = ("name",)

    name: str

    @classmethod
    def of(cls, name: str, text: str) -> Variable:
        """Make the text of a variable."""
        variable = cls(text)
        variable.name = name
        return variable


def convert_table(
    table: Mapping[str, Any], kinds: Mapping[str, Any], keys: KeyPath = ()
) -> dict[str, Any]:
    """Convert the values of a table; `kinds` has the type of each option.

    Raises:
        ConversionError: a key is unknown, or a value is wrong.
    """
    found: dict[str, Any] = {}
    for key, value in table.items():
        name, here = key, (*keys, key)
        if name not in kinds and name.endswith(FILE_SUFFIX):
            name = name.removesuffix(FILE_SUFFIX)
            if str in _members(kinds.get(name)):
                if name in table:
                    raise ConversionError(f"set either {name!r} or {key!r}", here)
                found[name] = _content(value, here)
                continue
        if key not in kinds:
            raise ConversionError(unknown(key, kinds), here)
        found[name] = convert(value, kinds[name], here)
    return found


def unknown(key: str, valid: Collection[str]) -> str:
    """Return the message for an unknown option, with the nearest one."""
    near = difflib.get_close_matches(snake_case(key), valid, 1)
    hint = f"nearest: {near[0]!r}" if near else f"there are: {', '.join(sorted(valid))}"
    return f"unknown option {key!r} ({hint})"


def convert(value: Any, kind: Any, keys: KeyPath) -> Any:
    """Convert a value to a type.

    Raises:
        ConversionError: it does not fit.
    """
    members = _members(kind)
    if not any(map(_is_configurable, members)):
        raise ConversionError(f"{_label(keys)} can be given only in code, not in a file", keys)
    if isinstance(value, Variable):
        value = _parsed(value, members, keys)
    for convert_as in (_as_table, _as_list, _as_duration, _as_scalar):
        found = convert_as(value, members, keys)
        if found is not None:
            return found
    raise ConversionError(
        f"{_label(keys)} must be {_expected(members)}, not {_shown(value, members)}", keys
    )


def _as_table(value: Any, members: tuple[Any, ...], keys: KeyPath) -> Any:
    if not isinstance(value, Mapping):
        return None
    for member in members:
        if dataclasses.is_dataclass(member):
            return _make(member, value, keys)
        if get_origin(member) in _MAPPING_ORIGINS:
            item = get_args(member)[1]
            return {k: _convert_item(v, item, (*keys, k)) for k, v in value.items()}
    return None


def _as_list(value: Any, members: tuple[Any, ...], keys: KeyPath) -> list[Any] | None:
    if not isinstance(value, list):
        return None
    for member in members:
        if get_origin(member) in _SEQUENCE_ORIGINS:
            item = get_args(member)[0]
            return [_convert_item(v, item, (*keys, i)) for i, v in enumerate(value)]
    return None


def _as_duration(value: Any, members: tuple[Any, ...], keys: KeyPath) -> timedelta | None:
    if not isinstance(value, str) or timedelta not in members:
        return None
    found = _DURATION.fullmatch(value.strip())
    try:
        return found and timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    except OverflowError:
        raise ConversionError(f"{_label(keys)} is longer than a duration can be", keys) from None


def _as_scalar(value: Any, members: tuple[Any, ...], keys: KeyPath) -> Any:
    scalars = tuple(m for m in members if m in _SCALARS or get_origin(m) is Literal)
    is_text = isinstance(value, Variable)
    try:
        return msgspec.convert(str(value) if is_text else value, Union[scalars], strict=not is_text)  # noqa: UP007
    except (msgspec.ValidationError, TypeError):  # TypeError: there are none.
        return None


def _label(keys: KeyPath) -> str:
    first, *others = keys
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in others)
    return f"'{first}{path}'"


def _convert_item(value: Any, kind: Any, keys: KeyPath) -> Any:
    return value if kind is Any else convert(value, kind, keys)


def _members(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(inner for member in get_args(kind) for inner in _members(member))
    return (kind,)


def _is_configurable(member: Any) -> bool:
    return (
        member in _SCALARS
        or member is timedelta
        or dataclasses.is_dataclass(member)
        or get_origin(member) in (Literal, *_SEQUENCE_ORIGINS, *_MAPPING_ORIGINS)
    )


def _is_public(member: Any) -> bool:
    """Whether a value of a type is never a secret: numbers, durations and choices."""
    return member in (int, float, bool, timedelta, types.NoneType) or get_origin(member) is Literal


def _expected(members: tuple[Any, ...]) -> str:
    found: dict[str, None] = {}
    for member in members:
        origin = get_origin(member)
        if origin is Literal:
            found.update(dict.fromkeys(map(repr, get_args(member))))
        elif member in _SCALARS:
            if not (member is int and float in members):
                found[_SCALARS[member]] = None
        elif member is timedelta:
            found["a duration such as '8s'"] = None
        elif dataclasses.is_dataclass(member) or is_typeddict(member) or origin in _MAPPING_ORIGINS:
            found["a table"] = None
        elif origin in _SEQUENCE_ORIGINS:
            found["a list"] = None
    *others, last = found
    return f"{', '.join(others)} or {last}" if others else last


def _shown(value: Any, members: tuple[Any, ...]) -> str:
    """Show a text that stands for a number or a word, or name the type of a value.

    Other texts, and the texts in tables and lists, may be secrets.
    """
    is_plain = isinstance(value, Variable) and not (_has_tables(members) or _has_lists(members))
    if isinstance(value, str) and (is_plain or all(map(_is_public, members))):
        return repr(value[:40])
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Mapping):
        return "a table"
    return _SCALARS.get(type(value)) or (
        "a list" if isinstance(value, list) else f"a {type(value).__name__}"
    )


def _has_lists(members: tuple[Any, ...]) -> bool:
    return any(get_origin(m) in _SEQUENCE_ORIGINS for m in members)


def _has_tables(members: tuple[Any, ...]) -> bool:
    return any(get_origin(m) in _MAPPING_ORIGINS or dataclasses.is_dataclass(m) for m in members)


def _parsed(text: Variable, members: tuple[Any, ...], keys: KeyPath) -> Any:
    """Parse the text of a variable that is JSON, a list, or a word for true or false."""
    stripped = text.strip()
    lists, tables = _has_lists(members), _has_tables(members)
    if (lists and stripped.startswith("[")) or (tables and stripped.startswith("{")):
        try:
            return msgspec.json.decode(stripped)
        except msgspec.DecodeError as error:
            raise ConversionError(f"it is not JSON: {error}", keys) from None
    if bool in members and stripped.lower() in _FLAGS:
        return _FLAGS[stripped.lower()]
    if lists and str not in members:
        items = [item.strip() for item in stripped.split(",")]
        return [Variable.of(text.name, item) for item in items if item]
    return text


def _make(kind: Any, table: Mapping[str, Any], keys: KeyPath) -> Any:
    """Make a dataclass of a table."""
    parameters = dict(inspect.signature(kind).parameters)
    hints = get_type_hints(kind if kind.__dataclass_params__.init else kind.__init__)
    values = convert_table(table, {name: hints[name] for name in parameters}, keys)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in values:
            raise ConversionError(f"{_label((*keys, name))} is missing", keys)
    try:
        return kind(**values)
    except (SocketClusterError, ValueError, TypeError) as error:
        raise ConversionError(str(error), keys) from error


def _content(path: Any, keys: KeyPath) -> str:
    """Read the value of an option from a file; a line break at its end is not part of it."""
    if not isinstance(path, str):
        raise ConversionError(f"{_label(keys)} must be the path of a file", keys)
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        raise ConversionError(f"cannot read {str(path)!r}: {error.strerror}", keys) from error
    except UnicodeDecodeError:
        raise ConversionError(f"{str(path)!r} is not UTF-8", keys) from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ConversionError(f"{str(path)!r} is empty", keys)
    return text
