#!/bin/sh
# Makes include/mezzo/mezzo.h from src/capi.
#
#   tools/header.sh [FILE]     writes FILE (default: the committed header)
set -eu
cd "$(dirname "$0")/.."
out=${1:-include/mezzo/mezzo.h}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
mkdir -p "$(dirname "$out")"
if ! tools/cbindgen.sh --config cbindgen.toml --output "$out" src/capi/mod.rs 2>"$log"; then
    cat "$log" >&2
    exit 1
fi
# Warnings about items that are not exported are expected; what cbindgen calls an error would be a hole in the header.
if grep '^ERROR' "$log" >&2; then
    exit 1
fi
