#!/bin/sh
# Checks the headers: the committed mezzo.h is what the sources give, and each compiles alone, without a warning, in
# every language it claims.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "check_header: $*" >&2
    exit 1
}

tools/header.sh "$work/mezzo.h"
diff -u include/mezzo/mezzo.h "$work/mezzo.h" || fail "include/mezzo/mezzo.h is not what src/capi gives: run tools/header.sh"

warnings="-Wall -Wextra -Werror -pedantic -fsyntax-only -Iinclude"
echo '#include <mezzo/mezzo.h>' >"$work/c.c"
echo '#include <mezzo/mezzo.hpp>' >"$work/cpp.cpp"
for standard in c99 c11; do
    # shellcheck disable=SC2086
    ${CC:-cc} -std=$standard $warnings -Wstrict-prototypes "$work/c.c" || fail "mezzo.h is not $standard"
done
for flags in -std=c++17 -std=c++20; do
    # shellcheck disable=SC2086
    ${CXX:-c++} $flags $warnings -x c++ "$work/c.c" || fail "mezzo.h does not compile with $flags"
    # shellcheck disable=SC2086
    ${CXX:-c++} $flags $warnings -fno-exceptions -fno-rtti "$work/cpp.cpp" || fail "mezzo.hpp does not compile with $flags"
done
echo "check_header: in step with the sources; mezzo.h is C99, C11, C++17, C++20; mezzo.hpp is C++17, C++20"
