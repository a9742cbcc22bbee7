"""The command line: `socketcluster serve`, a client for pipes, and tokens."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, which needs the extra `cli`.

    The exit status is 0 (done), 1 (failed), 2 (wrong usage) or 130 (Ctrl-C).
    """
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.exit("The command line needs the extra 'cli': pip install 'socketcluster[cli]'")
    from socketcluster.cli.app import app
    from socketcluster.cli.exit_status import command

    sys.exit(command(app))
