# Sourced (". tools/env.sh" in the repository's root): puts what tools/setup.sh installed on the paths.
_root=$(pwd)
[ -x "$_root/build/python/cmake/data/bin/cmake" ] && ! command -v cmake >/dev/null 2>&1 &&
    PATH="$_root/build/python/cmake/data/bin:$PATH"
export PATH
export PYTHONPATH="$_root/build/python${PYTHONPATH:+:$PYTHONPATH}"
