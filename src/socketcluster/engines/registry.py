"""Resolves the `ws_engine` option to an engine."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from typing import Any, cast

from socketcluster.engines.base import Engine
from socketcluster.errors import InvalidOptionsError

_BUILT_IN = {
    "picows": "socketcluster.engines.picows:PicowsEngine",
    "asgi": "socketcluster.engines.asgi:AsgiEngine",
}
_logger = logging.getLogger("socketcluster")


def resolve_engine(ws_engine: Any, options: Mapping[str, Any]) -> Engine:
    """Return the engine that the option names, made with `options` if it is a class.

    The built-in engine "picows" uses private names of picows and uvicorn. If the installed versions
    lack one, a warning is logged and "asgi" takes its place.

    Args:
        ws_engine: "picows", "asgi", a "module:attribute" path, a class or an engine.
        options: keyword arguments of the engine's class.

    Raises:
        InvalidOptionsError: it is not an engine, or does not accept these options.
    """
    engine = _import(ws_engine) if isinstance(ws_engine, str) else ws_engine
    if isinstance(engine, type):
        try:
            engine = engine(**options)
        except TypeError as error:
            raise InvalidOptionsError(
                f"The ws_engine_server_options option does not fit {ws_engine!r}: {error}",
                "ws_engine_server_options",
            ) from error
    if not callable(getattr(engine, "listen", None)):
        raise InvalidOptionsError(
            f"The ws_engine option must be 'picows', 'asgi', a 'module:attribute' path or an "
            f"object with a listen method, not {ws_engine!r}",
            "ws_engine",
        )
    return cast("Engine", engine)


def _import(path: str) -> Any:
    try:
        return _attribute(_BUILT_IN.get(path, path)) if path != "picows" else _picows_engine()
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidOptionsError(
            f"The ws_engine option {path!r} is neither 'picows', 'asgi' nor an importable "
            f"'module:attribute' path: {error}",
            "ws_engine",
        ) from error


def _picows_engine() -> Any:
    try:
        engine = _attribute(_BUILT_IN["picows"])
        _attribute("socketcluster.engines.picows_parser:check_parser")()
    except ImportError as error:
        _logger.warning("The picows engine is not available; the slower asgi is used: %s", error)
        return _attribute(_BUILT_IN["asgi"])
    return engine


def _attribute(path: str) -> Any:
    module, separator, attribute = path.partition(":")
    if not separator:
        raise ImportError("it has no ':attribute'")
    return getattr(importlib.import_module(module), attribute)
