"""The command line: `socketcluster serve [module:attribute]`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; it needs the extra `cli`."""
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.exit("The command line needs the extra 'cli': pip install 'socketcluster[cli]'")
    from socketcluster.cli.app import app

    app()
