#!/usr/bin/env python3
"""Judges the conversion of whole models (tools/make_zoo.py writes them): both I/O forms, both policies.

    python tests/python/zoo_judge.py --mezzo target/release/mezzo --zoo build/zoo [--only NAME ...] [--reference NAME ...]

Each conversion passes the full checker and loads in ONNX Runtime; all weights but the ones of FP32 nodes are half; a second
conversion changes no byte. Under `safe` the outputs are within 2e-2 of the FP32 outputs' maximum (`pure`: finite or not is
said). The CPU backend runs the FP32 model (1e-4) and the converted one (2e-2). --reference: ONNX's own evaluator, in real
halves, runs the converted model too (minutes for a large one). A detector's rows may come in another number where scores
are nearly equal: its dense scores are compared, and how many of the boxes are the same is said.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from judge import FP16_TOLERANCE, FP32_TOLERANCE, as_half, difference, expect_io_types, run_onnxruntime
from mezzo_cli import Mezzo, file_stem
from onnx_facts import all_nodes, half_share
from verdicts import Verdicts, expect

CHOSEN_BY_SCORES = {"detector": ("boxes", "best")}


def compare(name, got, want, tolerance):
    chosen = CHOSEN_BY_SCORES.get(name, ())
    stems = {file_stem(n): n for n in want}
    got = {stems.get(n, n): v for n, v in got.items()}
    worst = difference({n: v for n, v in got.items() if n not in chosen}, {n: v for n, v in want.items() if n not in chosen})
    text = f"off by {worst:.1e}"
    if chosen:
        boxes, before = (np.asarray(r["boxes"], np.float64) for r in (got, want))
        near = [(np.abs(boxes - box).max(axis=1) < 1.0).any() for box in before]
        text += f", {sum(near)} of {len(before)} boxes the same within a pixel, {len(boxes)} found"
        expect(sum(near) >= 0.9 * len(before), f"only {sum(near)} of {len(before)} boxes are found again")
    expect(tolerance is None or worst <= tolerance, f"{text}, at most {tolerance:.0e} is allowed")
    return text


def check_conversion(name, path, mezzo, work, inputs, want, kept, policy):
    target, again = work / f"{policy}-{kept}.onnx", work / "again.onnx"
    options = ["--policy", policy, *(["--keep-io"] if kept else [])]
    mezzo.convert(path, target, *options)
    mezzo.convert(target, again, *options)
    expect(target.read_bytes() == again.read_bytes(), "a second conversion changes it")
    onnx.checker.check_model(str(target), full_check=True)
    model, original = onnx.load(target), onnx.load(path)
    expect_io_types(model, original, kept)
    casts = sum(n.op_type == "Cast" for n in all_nodes(model)) - sum(n.op_type == "Cast" for n in all_nodes(original))
    size = target.stat().st_size / path.stat().st_size
    facts = f"half {half_share(model):.0%}, {casts:+} casts, {size:.2f} of the size"
    got = run_onnxruntime(target, inputs if kept else as_half(inputs))
    if policy == "pure":
        finite = all(np.isfinite(v).all() for v in got.values() if v.dtype.kind == "f")
        return f"{facts}, {'finite' if finite else 'NOT finite'}"
    return f"{facts}, {compare(name, got, want, FP16_TOLERANCE)}"


def check_run(name, path, mezzo, work, inputs, want, tolerance):
    return compare(name, mezzo.run(path, inputs, work / "run"), want, tolerance)


def check_reference(name, path, inputs, want):
    evaluator = ReferenceEvaluator(str(path))
    names = [o.name for o in onnx.load(path).graph.output]
    return compare(name, dict(zip(names, evaluator.run(None, inputs))), want, FP16_TOLERANCE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mezzo", default="target/release/mezzo")
    parser.add_argument("--zoo", type=Path, default=Path("build/zoo"))
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--reference", nargs="+", metavar="NAME", default=[])
    arguments = parser.parse_args()
    mezzo, verdicts = Mezzo(arguments.mezzo), Verdicts()
    for path in sorted(arguments.zoo.glob("*.onnx")):
        name = path.stem
        if arguments.only and name not in arguments.only:
            continue
        inputs = dict(np.load(path.with_suffix(".npz")))
        want = run_onnxruntime(path, inputs)
        expect(all(np.ptp(v) > 0 for v in want.values()), f"{name}: an output is constant, so any tolerance would pass")
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch)
            for policy in ("safe", "pure"):
                for kept in (True, False):
                    what = f"{policy}{' --keep-io' if kept else ''}"
                    verdicts.judge(name, what, check_conversion, name, path, mezzo, work, inputs, want, kept, policy)
            half = work / "safe-True.onnx"
            verdicts.judge(name, "run fp32", check_run, name, path, mezzo, work, inputs, want, FP32_TOLERANCE)
            verdicts.judge(name, "run fp16", check_run, name, half, mezzo, work, inputs, want, FP16_TOLERANCE)
            if name in arguments.reference:
                verdicts.judge(name, "onnx.reference", check_reference, name, half, inputs, want)
    return verdicts.close()


if __name__ == "__main__":
    sys.exit(main())
