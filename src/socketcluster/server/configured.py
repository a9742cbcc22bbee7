"""The options of a server that are configured: by environment variables and a TOML file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self, Unpack, cast, get_type_hints

from socketcluster.brokers.memory_store import HISTORY_MEMORY
from socketcluster.brokers.registry import BROKER_VARIABLE
from socketcluster.config.conversion import FILE_SUFFIX, Variable
from socketcluster.config.defaults import defaults
from socketcluster.config.environment import OTHER_VARIABLES, environment_table, unknown_variables
from socketcluster.config.layers import Layers, merge
from socketcluster.config.toml_file import TomlFile
from socketcluster.engines.base import ASGIApp
from socketcluster.errors import InvalidOptionsError
from socketcluster.server.option_types import ServerOptionsDict
from socketcluster.server.options import ServerOptions

SERVE_TABLE = "serve"
"""The table of a file with the options of `socketcluster serve`."""

_KEYS = ("auth_key", "auth_private_key", "auth_public_key")
"""A layer that sets one of these sets all: a key pair and a secret exclude each other."""

_ASKED = (*_KEYS, "broker_engine")
"""Options whose None asks for the configured value."""

_RENAMED = {"broker": "broker_engine"}

_logger = logging.getLogger("socketcluster")


@cache
def option_kinds() -> dict[str, Any]:
    """Return the type of each option."""
    return get_type_hints(ServerOptions)


def configured(explicit: Mapping[str, Any], file: TomlFile | None) -> Layers:
    """Return the options from the environment and a file that `explicit` does not set.

    Raises:
        InvalidOptionsError: one is unknown or wrong; the error names its place.
    """
    kinds = option_kinds()
    lower = {} if file is None else {k: v for k, v in file.data.items() if k != SERVE_TABLE}
    upper = environment_table(os.environ, kinds, _RENAMED)
    if _has_key(upper):
        lower = _without_keys(lower)
    raw = merge(lower, upper)
    in_code = {name for name, value in explicit.items() if value is not None or name not in _ASKED}
    if in_code & set(_KEYS):
        raw = _without_keys(raw)
    raw = {k: v for k, v in raw.items() if not {k, k.removesuffix(FILE_SUFFIX)} & in_code}
    layers = Layers.of(raw, kinds, file)
    broker = raw.get("broker_engine")
    if isinstance(broker, Variable) and broker.name == BROKER_VARIABLE:
        # A server takes this variable itself, and with it SOCKETCLUSTER_BROKER_REQUIRED.
        del layers.values["broker_engine"]
    return layers


def _has_key(table: Mapping[str, Any]) -> bool:
    return any(key in table or key + FILE_SUFFIX in table for key in _KEYS)


def _without_keys(table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in table.items() if k.removesuffix(FILE_SUFFIX) not in _KEYS}


def server_options(explicit: Mapping[str, Any]) -> ServerOptions:
    """Return the options of a server: those of its code, then those that are configured.

    Raises:
        InvalidOptionsError: one is unknown or wrong; the error names the place of a configured one.
    """
    if defaults.warns:
        defaults.warns = False
        log_unknown_variables()
    return checked_options(explicit, configured(explicit, defaults.file))


def checked_options(explicit: Mapping[str, Any], layers: Layers) -> ServerOptions:
    """Return the options of a server, with those that are configured below `explicit`.

    Raises:
        InvalidOptionsError: one is unknown or wrong.
    """
    try:
        return ServerOptions.of(**_over(layers, explicit))
    except InvalidOptionsError as error:
        raise layers.located(error) from error.__cause__


def has_configured_key() -> bool:
    """Return whether the environment or the file of `serve` sets a key for tokens."""
    return not set(_KEYS).isdisjoint(configured({}, defaults.file).values)


def configured_history_memory() -> int:
    """Return the `history_memory` of the environment or the file of `serve`, or its default."""
    memory: int = configured({}, defaults.file).values.get("history_memory", HISTORY_MEMORY)
    return memory


def log_unknown_variables() -> None:
    """Log a WARNING for each variable with the prefix that is no option."""
    names = {*option_kinds(), *OTHER_VARIABLES}
    for warning in unknown_variables(os.environ, names):
        _logger.warning("%s", warning)


def _over(layers: Layers, explicit: Mapping[str, Any]) -> ServerOptionsDict:
    """Return the options of the code and the configured ones, which contain none of the code's."""
    configured_too = layers.values
    in_code = {name: value for name, value in explicit.items() if name not in configured_too}
    return cast("ServerOptionsDict", {**configured_too, **in_code})


class ConfiguredMixin:
    """A server that is made from a configuration file."""

    __slots__ = ()

    @classmethod
    def from_config(
        cls,
        path: str | Path,
        /,
        *,
        app: ASGIApp | None = None,
        **options: Unpack[ServerOptionsDict],
    ) -> Self:
        """Make a server with the options of a TOML file: `AGServer.from_config("app.toml")`.

        `options` win over environment variables, and these over the file. The table `[serve]` is
        for `socketcluster serve`, and is not read.

        Raises:
            InvalidOptionsError: the file cannot be read, or an option is unknown or wrong; the
                error names the line or the variable.
        """
        layers = configured(options, TomlFile.read(str(path)))
        checked_options(options, layers)
        make = cast("Callable[..., Self]", cls)
        return make(app=app, **_over(layers, options))
