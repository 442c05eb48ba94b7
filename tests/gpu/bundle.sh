#!/usr/bin/env bash
# bundle.sh BUILD OUT.tar[.gz]: programs, card tests and the libraries they need, for a machine with a driver, glibc 2.36
# or later and Python 3. The C library stays the machine's own; CUDA's runtime is inside libshoal-cuda.so.
set -euo pipefail
build=$(realpath "$1") out=$(realpath -m "$2")
root=$(realpath "$(dirname "$0")/../..")
limit=$((64 << 20))
[ -f "$build/cli/libshoal-cuda.so" ] || { echo "there is no $build/cli/libshoal-cuda.so: nvcc makes it" >&2; exit 1; }
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
bundle=$stage/shoal-gpu
mkdir -p "$bundle"/{cli,lib,tests/simt,tests/gpu,tests/system}
cp "$build/cli/shoal" "$build/cli/libshoal-cuda.so" "$bundle/cli/"
cp "$build"/tests/simt/card_*_test "$bundle/tests/simt/"
cp "$root/tests/gpu/run.py" "$bundle/tests/gpu/"
cp "$root/tests/system/harness.py" "$root/tests/system/test_oracle.py" "$bundle/tests/system/"
strip "$bundle"/cli/* "$bundle"/tests/simt/*
# Everything but the C library and the loader.
ldd "$bundle"/cli/* "$bundle"/tests/simt/* 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
  grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv|ld-linux[^/]*)\.so' | xargs cp -L -t "$bundle/lib/"
cat >"$bundle/run" <<'RUN'
#!/bin/sh
# The stages of ./dev gpu, from this folder: ./run [--again] [STAGE …]; results in gpu/. Reference models, if any, lie
# where $SHOAL_SHARED says.
here=$(cd "$(dirname "$0")" && pwd)
LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec python3 "$here/tests/gpu/run.py" --build "$here" "$@"
RUN
chmod +x "$bundle/run"
tar -C "$stage" -caf "$out" shoal-gpu  # compressed if the name says so
bytes=$(stat -c %s "$out")
echo "$out: $((bytes >> 20)) MiB"
[ "$bytes" -le "$limit" ] || { echo "more than $((limit >> 20)) MiB" >&2; exit 1; }
