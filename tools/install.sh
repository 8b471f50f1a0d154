#!/bin/sh
# Installs what cargo has built, without cmake: library, headers, CMake package, pkg-config file, and the command where
# it was built.
#
#   tools/install.sh TARGET_FOLDER PREFIX
#
# Environment: MEZZO_PROFILE (release) is the folder in TARGET_FOLDER; LIBDIR (lib) the one in PREFIX for libraries;
# DESTDIR is put before PREFIX, for packagers; MEZZO_STATIC=1 installs the static library too, which
# `cargo rustc --release --lib --crate-type staticlib` builds.
set -eu
cd "$(dirname "$0")/.."
[ $# = 2 ] || { echo "usage: tools/install.sh TARGET_FOLDER PREFIX" >&2; exit 2; }
built=$1/${MEZZO_PROFILE:-release}
libdir=${LIBDIR:-lib}
prefix=${DESTDIR:-}$2

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
major=${version%%.*}
minor=${version#*.}
minor=${minor%%.*}


case $(uname -s) in
Darwin) from=libmezzo.dylib shared=libmezzo.$version.dylib soname=libmezzo.$major.dylib link=libmezzo.dylib ;;
*) from=libmezzo.so shared=libmezzo.so.$version soname=libmezzo.so.$major link=libmezzo.so ;;
esac

if [ ! -f "$built/$from" ]; then
    echo "install.sh: there is no $from in $built: run 'make lib' first" >&2
    exit 1
fi
if [ "${MEZZO_STATIC:-0}" = 1 ] && [ ! -f "$built/libmezzo.a" ]; then
    echo "install.sh: there is no libmezzo.a in $built: build it with --crate-type staticlib first" >&2
    exit 1
fi

# A file that is being used (a running program, an open editor) is replaced, not written over.
put() {
    mkdir -p "$(dirname "$3")"
    cp "$2" "$3.new"
    chmod "$1" "$3.new"
    mv -f "$3.new" "$3"
}

# up FOLDER: the way from FOLDER, relative to the prefix, back to the prefix.
up() { echo "$1" | sed 's|[^/][^/]*|..|g'; }

fill() {
    mkdir -p "$(dirname "$2")"
    sed -e "s|@VERSION@|$version|g" -e "s|@MAJOR@|$major|g" -e "s|@MINOR@|$minor|g" -e "s|@LIBDIR@|$libdir|g" \
        -e "s|@SHARED@|$shared|g" -e "s|@SONAME@|$soname|g" \
        -e "s|@PREFIX_FROM_CMAKE@|$(up "$libdir/cmake/mezzo")|g" \
        -e "s|@PREFIX_FROM_PC@|$(up "$libdir/pkgconfig")|g" "$1" >"$2.new"
    mv -f "$2.new" "$2"
}

put 755 "$built/$from" "$prefix/$libdir/$shared"
ln -sf "$shared" "$prefix/$libdir/$soname"
ln -sf "$soname" "$prefix/$libdir/$link"
# A static library of an earlier version must not stay beside the new shared one.
rm -f "$prefix/$libdir/libmezzo.a"
if [ "${MEZZO_STATIC:-0}" = 1 ]; then
    put 644 "$built/libmezzo.a" "$prefix/$libdir/libmezzo.a"
fi
put 644 include/mezzo/mezzo.h "$prefix/include/mezzo/mezzo.h"
put 644 include/mezzo/mezzo.hpp "$prefix/include/mezzo/mezzo.hpp"
fill cmake/mezzo-config.cmake.in "$prefix/$libdir/cmake/mezzo/mezzo-config.cmake"
fill cmake/mezzo-config-version.cmake.in "$prefix/$libdir/cmake/mezzo/mezzo-config-version.cmake"
fill cmake/mezzo.pc.in "$prefix/$libdir/pkgconfig/mezzo.pc"
if [ -f "$built/mezzo" ]; then
    put 755 "$built/mezzo" "$prefix/bin/mezzo"
fi
put 644 LICENSE "$prefix/share/doc/mezzo/LICENSE"
echo "installed Mezzo $version in $prefix"
