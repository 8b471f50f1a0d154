#!/usr/bin/env python3
"""The CPU backend's table: latency beside ONNX Runtime on one and two threads, FP16 beside FP32 in time and memory, build
time, library size. Both runtimes take turns in one run; medians over the rounds, with the smallest and largest round.

    python benches/cpu_table.py --zoo FOLDER [--fixtures build/fixtures] [--mezzo target/release/mezzo] [--rounds 5]

FOLDER is what tools/make_zoo.py wrote (resnet50, mobilenet_v3_large, efficientnet_b0, vit_b_16, convnext_tiny, unet, lstm);
the fixtures are those of tests/python/make_models.py (resnet18, encoder). Needs what benches/latency.py needs, and a
mezzo command built with --release.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import latency
import onnxruntime

# Model, and the shapes of its dynamic inputs.
FIXTURES = {"resnet18": [], "encoder": ["input_ids=1x64", "attention_mask=1x64"]}
ZOO = ["resnet50", "mobilenet_v3_large", "efficientnet_b0", "vit_b_16", "lstm", "unet", "convnext_tiny"]
# The bounds that the project set itself.
LATENCY, MEAN, HALF_TIME, HALF_BYTES, BUILD_SECONDS = 1.2, 1.0, 1.15, 0.6, 0.5


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--fixtures", type=Path, default=Path("build/fixtures"))
    parser.add_argument("--mezzo", default="target/release/mezzo")
    parser.add_argument("--library", type=Path, help="a libmezzo.so, whose size is printed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", nargs="+", choices=[*FIXTURES, *ZOO], default=[*FIXTURES, *ZOO])
    return parser.parse_args()


def models(arguments):
    for name in arguments.models:
        folder = arguments.fixtures if name in FIXTURES else arguments.zoo
        yield folder / f"{name}.onnx", FIXTURES.get(name, [])


def memory(arguments, path, shapes):
    """Bytes of weights and of activations at their peak."""
    command = [arguments.mezzo, "bench", str(path), "--json", "--threads", "1", "--iterations", "1"]
    for item in shapes:
        command += ["--input-shape", item]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory() as work:
        engine = Path(work) / "engine"
        subprocess.run([arguments.mezzo, "build", str(path), str(engine)], check=True, capture_output=True)
        inspected = subprocess.run([arguments.mezzo, "inspect", str(engine), "--json"], capture_output=True, check=True)
    activations = json.loads(done.stdout)["activation_bytes"]
    return json.loads(inspected.stdout)["weight_bytes"], activations


def cell(row):
    return f"{row['median_ms']:8.2f} [{row['min_ms']:.2f}, {row['max_ms']:.2f}]"


def latencies(arguments, threads):
    options = SimpleNamespace(mezzo=arguments.mezzo, threads=threads, rounds=arguments.rounds,
                              iterations=arguments.iterations, input_shape=[])
    print(f"\n{threads} thread(s), ms: median of {arguments.rounds} rounds [smallest, largest]")
    print(f"{'model':<20}{'onnxruntime fp32':>28}{'mezzo fp32':>28}{'mezzo fp16':>28}{'fp32/ort':>10}{'fp16/fp32':>10}")
    ratios, halves = [], []
    with tempfile.TemporaryDirectory() as work:
        for path, shapes in models(arguments):
            options.input_shape = shapes
            row = latency.measure(options, path, Path(work))
            ort, full, half = (row[k] for k in ("onnxruntime fp32", "mezzo fp32", "mezzo fp16"))
            ratios.append(full["median_ms"] / ort["median_ms"])
            halves.append(half["median_ms"] / full["median_ms"])
            print(f"{path.stem:<20}{cell(ort):>28}{cell(full):>28}{cell(half):>28}{ratios[-1]:>10.2f}{halves[-1]:>10.2f}",
                  flush=True)
    print(f"largest ratio to ONNX Runtime {max(ratios):.2f} (bound {LATENCY}), geometric mean "
          f"{math.exp(statistics.fmean(map(math.log, ratios))):.2f} (bound {MEAN}); largest FP16 to FP32 {max(halves):.2f} "
          f"(bound {HALF_TIME})")


def memories(arguments):
    print(f"\n{'model':<20}{'fp32 weights':>14}{'activations':>13}{'fp16 weights':>14}{'activations':>13}{'ratio':>8}")
    worst = 0
    with tempfile.TemporaryDirectory() as work:
        half = Path(work) / "half.onnx"
        for path, shapes in models(arguments):
            subprocess.run([arguments.mezzo, "convert", str(path), str(half)], check=True, capture_output=True)
            full, small = memory(arguments, path, shapes), memory(arguments, half, shapes)
            ratio = sum(small) / sum(full)
            worst = max(worst, ratio)
            print(f"{path.stem:<20}{full[0]:>14,}{full[1]:>13,}{small[0]:>14,}{small[1]:>13,}{ratio:>8.3f}")
    print(f"largest {worst:.3f} (bound {HALF_BYTES})")


def build_seconds(arguments):
    path = arguments.zoo / "resnet50.onnx"
    command = [arguments.mezzo, "bench", str(path), "--json", "--threads", "1", "--iterations", "1"]
    times = []
    for _ in range(arguments.rounds):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(json.loads(done.stdout)["build_ms"] / 1e3)
    print(f"\nresnet50, load and build from ONNX: {statistics.median(times):.3f} s [{min(times):.3f}, {max(times):.3f}] "
          f"(bound {BUILD_SECONDS})")


def main():
    arguments = parse_arguments()
    missing = [str(path) for path, _ in models(arguments) if not path.exists()]
    if missing:
        sys.exit(f"cpu_table.py: not there: {', '.join(missing)} (see --help for what makes them)")
    print(f"onnxruntime {onnxruntime.__version__}")
    for threads in arguments.threads:
        latencies(arguments, threads)
    memories(arguments)
    build_seconds(arguments)
    if arguments.library:
        print(f"library: {arguments.library.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
