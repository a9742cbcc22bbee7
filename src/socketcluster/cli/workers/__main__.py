"""One worker of `serve --workers N`. The supervisor passes its settings as JSON."""

from __future__ import annotations

import sys

import msgspec

from socketcluster.cli.serve import run
from socketcluster.cli.settings import Settings

if __name__ == "__main__":
    sys.exit(run(msgspec.json.decode(sys.argv[1], type=Settings)))
