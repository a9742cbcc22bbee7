"""Loads the modules that need OpenTelemetry, once an option asks for spans."""

from __future__ import annotations

import importlib
from typing import Any

from socketcluster.options import invalid_option


def load(module: str) -> Any:
    """Import a module of this package that imports OpenTelemetry.

    Raises:
        InvalidOptionsError: the extra is not installed.
    """
    try:
        return importlib.import_module(f"socketcluster.{module}")
    except ModuleNotFoundError as error:
        raise invalid_option(
            "tracing", "used with the extra 'otel': pip install 'socketcluster[otel]'", "Tracing()"
        ) from error
