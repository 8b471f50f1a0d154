#!/bin/sh
# Installs what the build, the tests or the demo need and the machine lacks, into build/ of this repository, and says so.
#
#   tools/setup.sh cmake     a cmake of at least 3.16 (the system's if it has one)
#   tools/setup.sh judges    the Python packages that judge the results (tests/python/requirements.txt)
#   tools/setup.sh tensorrt  TensorRT-RTX, the lean runtime and TensorRT 8.5, where there are wheels for the machine (740 MB)
#
# Python packages go to build/python by "pip install --target": no virtual environment module is needed, and nothing of
# the system changes. tools/env.sh puts them on the paths.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
target=build/python

say() { printf 'setup: %s\n' "$*" >&2; }

# pip_install FILE: installs a requirements file, once for the same content.
pip_install() {
    stamp=$target/.installed-$(basename "$1")
    cmp -s "$1" "$stamp" && return 0
    mkdir -p "$target"
    if ! "$python" -m pip --version >/dev/null 2>&1; then
        say "pip is missing: install python3-pip, then run this again"
        return 1
    fi
    say "installing into $target by pip: $(tr '\n' ' ' <"$1")"
    "$python" -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore \
        --upgrade --target "$target" -r "$1"
    cp "$1" "$stamp"
}

cmake_is_enough() {
    command -v "$1" >/dev/null 2>&1 || return 1
    "$1" --version | "$python" -c 'import re, sys
major, minor = map(int, re.search(r"version (\d+)\.(\d+)", sys.stdin.read()).groups())
sys.exit(0 if (major, minor) >= (3, 16) else 1)'
}

setup_cmake() {
    cmake_is_enough cmake && return 0
    cmake_is_enough "$target/cmake/data/bin/cmake" && return 0
    say "there is no cmake of at least 3.16 here"
    if pip_install tools/requirements-build.txt && cmake_is_enough "$target/cmake/data/bin/cmake"; then
        return 0
    fi
    if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        say "installing cmake by apt-get"
        apt-get update -qq && apt-get install -y -qq cmake >/dev/null && return 0
    fi
    say "cmake could not be installed: install it by your system's package manager, then run this again"
    return 1
}

case "${1:-}" in
cmake) setup_cmake ;;
judges) pip_install tests/python/requirements.txt ;;
tensorrt) # Not needed: without them their tests are skipped and say so.
    tools/fetch_tensorrt_headers.sh || say "tests with TensorRT's headers will be skipped"
    for library in rtx lean 8.5; do
        PYTHON=$python tools/fetch_tensorrt.sh $library || say "tests of TensorRT ($library) will be skipped"
    done
    ;;
*)
    say "usage: tools/setup.sh cmake|judges|tensorrt"
    exit 2
    ;;
esac
