#!/usr/bin/env python3
"""Write the test models into a folder: random weights, random BatchNorm statistics, the same for the same seed.

    python tests/python/make_models.py build/fixtures [--seed 1] [--only NAME ...]

Each model passes the full ONNX checker and gives finite outputs that vary, also from one input to the next.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from fixtures import FIXTURES, build
from fixtures.inputs import make_inputs

MINIMUM_SPREAD = 1e-2
MINIMUM_CHANGE = 5e-2  # of the output maximum, between two random inputs; above the tolerance that FP16 gets


def save(model, path):
    if path.stem == "external":
        data = path.with_name(path.name + ".data")
        data.unlink(missing_ok=True)  # onnx appends to an existing file
        onnx.save_model(model, path, save_as_external_data=True, location=data.name, size_threshold=1024)
    else:
        onnx.save_model(model, path)


def check(path):
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    model = onnx.load(path, load_external_data=False)
    outputs, others = (session.run(None, make_inputs(model, seed)) for seed in (0, 1))
    for info, output, other in zip(session.get_outputs(), outputs, others):
        spread, largest = output.std(), np.abs(output).max()
        change = np.abs(output - other).max() / largest
        print(f"{path.name:24} {path.stat().st_size:9} bytes  {info.name:18} spread {spread:6.2f}  largest {largest:6.2f}  "
              f"change with the input {change:.2f}")
        if not np.isfinite(output).all():
            raise SystemExit(f"{path.name}: {info.name} is not finite")
        if spread < MINIMUM_SPREAD or change < MINIMUM_CHANGE:
            raise SystemExit(f"{path.name}: {info.name} hardly varies, so any tolerance would pass")


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
    main()
