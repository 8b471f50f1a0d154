#!/bin/sh
# Runs the Python judges with the given mezzo command. "make test" calls it with tools/env.sh sourced.
#
#   tests/run_python_tests.sh MEZZO
#
# Fixtures are made once into build/fixtures; published models are fetched once into build/published.
set -eu
mezzo=$1
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
mkdir -p build

"$python" tools/onnx_proto/generate.py --check
"$python" tools/gen_schemas.py --check
"$python" tests/python/type_check.py -- "${CARGO:-cargo}" run --quiet --locked --features cli --example check_types --
"$python" tools/check_vtables.py
"$python" tools/opset_changes.py --check
"$python" tests/python/upgrade_suite.py -- "${CARGO:-cargo}" run --quiet --locked --features cli --example upgrade
"$python" tests/python/tensorrt_rewrite.py -- "${CARGO:-cargo}" run --quiet --locked --features cli --example tensorrt_rewrite
"${CARGO:-cargo}" build --quiet --locked --features cli --example run_cases --example soak_models
cases=${CARGO_TARGET_DIR:-target}/debug/examples/run_cases
soak=${CARGO_TARGET_DIR:-target}/debug/examples/soak_models
"$python" tests/python/cpu_node_suite.py "$cases" --show wrong crash error --min-share 0.99
"$python" tests/python/cpu_random_cases.py "$cases"
"$python" tests/python/cpu_reference.py "$cases"
"$python" tests/python/cpu_bad_shapes.py "$cases"
"$python" tests/python/cpu_limits.py "$soak"
"$python" tests/python/node_suite.py --mezzo "$mezzo"
"$python" tests/python/make_models.py build/fixtures
"$python" tests/python/soak_models.py "$soak" --fixtures build/fixtures --count 150
"$python" tests/python/judge.py --mezzo "$mezzo" --fixtures build/fixtures --digits tests/data/digits
"$python" tests/python/half_truth.py --mezzo "$mezzo" --run-cases "$cases" --fixtures build/fixtures \
    --published build/published
"$python" tests/python/published.py --mezzo "$mezzo" --cache build/published
"$python" tests/python/tensorrt_models.py --mezzo "$mezzo" --fixtures build/fixtures --cache build/published
"$python" tests/python/real_data.py --mezzo "$mezzo" --cache build/published
