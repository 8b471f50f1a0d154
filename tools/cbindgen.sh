#!/bin/sh
# Runs the one version of cbindgen that makes include/mezzo/mezzo.h, installing it into build/ where it is missing.
set -eu
cd "$(dirname "$0")/.."
version=0.29.4

is_right() { [ "$("$1" --version 2>/dev/null)" = "cbindgen $version" ]; }

for candidate in "${CBINDGEN:-cbindgen}" build/cbindgen/bin/cbindgen; do
    if is_right "$candidate"; then
        exec "$candidate" "$@"
    fi
done
echo "cbindgen.sh: installing cbindgen $version into build/cbindgen by cargo" >&2
CARGO_TARGET_DIR=build/cbindgen/target "${CARGO:-cargo}" install cbindgen --version $version --locked \
    --root build/cbindgen --quiet
rm -rf build/cbindgen/target
exec build/cbindgen/bin/cbindgen "$@"
