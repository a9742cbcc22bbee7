#!/usr/bin/env bash
# Draw the import graph of the package and of its large rooms as docs/architecture/*.svg.
#
#   draw_imports.sh BIN    BIN is the folder with import-linter
#
# An arrow means "imports", for types too. Arrows that follow from others are left out. Fails if there is
# a circle, or if graphviz is missing.
set -euo pipefail
bin=$1
folder=docs/architecture
mkdir -p "$folder"
draw() {
  local dot errors
  dot=$("$bin/import-linter" drawgraph "$1" | sed 's/fontname=helvetica/fontname=helvetica shape=box/')
  errors=$(mktemp)
  tred <<<"$dot" 2>"$errors" | dot -Tsvg | sed -e '/^<!--.*-->$/d' -e '/^<!-- /,/-->/d' >"$folder/$2.svg"
  if grep -q cycle "$errors"; then
    echo "$1 has a circle of imports"
    rm "$errors"
    exit 1
  fi
  rm "$errors"
  echo "$folder/$2.svg: $(grep -c '<g id="edge' "$folder/$2.svg") arrows, no circle"
}
draw socketcluster package
draw socketcluster.server server
draw socketcluster.server.parts parts
draw socketcluster.client client
