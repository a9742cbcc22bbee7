"""Layers: options from the environment over those of a file, and the origin of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from socketcluster.config.conversion import FILE_SUFFIX, ConversionError, Variable, convert_table
from socketcluster.config.toml_file import KeyPath, TomlFile
from socketcluster.errors import InvalidOptionsError


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two tables; values of `upper` win, and tables in both are merged in turn."""
    # `auth_key` in the environment replaces `auth_key_file` in the file, and vice versa.
    replaced = {key + FILE_SUFFIX for key in upper} | {k.removesuffix(FILE_SUFFIX) for k in upper}
    merged = {k: v for k, v in lower.items() if k in upper or k not in replaced}
    for key, value in upper.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


@dataclass(frozen=True, slots=True)
class Layers:
    """The options of one table that are configured.

    Attributes:
        values: the converted values.
    """

    values: dict[str, Any]
    _raw: dict[str, Any] = field(repr=False)
    _file: TomlFile | None = field(repr=False)
    _table: KeyPath = ()

    @classmethod
    def of(
        cls,
        raw: dict[str, Any],
        kinds: Mapping[str, Any],
        file: TomlFile | None = None,
        table: KeyPath = (),
    ) -> Layers:
        """Convert merged tables; `table` is the place of the table in the file.

        Raises:
            InvalidOptionsError: a key is unknown, or a value is wrong; the error names the place.
        """
        try:
            return cls(convert_table(raw, kinds), raw, file, table)
        except ConversionError as error:
            place = _place(raw, error.keys, file, table)
            option = str(error.keys[0])
            raise InvalidOptionsError(f"{place}: {error}", option) from error.__cause__

    def located(self, error: InvalidOptionsError) -> InvalidOptionsError:
        """Return an error with the place of its option in front, if the option is configured."""
        option = (error.option or "").partition(".")[0]
        if option not in self.values:
            return error
        key = option if option in self._raw else option + FILE_SUFFIX
        place = _place(self._raw, (key,), self._file, self._table)
        return InvalidOptionsError(f"{place}: {error}", error.option)


def _place(raw: Any, keys: KeyPath, file: TomlFile | None, table: KeyPath) -> str:
    """Return the variable or the line of a file that sets a value."""
    value = raw
    for key in keys:
        if isinstance(value, Variable):
            break
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            break
    while isinstance(value, dict) and value:  # A table of variables only.
        value = next(iter(value.values()))
    if isinstance(value, Variable):
        return value.name
    return "the options" if file is None else file.place((*table, *keys))
