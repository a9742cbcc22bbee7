"""The logging of `serve`: its format, or a configuration file of the standard library's kind."""

from __future__ import annotations

import json
import logging
import logging.config
import tomllib
from pathlib import Path
from typing import Any

from socketcluster.cli.settings import Settings
from socketcluster.errors import InvalidOptionsError
from socketcluster.logs import JSONFormatter, Process, TextFormatter


def set_up_logging(settings: Settings) -> None:
    """Log to standard error, or as `--log-config` says.

    Raises:
        InvalidOptionsError: the file of `--log-config` cannot be read or is wrong.
    """
    Process.worker = settings.worker
    if settings.log_config is not None:
        _configure(settings.log_config)
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _configure(path: str) -> None:
    try:
        config = _read(Path(path))
        # Loggers that exist already are those of this package.
        logging.config.dictConfig({"disable_existing_loggers": False, **config})
    except OSError as error:
        raise InvalidOptionsError(f"{path}: {error.strerror}", "log_config") from error
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        cause = error.__cause__
        reason = f"{error}: {cause}" if cause is not None else str(error)
        raise InvalidOptionsError(f"{path}: {reason}", "log_config") from error


def _read(path: Path) -> dict[str, Any]:
    text = path.read_bytes().decode()
    config: Any
    match path.suffix:
        case ".toml":
            config = tomllib.loads(text)
        case ".json":
            config = json.loads(text)
        case ".yaml" | ".yml":
            config = _read_yaml(text)
        case _:
            raise ValueError("its name must end with .json, .toml or .yaml")
    if not isinstance(config, dict):
        raise TypeError("it must have the keys of logging.config.dictConfig")
    return config


def _read_yaml(text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise ImportError("YAML needs PyYAML: pip install pyyaml") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
