"""One worker of `serve --workers N`. The supervisor passes its settings as JSON."""

from __future__ import annotations

import faulthandler
import sys

import msgspec

from socketcluster.cli.serve import run
from socketcluster.cli.settings import Settings

if __name__ == "__main__":
    # At SIGABRT, which the watchdog sends, the traceback of every thread is written.
    faulthandler.enable()
    sys.exit(run(msgspec.json.decode(sys.argv[1], type=Settings)))
