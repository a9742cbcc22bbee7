#!/usr/bin/env bash
# List the Pythons that this machine has and the package supports: "3.12 /path/to/python" per line.
# Looks on PATH, then among pyenv's versions; one interpreter per minor version.
set -u
for minor in 11 12 13 14 15; do
  for python in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"3.$minor".*/bin/python; do
    # A shim of pyenv is on PATH for versions that are not active, and fails.
    path=$("$python" -c 'import ensurepip, sys; print(sys.executable)' 2>/dev/null) || continue
    echo "3.$minor $path"
    break
  done
done
