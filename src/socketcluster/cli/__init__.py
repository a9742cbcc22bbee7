"""The command line: `socketcluster serve`, client commands for scripts, and tokens."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line, which needs the extra `cli`.

    Exits with 0 (done), 1 (failed), 2 (wrong usage) or 130 (Ctrl-C).
    """
    if find_spec("typer") is None:
        sys.exit("The command line needs the extra 'cli': pip install 'socketcluster[cli]'")
    from socketcluster.cli.app import app
    from socketcluster.cli.exit_status import run_app

    sys.exit(run_app(app))
