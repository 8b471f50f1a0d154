#!/bin/sh
# Builds what tests/gpu/run.sh runs, for a machine that has a GPU but no Rust: the library, the command, the test program and
# the benchmark, in build/gpu/bin.
set -eu
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
${CARGO:-cargo} build --profile judged --locked --features cli
out=build/gpu/bin
mkdir -p $out
cp "$target/judged/libmezzo.so" $out/libmezzo.so.0
cp "$target/judged/mezzo" $out/
for program in tests/gpu/suite benches/gpu/bench; do
    ${CXX:-c++} -std=c++17 -O2 -Wall -Wextra -Iinclude $program.cpp tests/gpu/check.cpp -o "$out/$(basename $program)" \
        $out/libmezzo.so.0 -ldl -lpthread -Wl,-rpath,'$ORIGIN'
done
echo "$out has $(ls $out | tr '\n' ' ')"
