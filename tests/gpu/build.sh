#!/bin/sh
# Builds what tests/gpu/run.sh runs, for a machine that has a GPU but no Rust: the library, the command, the test program and
# the benchmarks, in build/gpu/bin.
set -eu
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
${CARGO:-cargo} build --profile judged --locked --features cli
out=build/gpu/bin
mkdir -p $out
cp "$target/judged/libmezzo.so" $out/libmezzo.so.0
cp "$target/judged/mezzo" $out/
compile() {
    name=$1
    shift
    ${CXX:-c++} -std=c++17 -O2 -Wall -Wextra -Iinclude "$@" tests/gpu/check.cpp -o $out/$name $out/libmezzo.so.0 -ldl -lpthread \
        -Wl,-rpath,'$ORIGIN'
}
compile suite tests/gpu/suite.cpp tests/gpu/shapes.cpp tests/gpu/sharing.cpp tests/gpu/files.cpp tests/gpu/devices.cpp
compile allocator tests/gpu/allocator.cpp
for program in bench host load turns; do
    compile $program benches/gpu/$program.cpp
done
echo "$out has $(ls $out | tr '\n' ' ')"
