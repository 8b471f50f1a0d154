#!/bin/sh
# Fetches NVIDIA's C++ headers of TensorRT 11.4 and TensorRT-RTX 1.3 to 1.7 for the tests, out of the source of the crate
# trtx-sys 0.9.1 (Apache-2.0) on crates.io, into build/tensorrt-headers. Nothing of them becomes part of Mezzo.
set -eu
cd "$(dirname "$0")/.."
target=build/tensorrt-headers
[ -f "$target/.complete" ] && exit 0
mkdir -p build
scratch=$(mktemp -d build/.headers.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/src"
touch "$scratch/src/lib.rs"
# A workspace of its own; cargo checks what it downloads against the index.
cat >"$scratch/Cargo.toml" <<'EOF'
[package]
name = "headers"
version = "0.0.0"
edition = "2021"
[workspace]
[dependencies]
trtx-sys = { version = "=0.9.1", default-features = false }
EOF
manifest=$("${CARGO:-cargo}" metadata --quiet --format-version 1 --manifest-path "$scratch/Cargo.toml" |
    "${PYTHON:-python3}" -c 'import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "trtx-sys"))')
cp -r "$(dirname "$manifest")/TensorRT-Headers" "$scratch/headers"
touch "$scratch/headers/.complete"
rm -rf "$target"
mv "$scratch/headers" "$target"
printf 'fetch_tensorrt_headers: %s has %s\n' "$target" "$(ls "$target" | tr '\n' ' ')" >&2
