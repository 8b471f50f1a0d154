#!/usr/bin/env python3
"""PyTorch archives in FP16 on a GPU: each is built with TensorRT and compared with what torch itself gave in FP32.

    python tests/gpu/agree_torch.py FOLDER --mezzo MEZZO --library TENSORRT [--forms pt2,traced] [--only NAME,...] [--jobs N]

FOLDER is one of tests/torch/make_zoo.py. Every output must be within 2e-2 of torch's, as a share of the output's largest number, and the
engine's own layers must be half, unless all is one compiled graph, of which TensorRT tells no types.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "torch"))
import judge as archives_judge  # noqa: E402
from agree import count_layers, difference, runs_in_half  # noqa: E402

BOUND = 2e-2
SOURCES = os.environ.get("MEZZO_TACTIC_SOURCES", "edge_mask_convolutions,jit_convolutions")


def judge(mezzo, library, path, values, scratch):
    call = archives_judge.call
    stored = np.load(values)
    ordered = [[stored[k] for k in sorted((k for k in stored if k.startswith(p)), key=lambda k: int(k.split("_")[1]))]
               for p in ("in_", "out_")]
    shapes = list(archives_judge.shapes(ordered[0])) if path.suffix == ".pt" else []
    engine = scratch / "engine"
    began = time.monotonic()
    call([mezzo, "build", path, engine, "--backend", "tensorrt", "--library", library, "--tactic-sources", SOURCES,
          "--precision", "fp16", "--keep-io", *shapes])
    seconds = time.monotonic() - began
    info = json.loads(call([mezzo, "inspect", engine, "--json"]))
    given = []
    for i, (io, array) in enumerate(zip(info["inputs"], ordered[0])):
        file = scratch / f"in{i}.npy"
        # TensorRT 8 holds INT64 as INT32.
        np.save(file, array.astype(np.int32) if io["dtype"] == "int32" else array)
        given += ["--input", f"{io['name']}={file}"]
    ran = json.loads(call([mezzo, "run", engine, "--library", library, "--output-dir", scratch / "out", "--json", *given]))
    got = {i: np.load(o["file"]) for i, o in enumerate(ran["outputs"])}
    if len(got) != len(ordered[1]):
        raise RuntimeError(f"{len(got)} outputs, torch gave {len(ordered[1])}")
    layers = count_layers(json.loads(call([mezzo, "inspect", engine, "--library", library, "--layers", "--json"])))
    return {"fp16_of_torch": difference(got, dict(enumerate(ordered[1]))), "build_s": round(seconds, 1),
            **layers}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mezzo", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--forms", type=lambda t: t.split(","), default=["pt2", "traced"])
    parser.add_argument("--only", type=lambda t: t.split(","))
    parser.add_argument("--jobs", type=int, default=2, help="archives at once")
    arguments = parser.parse_args()
    failed = 0

    def one(name, form, path, values):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                result = judge(arguments.mezzo, arguments.library, path, values, Path(scratch))
                result["ok"] = result["fp16_of_torch"] <= BOUND and runs_in_half(result)
            except (RuntimeError, KeyError, subprocess.TimeoutExpired) as reason:
                result = {"ok": False, "error": str(reason)[:600]}
        return {"model": name, "form": form, **{k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in result.items()}}

    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = archives_judge.archives(arguments.folder, arguments.forms, arguments.only)
        for done in [pool.submit(one, *archive) for archive in found]:
            result = done.result()
            failed += not result["ok"]
            print(json.dumps(result), flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
