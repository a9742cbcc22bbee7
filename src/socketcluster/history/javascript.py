"""The JavaScript helper with which pages recover: `recovering.js` in two forms, and its types."""

from __future__ import annotations

from importlib.resources import files

_EXPORT = "export function recovering"
_CLASSIC_END = """
if (typeof module === 'object') module.exports = { recovering };
"""


def module() -> str:
    """Return the ES module, which exports `recovering`."""
    return _read("recovering.js")


def classic() -> str:
    """Return a classic script with a global function `recovering`, for `require`, too."""
    return module().replace(_EXPORT, _EXPORT.removeprefix("export ")) + _CLASSIC_END


def types() -> str:
    """Return the TypeScript declarations of the module."""
    return _read("recovering.d.ts")


def _read(name: str) -> str:
    return files("socketcluster.history").joinpath(name).read_text()
