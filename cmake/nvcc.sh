#!/usr/bin/env bash
# nvcc.sh LOG COMMAND…: runs nvcc; what ptxas reports of each kernel goes to LOG, everything else to the screen.
set -uo pipefail
# ccache by the contents of every file included: preprocessed text lacks what only device code sees.
export CCACHE_DEPEND=1
log=$1
shift
"$@" 2>"$log"
status=$?
if [ $status -ne 0 ]; then
  cat "$log" >&2
  rm -f "$log"
  exit $status
fi
grep -vE '^ptxas info |^ +[0-9]+ bytes (stack frame|gmem)|^ *$' "$log" >&2 || true
