"""From the `ws_engine` option to an engine."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from socketcluster.engines.base import Engine
from socketcluster.errors import InvalidOptionsError

_BUILT_IN = {
    "picows": "socketcluster.engines.picows:PicowsEngine",
    "asgi": "socketcluster.engines.asgi:AsgiEngine",
}


def resolve_engine(ws_engine: Any, options: Mapping[str, Any]) -> Engine:
    """The engine that the option names, made with `options` if it is a class; or the object itself.

    Raises:
        InvalidOptionsError: it is no engine, or does not take these options.
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
    return cast(Engine, engine)


def _import(path: str) -> Any:
    module, separator, attribute = _BUILT_IN.get(path, path).partition(":")
    try:
        if not separator:
            raise ImportError("it has no ':attribute'")
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidOptionsError(
            f"The ws_engine option {path!r} is neither 'picows', 'asgi' nor an importable "
            f"'module:attribute' path: {error}",
            "ws_engine",
        ) from error
