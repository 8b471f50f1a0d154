#!/usr/bin/env python3
"""What loading a `.pt2` costs: seconds and memory of `mezzo inspect`, of torch.export.load and of torch.onnx.export.

    python benches/torch_load.py MODEL.pt2 [--mezzo target/release/mezzo] [--rounds 5]

Each runs in a process of its own; the memory is its largest resident size (mapped pages of the file count), less that of the
same process without the load. The file is in the page cache. torch: torch.export.load of the file, and torch.onnx.export of
the live model (its name in tests/torch/zoo.py is the file's), which is what a flow by ONNX pays instead; the memory of that one
holds the live model too.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

LOAD = "import torch, time, sys; t = time.time(); p = torch.export.load(sys.argv[1]); print(time.time() - t)"
# The live model of the zoo, made anew: its parameters are others, its graph is the same.
EXPORT = ("import torch, time, sys; sys.path.insert(0, sys.argv[3]); from zoo import ZOO; m, x = ZOO[sys.argv[2]](); m.eval(); "
          "t = time.time(); torch.onnx.export(m, x, sys.argv[1] + '.onnx', dynamo=True); print('\\n', time.time() - t)")
ZOO = str(Path(__file__).resolve().parent.parent / "tests/torch")
BARE = "import torch, torch.export"


def measured(command):
    """Seconds, the largest resident size in bytes, and what it printed last."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]} failed with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024, (text.strip().splitlines() or [""])[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--mezzo", default="target/release/mezzo")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    size = args.model.stat().st_size
    args.model.read_bytes()  # into the page cache
    mezzo = [measured([args.mezzo, "inspect", str(args.model)]) for _ in range(args.rounds)]
    print(f"{args.model.name}: {size / 1e6:.0f} MB")
    print(f"mezzo inspect: {statistics.median(m[0] for m in mezzo):.3f} s, {max(m[1] for m in mezzo) / 1e6:.0f} MB, "
          f"{max(m[1] for m in mezzo) / size:.2f} of the file")
    bare = measured([sys.executable, "-c", BARE])[1]
    for what, program in (("torch.export.load", LOAD), ("torch.onnx.export", EXPORT)):
        _, memory, seconds = measured([sys.executable, "-c", program, str(args.model), args.model.name.split(".")[0], ZOO])
        print(f"{what}: {float(seconds):.2f} s, {(memory - bare) / 1e6:.0f} MB above torch itself")
    for extra in args.model.parent.glob(args.model.name + ".onnx*"):
        extra.unlink()


if __name__ == "__main__":
    main()
