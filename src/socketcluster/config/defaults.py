"""Defaults: the file of `socketcluster serve`, for the servers that its target makes."""

from __future__ import annotations

from dataclasses import dataclass

from socketcluster.config.toml_file import TomlFile


@dataclass(slots=True)
class Defaults:
    """The configuration of this process.

    Attributes:
        file: has the options that the code and the environment do not set.
        warns: whether a variable with the prefix that is no option is still to be logged.
    """

    file: TomlFile | None = None
    warns: bool = True


defaults: Defaults = Defaults()
"""`serve` sets it before it imports its target; every AGServer reads it."""
