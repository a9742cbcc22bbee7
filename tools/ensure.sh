#!/usr/bin/env bash
# Install the programs that the tests use and that no Python or npm package brings.
#
#   ensure.sh NAME...    NAME is a Debian package, such as chromium or redis-server
#
# Prints nothing when all are installed. Runs apt-get only as root, or through sudo on CI where sudo asks
# no password; otherwise prints the command to run. Never fails: the tests that need a missing program
# skip themselves, and fail on CI.
set -u

is_there() {
  case "$1" in
    chromium) command -v chromium || command -v google-chrome ;;
    graphviz) command -v dot ;;
    *) command -v "$1" ;;
  esac >/dev/null 2>&1
}

missing=()
for name in "$@"; do is_there "$name" || missing+=("$name"); done
[ ${#missing[@]} = 0 ] && exit 0

as_root=()
if ! command -v apt-get >/dev/null 2>&1; then
  echo "Not installed: ${missing[*]}. Install them with your package manager, or their tests are skipped."
  exit 0
elif [ "$(id -u)" != 0 ]; then
  if [ -n "${CI:-}" ] && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  else
    echo "Not installed: ${missing[*]}. Their tests are skipped until you run:"
    echo "  sudo apt-get install --no-install-recommends ${missing[*]}"
    exit 0
  fi
fi

echo "Installing ${missing[*]} with apt-get"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# RUNLEVEL=1 keeps what is installed, such as nginx, from being started.
run() { "${as_root[@]+"${as_root[@]}"}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get "$@" >>"$log" 2>&1 </dev/null; }
run update -qq || true
run install -y -qq --no-install-recommends "${missing[@]}" || {
  tail -5 "$log"
  echo "apt-get could not install ${missing[*]}: the tests that need them say so."
}
exit 0
