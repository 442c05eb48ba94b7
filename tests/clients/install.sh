#!/usr/bin/env bash
# Installs the pinned clients into FOLDER/node_modules; does nothing when they are there already.
# usage: install.sh FOLDER    exits 77 (skipped) when node or npm is missing or the registry cannot be reached
set -euo pipefail
folder=${1:?usage: install.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
skip() { echo "SKIP: $*"; exit 77; }
command -v node >/dev/null && command -v npm >/dev/null || skip "needs node and npm"
mkdir -p "$folder"
exec 9>"$folder/.lock"
flock -w 300 9 || { echo "another installation holds $folder/.lock"; exit 1; }
stamp=$(cat "$here/package.json" "$here/package-lock.json" | sha256sum)
[ "$(cat "$folder/.installed" 2>/dev/null || true)" = "$stamp" ] && exit 0
cp "$here/package.json" "$here/package-lock.json" "$folder/"
(cd "$folder" && timeout 240 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
  skip "npm ci failed in $folder (is the registry reachable?)"
echo "$stamp" >"$folder/.installed"
