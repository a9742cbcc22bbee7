"""Checks that installed packages have the private names that the engines use."""

from __future__ import annotations

from importlib.metadata import version


class UnsupportedVersionError(ImportError):
    """An installed package lacks a private name, or behaves differently than the engines need."""

    def __init__(self, package: str, reason: str) -> None:
        super().__init__(f"{package} {version(package)} {reason}")


def require(package: str, owner: object, *names: str) -> None:
    """Check that a module or class has these attributes.

    Raises:
        UnsupportedVersionError: it lacks one.
    """
    for name in names:
        if not hasattr(owner, name):
            place = getattr(owner, "__name__", owner)
            raise UnsupportedVersionError(package, f"has no {place}.{name}")
