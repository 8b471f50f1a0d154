#!/usr/bin/env python3
"""One model from .pt (traced), .pt2 and torch.onnx's export of the same program, on the CPU backend: how far apart the
outputs are, relative to their maximum.

    same.py FOLDER [--mezzo PATH] [--only NAME,...]

FOLDER is make_zoo.py's. torch.onnx.export decomposes and fuses in its own way, so that sums may be taken in another order;
more than 1e-5 is a failure.
"""
import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from judge import arrays, difference, outputs_of

BOUND = 1e-5


def forms(folder, name, scratch):
    """Paths of the model in each form."""
    pt2, traced = folder / f"{name}.pt2", folder / f"{name}.traced.pt"
    onnx = scratch / "model.onnx"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(torch.export.load(str(pt2)), (), str(onnx), dynamo=True)
    return {"pt2": pt2, "traced": traced, "onnx": onnx}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mezzo", default="mezzo")
    parser.add_argument("--only", type=lambda t: t.split(","))
    args = parser.parse_args()
    exact, near, all_of = 0, 0, 0
    for values in sorted(args.folder.glob("*.npz")):
        name = values.name[: -len(".npz")]
        if args.only and name not in args.only:
            continue
        all_of += 1
        with tempfile.TemporaryDirectory() as scratch:
            scratch = Path(scratch)
            try:
                inputs = arrays(np.load(values), "in_")
                outputs = {}
                for form, path in forms(args.folder, name, scratch).items():
                    work = scratch / form
                    work.mkdir()
                    outputs[form] = outputs_of(args.mezzo, path, inputs, work)
                far = {form: difference(outputs[form], outputs["pt2"]) for form in ("traced", "onnx")}
            except (RuntimeError, subprocess.TimeoutExpired, torch.onnx.errors.OnnxExporterError) as e:
                print(f"FAIL {name}: {str(e).splitlines()[0][:160]}", flush=True)
                continue
        good = max(far.values()) <= BOUND
        exact += not any(far.values())
        near += good
        print(f"{'ok  ' if good else 'FAR '} {name}: traced {far['traced']:.1e}, onnx {far['onnx']:.1e} from pt2", flush=True)
    print(f"{near} of {all_of} within {BOUND:.0e}, {exact} equal bit for bit")
    sys.exit(near != all_of)


if __name__ == "__main__":
    main()
