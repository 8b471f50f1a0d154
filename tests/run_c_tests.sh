#!/bin/sh
# Tests the installed package as its users get it: the C and C++ tests built by CMake, the headers, the exported symbols,
# a moved installation, pkg-config, and the static library where it is installed.
#
#   tests/run_c_tests.sh PREFIX [--valgrind]
#
# --valgrind runs the C and C++ tests under valgrind: no leak, no wrong access.
set -eu
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { echo "usage: tests/run_c_tests.sh PREFIX [--valgrind]" >&2; exit 2; }
prefix=$(cd "$1" && pwd)
build=$(pwd)/build/c-tests
launcher=
if [ "${2:-}" = --valgrind ]; then
    # "Possible" leaks are not asked for: tables that live as long as the library are pointed to by their middle.
    launcher="valgrind;-q;--error-exitcode=99;--leak-check=full;--show-leak-kinds=definite,indirect"
    launcher="$launcher;--errors-for-leak-kinds=definite,indirect"
    build=$build-valgrind
fi
say() { echo "run_c_tests: $*"; }
fail() {
    echo "run_c_tests: $*" >&2
    exit 1
}
# quietly COMMAND...: shows the output only if it fails.
quietly() {
    "$@" >"$build/log" 2>&1 || { cat "$build/log" >&2; fail "failed: $*"; }
}
mkdir -p "$build"
libdir=$(dirname "$(find "$prefix" -name libmezzo.so -o -name libmezzo.dylib | head -n 1)")

quietly cmake -S tests/c -B "$build/tests" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -Dlauncher="$launcher" -Dfixtures="$(pwd)/tests/data"
quietly cmake --build "$build/tests" --parallel 2
ctest --test-dir "$build/tests" --output-on-failure --timeout 900 ${launcher:+--verbose} >"$build/ctest.log" 2>&1 || {
    cat "$build/ctest.log" >&2
    fail "C and C++ tests failed"
}
say "$(grep 'tests passed' "$build/ctest.log")${launcher:+ (under valgrind)}"
if [ -n "$launcher" ]; then
    exit 0
fi

# No function may be left without a test.
sed 's|//.*||' "$prefix/include/mezzo/mezzo.h" | grep -o 'mezzo_[a-z0-9_]*(' | tr -d '(' | sort -u >"$build/declared"
cat tests/c/*.c tests/c/*.h | grep -o 'mezzo_[a-z0-9_]*' | sort -u >"$build/tested"
untested=$(comm -23 "$build/declared" "$build/tested" | tr '\n' ' ')
[ -z "$untested" ] || fail "functions without a test: $untested"

tools/check_header.sh
case $(uname -s) in
Linux) tools/check_library.sh "$libdir/libmezzo.so" "$prefix/include/mezzo/mezzo.h" ;;
esac

# consume NAME PREFIX [CMAKE_ARGUMENTS...]: builds and runs the smallest consumer.
consume() {
    name=$1
    where=$2
    shift 2
    rm -rf "$build/$name"
    quietly cmake -S tests/c/consumer -B "$build/$name" -DCMAKE_PREFIX_PATH="$where" "$@"
    quietly cmake --build "$build/$name"
    quietly "$build/$name/consumer"
}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

rm -rf "$build/moved"
mkdir -p "$build/moved"
cp -R "$prefix/." "$build/moved/it has moved"
consume moved-build "$build/moved/it has moved" "-DWANTED_VERSION=$version" -DWANTED_COMPONENTS=shared
ldd "$build/moved-build/consumer" 2>/dev/null | grep -q 'it has moved' || [ "$(uname -s)" != Linux ] ||
    fail "the consumer of a moved installation does not use it"
say "a moved installation works"

if cmake -S tests/c/consumer -B "$build/version" -DCMAKE_PREFIX_PATH="$prefix" -DWANTED_VERSION=99.0 >"$build/log" 2>&1; then
    fail "find_package(mezzo 99.0) is satisfied by $version"
fi

if [ -f "$libdir/libmezzo.a" ]; then
    consume static "$prefix" -DMEZZO_USE_STATIC=TRUE -DWANTED_COMPONENTS=static
    if ldd "$build/static/consumer" 2>/dev/null | grep -q libmezzo; then
        fail "the static consumer needs the shared library"
    fi
    say "the static library works"
fi

if command -v pkg-config >/dev/null 2>&1; then
    # shellcheck disable=SC2046
    quietly "${CC:-cc}" tests/c/consumer/consumer.c -o "$build/pkg-consumer" \
        $(PKG_CONFIG_PATH="$libdir/pkgconfig" pkg-config --cflags --libs mezzo)
    LD_LIBRARY_PATH=$libdir quietly "$build/pkg-consumer"
    say "pkg-config works"
fi
