#!/bin/sh
# Checks a built shared library on Linux: exactly the header's functions are exported, nothing but the C runtime is
# needed, and the name it goes by is set.
#
#   tools/check_library.sh LIBRARY [HEADER]
set -eu
cd "$(dirname "$0")/.."
library=$1
header=${2:-include/mezzo/mezzo.h}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "check_library: $*" >&2
    exit 1
}

nm -D --defined-only "$library" | awk '{print $NF}' | sed 's/@.*//' | sort -u >"$work/exported"
# The preprocessor drops the comments, which name functions too.
echo "#include \"$header\"" | ${CC:-cc} -E -P -I. - | grep -o 'mezzo_[a-z0-9_]*[[:space:]]*(' | tr -d '( ' | sort -u >"$work/declared"
diff "$work/declared" "$work/exported" >"$work/diff" ||
    fail "declared (<) and exported (>) functions differ: $(grep '^[<>]' "$work/diff" | tr '\n' ' ')"

readelf -dW "$library" >"$work/dynamic"
sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' "$work/dynamic" |
    grep -Ev '^(libc|libm|libpthread|libdl|libgcc_s|ld-linux.*|linux-vdso)\.so' >"$work/foreign" &&
    fail "needs more than the C runtime: $(tr '\n' ' ' <"$work/foreign")"

major=$(sed -n 's/^version = "\([0-9]*\)\..*/\1/p' Cargo.toml | head -n 1)
soname=$(sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p' "$work/dynamic")
[ "$soname" = "libmezzo.so.$major" ] || fail "the SONAME is '$soname', not libmezzo.so.$major"
echo "check_library: $(wc -l <"$work/exported") functions, all declared; SONAME $soname; $(wc -c <"$library") bytes"
