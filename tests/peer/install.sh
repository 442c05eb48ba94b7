#!/usr/bin/env bash
# Installs the pinned peer (llama.cpp with Node bindings, CPU build) into FOLDER/node_modules; does nothing when it is
# there already.
# usage: install.sh FOLDER    exits 77 (skipped) when node or npm is missing or the registry cannot be reached
set -euo pipefail
folder=${1:?usage: install.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
skip() { echo "SKIP: $*"; exit 77; }
command -v node >/dev/null && command -v npm >/dev/null || skip "needs node and npm"
[ "$(uname -sm)" = "Linux x86_64" ] || skip "the pinned binaries are for Linux x86_64"
mkdir -p "$folder"
exec 9>"$folder/.lock"
flock -w 300 9 || { echo "another installation holds $folder/.lock"; exit 1; }
stamp=$(cat "$here/package.json" "$here/package-lock.json" | sha256sum)
[ "$(cat "$folder/.installed" 2>/dev/null || true)" = "$stamp" ] && exit 0
cp "$here/package.json" "$here/package-lock.json" "$folder/"
# Optional dependencies are builds for GPUs and other systems, 600 MB of them; no script of a package is run.
(cd "$folder" && timeout 240 npm install --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error) ||
  skip "npm install failed in $folder (is the registry reachable?)"
echo "$stamp" >"$folder/.installed"
