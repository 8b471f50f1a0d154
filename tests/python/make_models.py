#!/usr/bin/env python3
"""Write the test models into a folder: random weights, random BatchNorm statistics, the same for the same seed.

    python tests/python/make_models.py build/fixtures [--seed 1] [--only NAME ...]

Each model passes the full ONNX checker and gives finite outputs that vary: a model whose output hardly moves would pass
any tolerance.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from fixtures import FIXTURES, build
from fixtures.inputs import make_inputs

MINIMUM_SPREAD = 1e-2


def save(model, path):
    if path.stem == "external":
        data = path.with_name(path.name + ".data")
        data.unlink(missing_ok=True)  # onnx appends to an existing file
        onnx.save_model(model, path, save_as_external_data=True, location=data.name, size_threshold=1024)
    else:
        onnx.save_model(model, path)


def run(path, inputs):
    """Outputs by ONNX Runtime; by ONNX's own reference where ONNX Runtime cannot load the model."""
    import onnxruntime
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.OnnxRuntimeException as error:
        print(f"  {path.name}: ONNX's reference runs it, since ONNX Runtime says: {str(error).splitlines()[0][:150]}")
        return ReferenceEvaluator(str(path)).run(None, inputs), "reference"
    return session.run(None, inputs), "onnxruntime"


def check(path):
    onnx.checker.check_model(str(path), full_check=True)
    outputs, runtime = run(path, make_inputs(onnx.load(path)))
    for index, output in enumerate(outputs):
        if not np.isfinite(output).all():
            raise SystemExit(f"{path.name}: output {index} is not finite")
        if output.std() < MINIMUM_SPREAD:
            raise SystemExit(f"{path.name}: output {index} hardly varies: standard deviation {output.std():.2g}")
    spread = ", ".join(f"{o.std():.2f} (max {np.abs(o).max():.2f})" for o in outputs)
    print(f"{path.name:24} {path.stat().st_size:9} bytes  {runtime:11}  output spread {spread}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=sorted(FIXTURES), metavar="NAME", default=list(FIXTURES))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        path = arguments.folder / f"{name}.onnx"
        save(build(name, arguments.seed), path)
        check(path)


if __name__ == "__main__":
    sys.exit(main())
