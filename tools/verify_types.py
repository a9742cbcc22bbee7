"""Check that every public name of the package has a type that no type checker has to infer.

Prints the names that lack one, and pyright's score.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "socketcluster"
COMMAND = "basedpyright --verifytypes socketcluster --ignoreexternal --outputjson"


def report() -> dict[str, Any]:
    """Return pyright's report on the package, as it would be installed."""
    # With --verifytypes pyright asks the first `python` in PATH where packages are, and ignores
    # --pythonpath. Outside of the environment it would not find the dependencies.
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": programs, "PYTHONPATH": str(PACKAGE.parent)}
    output = subprocess.run(
        COMMAND.split(), env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=False
    ).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def causes(symbols: list[dict[str, Any]]) -> list[str]:
    """Return the errors of the names that lack a type, without those of the names that use them."""
    every: list[tuple[str, str]] = []
    for symbol in symbols:
        for error in symbol["diagnostics"]:
            if error["severity"] != "error":
                continue
            place = ""
            if error["file"]:
                path = os.path.relpath(error["file"], ROOT)
                place = f"{path}:{error['range']['start']['line'] + 1}: "
            message = " ".join(error["message"].split())
            every.append((f"{place}{symbol['name']}: {message}", message))
    # A part of a type that is unknown itself is called Unknown.
    first = [line for line, text in every if "partially unknown" not in text or "Unknown" in text]
    return first or [line for line, _ in every]


def main() -> int:
    """Verify the types, and return 1 below 100 %."""
    result = report()
    types = result["typeCompleteness"]
    if Path(types["packageRootDirectory"]) != PACKAGE or not types.get("pyTypedPath"):
        print(f"pyright does not see {PACKAGE} as a typed package: is py.typed there?")
        return 1
    for line in causes(types["symbols"]):
        print(line)
    score = types["completenessScore"]
    print(f"{100 * score:.4g} % of the public names have a type")
    return 0 if score == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
