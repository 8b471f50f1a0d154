#!/usr/bin/env python3
"""Judges a converter on the ONNX backend node suite: thousands of one-operator models with FP32 I/O kept.

    python tests/python/node_suite.py --mezzo target/release/mezzo [--json report.json] [--only TEXT]

Eligible: a float32 graph input, and the FP32 run in ONNX Runtime CPU matches the suite's outputs.
Strict: it converts, passes the full checker, loads in ONNX Runtime and matches the FP32 run within FP16 tolerance.
Really FP16: strict, and a node other than Cast consumes FP16; counted among the cases with an operator that allows FP16.
Wrong: it converts, is valid and runs, but gives other values. That is worse than an error, so it is counted by itself.
"""

import argparse
import functools
import json
import re
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from isolation import Broken, isolated_map
from mezzo_cli import Mezzo
from node_cases import mismatch, node_cases, run
from node_types import allows_half, consumes_half

STAGES = ("convert", "check", "load and run", "compare")
# ONNX Runtime's FFT rounds more than the suite's 1e-7 allows where the exact result is zero.
FP32_ATOL = 1e-3


def fp16_tolerance(want):
    largest = np.abs(want[np.isfinite(want)]).max(initial=0)
    return 1e-3 + 1e-2 * np.abs(want) + 1e-3 * largest


def copy(source, target):
    """The identity converter: it proves the harness. Every case must come out strict, hardly any really FP16."""
    shutil.copyfile(source, target)


@functools.cache
def converter(name):
    """`identity`, `python:MODULE:FUNCTION` (called with two paths, raises on failure), or the path of a mezzo command."""
    if name == "identity":
        return copy
    if name.startswith("python:"):
        _, module, function = name.split(":")
        return getattr(import_module(module), function)
    return lambda source, target: Mezzo(name).convert(source, target, "--keep-io")


def first_mismatch(got, want, allowed):
    for name, value in want.items():
        difference = mismatch(got[name], value, allowed)
        if difference:
            return f"{name}: {difference}"
    return None


def reference(case):
    """The FP32 outputs of ONNX Runtime, or None if the case is not eligible."""
    try:
        got = run(case.path, case.inputs)
    except Exception:  # no kernel, a type that numpy lacks: their exceptions have no common base
        return None
    return None if first_mismatch(got, case.expected, lambda x: FP32_ATOL + case.rtol * np.abs(x)) else got


def judge(task, converter_name):
    """The stage at which the case fails with its cause, or (None, consumes FP16)."""
    case, wanted = task
    target = case.path.with_suffix(".half.onnx")
    stage = iter(STAGES)
    try:
        current = next(stage)
        converter(converter_name)(case.path, target)
        current = next(stage)
        onnx.checker.check_model(str(target), full_check=True)
        current = next(stage)
        got = run(target, case.inputs)
    except Exception as error:
        return current, f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    difference = first_mismatch(got, wanted, fp16_tolerance)
    return ("compare", difference) if difference else (None, consumes_half(onnx.load(target)))


def judge_all(cases, name, workers):
    """Rows {case, stage, cause, allows_half, half} for the eligible cases."""
    references = isolated_map(reference, cases, workers)
    tasks = [(case, wanted) for case, wanted in zip(cases, references) if isinstance(wanted, dict)]
    results = isolated_map(functools.partial(judge, converter_name=name), tasks, workers)
    rows = []
    for (case, _), result in zip(tasks, results):
        stage, detail = ("crash or hang", result.reason) if isinstance(result, Broken) else result
        rows.append({"case": case.name, "stage": stage, "cause": detail if stage else None,
                     "allows_half": allows_half(onnx.load(case.path)), "half": stage is None and detail})
    return rows


def summary(rows):
    return {
        "eligible": len(rows),
        "strict": sum(row["stage"] is None for row in rows),
        "allow_half": sum(row["allows_half"] for row in rows),
        "really_half": sum(row["half"] and row["allows_half"] for row in rows),
        "wrong": sum(row["stage"] == "compare" for row in rows),
    }


def gist(cause):
    """The start of a message without the tags that every message of its kind begins with."""
    return " ".join(re.sub(r"\[\w+\]|\w+(Error|Exception):|Inference error\(s\):", "", cause).split())[:50]


def print_failures(rows):
    """Grouped by stage, then by the start of the message, the largest group first."""
    groups = {}
    for row in rows:
        if row["stage"]:
            groups.setdefault((row["stage"], gist(row["cause"])), []).append(row)
    for (stage, start), group in sorted(groups.items(), key=lambda item: -len(item[1])):
        print(f"\n{stage}: {len(group)} x {start}")
        for row in group:
            print(f"    {row['case']}: {row['cause'][:200]}")
    left = [row["case"] for row in rows if not row["stage"] and row["allows_half"] and not row["half"]]
    if left:
        print(f"\nstrict, but nothing runs in FP16: {len(left)}")
        print("    " + "\n    ".join(left))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mezzo", "--converter", dest="converter", default="mezzo",
                        help="a mezzo command, `identity`, or `python:MODULE:FUNCTION`")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose name contains this; all must be strict")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts and one row for each case")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--min-strict", type=int, default=1232)
    parser.add_argument("--min-half", type=int, default=1190)
    parser.add_argument("--max-wrong", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = judge_all(node_cases(Path(folder), arguments.only), arguments.converter, arguments.workers)
    counts = summary(rows)
    print_failures(rows)
    print("\n{eligible} eligible, {strict} strict, {wrong} wrong; {allow_half} allow FP16, {really_half} really FP16"
          .format(**counts))
    if arguments.json:
        versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__}
        arguments.json.write_text(json.dumps({"versions": versions, "counts": counts, "cases": rows}, indent=1) + "\n")
    if arguments.only:
        return 0 if 0 < counts["eligible"] == counts["strict"] else 1
    reached = counts["strict"] >= arguments.min_strict and counts["really_half"] >= arguments.min_half
    return 0 if reached and counts["wrong"] <= arguments.max_wrong else 1


if __name__ == "__main__":
    sys.exit(main())
