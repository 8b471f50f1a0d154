#!/usr/bin/env python3
"""Latency of Mezzo's CPU backend beside ONNX Runtime: the same model file, the same threads, taking turns in one run.

    python benches/latency.py [--mezzo target/release/mezzo] [--threads 1] [--rounds 5] MODEL.onnx...

Prints, per model, the median over the rounds of each round's median latency, the spread (smallest to largest round), and
the ratios that matter: Mezzo FP32 / ONNX Runtime FP32, and Mezzo FP16 / Mezzo FP32. Taking turns lets a noisy machine hurt
all alike. Needs onnx, onnxruntime and numpy (tests/python/requirements.txt), and a mezzo command built with --release.

Dynamic dimensions are given by --input-shape NAME=1x128, otherwise 1.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime


# How long a round of executions takes at least.
ROUND_MS = 300


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--mezzo", default="target/release/mezzo")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--input-shape", action="append", default=[], metavar="NAME=1x128")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def shapes_of(session, given):
    chosen = dict(item.split("=", 1) for item in given)
    result = {}
    for value in session.get_inputs():
        if value.name in chosen:
            result[value.name] = [int(size) for size in chosen[value.name].split("x")]
        else:
            result[value.name] = [size if isinstance(size, int) else 1 for size in value.shape]
    return result


def make_inputs(session, shapes):
    generator = np.random.default_rng(1)
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
    inputs = {}
    for value in session.get_inputs():
        shape = shapes[value.name]
        if value.type in kinds:
            inputs[value.name] = generator.uniform(-1, 1, shape).astype(kinds[value.type])
        else:
            inputs[value.name] = generator.integers(0, 2, shape).astype(
                np.bool_ if value.type == "tensor(bool)" else value.type[len("tensor("):-1]
            )
    return inputs


def open_session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def time_onnxruntime(session, inputs, iterations, warmup=2):
    for _ in range(warmup):
        session.run(None, inputs)
    times = []
    for _ in range(iterations):
        start = time.perf_counter()
        session.run(None, inputs)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def time_mezzo(arguments, path, shapes, iterations, warmup):
    command = [arguments.mezzo, "bench", str(path), "--json", "--threads", str(arguments.threads)]
    command += ["--iterations", str(iterations), "--warmup", str(warmup)]
    for name, shape in shapes.items():
        command += ["--input-shape", f"{name}={'x'.join(map(str, shape))}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"latency.py: {' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)["latency_ms"]["p50"]


def measure(arguments, path, work):
    session = open_session(path, arguments.threads)
    shapes = shapes_of(session, arguments.input_shape)
    inputs = make_inputs(session, shapes)
    half = work / "half.onnx"
    subprocess.run([arguments.mezzo, "convert", str(path), str(half)], check=True, stdout=subprocess.DEVNULL)
    # A round of a small model takes ROUND_MS too, and both are warm then: a few executions of less than a millisecond each
    # say more of a process that has just started, and of whatever else the machine did just then.
    runs = max(arguments.iterations, math.ceil(ROUND_MS / time_onnxruntime(session, inputs, 5)))
    warmup = max(2, runs // 4)
    runners = {
        "onnxruntime fp32": lambda: time_onnxruntime(session, inputs, runs, warmup),
        "mezzo fp32": lambda: time_mezzo(arguments, path, shapes, runs, warmup),
        "mezzo fp16": lambda: time_mezzo(arguments, half, shapes, runs, warmup),
    }
    rounds = {name: [] for name in runners}
    for _ in range(arguments.rounds):
        for name, run in runners.items():
            rounds[name].append(run())
    return {
        name: {"median_ms": statistics.median(values), "min_ms": min(values), "max_ms": max(values)}
        for name, values in rounds.items()
    }


def main():
    arguments = parse_arguments()
    results = {}
    with tempfile.TemporaryDirectory() as work:
        for path in arguments.models:
            row = measure(arguments, path, Path(work))
            row["fp32 / onnxruntime"] = row["mezzo fp32"]["median_ms"] / row["onnxruntime fp32"]["median_ms"]
            row["fp16 / fp32"] = row["mezzo fp16"]["median_ms"] / row["mezzo fp32"]["median_ms"]
            results[path.stem] = row
    if arguments.json:
        print(json.dumps({"onnxruntime": onnxruntime.__version__, "threads": arguments.threads, "models": results}, indent=1))
        return
    print(f"onnxruntime {onnxruntime.__version__}, {arguments.threads} thread(s), median of {arguments.rounds} rounds [min, max], ms")
    print(f"{'model':<18} {'onnxruntime fp32':>24} {'mezzo fp32':>24} {'mezzo fp16':>24} {'fp32/ort':>9} {'fp16/fp32':>9}")
    for name, row in results.items():
        cells = [
            f"{row[k]['median_ms']:9.3f} [{row[k]['min_ms']:.2f}, {row[k]['max_ms']:.2f}]".rjust(24)
            for k in ("onnxruntime fp32", "mezzo fp32", "mezzo fp16")
        ]
        print(f"{name:<18} {' '.join(cells)} {row['fp32 / onnxruntime']:>9.2f} {row['fp16 / fp32']:>9.2f}")


if __name__ == "__main__":
    main()
