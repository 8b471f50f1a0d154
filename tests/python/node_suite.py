#!/usr/bin/env python3
"""Judges a converter on the ONNX backend node suite: thousands of one-operator models.

    python tests/python/node_suite.py --mezzo target/release/mezzo [--io half] [--policy pure] [--judge reference]
                                      [--json report.json] [--only TEXT]

Eligible: a float32 graph input, and the FP32 run (ONNX Runtime CPU, or `--judge reference`) matches the suite's outputs.
Strict: it converts, passes the full checker, loads in ONNX Runtime and matches the FP32 run within FP16 tolerance. Where the
inputs are half (`--io half`), the FP32 run reads the same numbers: the inputs rounded to half.
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
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from isolation import Broken, isolated_map
from mezzo_cli import Mezzo
from node_cases import mismatch, node_cases
from node_runs import RUNS, for_model, rounded, widened
from node_types import allows_half, consumes_half

STAGES = ("convert", "check", "load and run", "compare")
# ONNX Runtime's FFT rounds more than the suite's 1e-7 allows where the exact result is zero.
FP32_ATOL = 1e-3


@dataclass(frozen=True)
class Settings:
    """What is judged, and by whom."""

    converter: str
    io: str = "keep"
    policy: str = "safe"
    judge: str = "runtime"

    def options(self):
        kept = ["--keep-io"] if self.io == "keep" else []
        return kept + (["--policy", self.policy] if self.policy != "safe" else [])


def fp16_tolerance(want):
    largest = np.abs(want[np.isfinite(want)]).max(initial=0)
    return 1e-3 + 1e-2 * np.abs(want) + 1e-3 * largest


def copy(source, target):
    """The identity converter: it proves the harness. Every case must come out strict, hardly any really FP16."""
    shutil.copyfile(source, target)


@functools.cache
def converter(settings):
    """`identity`, `python:MODULE:FUNCTION` (called with two paths, raises on failure), or the path of a mezzo command."""
    name = settings.converter
    if name == "identity":
        return copy
    if name.startswith("python:"):
        _, module, function = name.split(":")
        return getattr(import_module(module), function)
    return lambda source, target: Mezzo(name).convert(source, target, *settings.options())


def first_mismatch(got, want, allowed):
    for name, value in want.items():
        difference = mismatch(got[name], value, allowed)
        if difference:
            return f"{name}: {difference}"
    return None


def reference(case, settings):
    """The FP32 outputs, or why the case is not eligible."""
    run = RUNS[settings.judge]
    try:
        got = run(case.path, case.inputs)
        difference = first_mismatch(got, case.expected, lambda x: FP32_ATOL + case.rtol * np.abs(x))
        if difference:
            return f"gives other values in FP32: {difference}"
        return got if settings.io == "keep" else run(case.path, rounded(case.inputs))
    except Exception as error:  # no kernel, a type that numpy lacks: their exceptions have no common base
        return f"does not run in FP32: {text_of(error)}"


def text_of(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def judge(task, settings):
    """The stage at which the case fails with its cause, or (None, consumes FP16)."""
    case, wanted = task
    target = case.path.with_suffix(".half.onnx")
    stage = iter(STAGES)
    try:
        current = next(stage)
        converter(settings)(case.path, target)
        current = next(stage)
        onnx.checker.check_model(str(target), full_check=True)
        current = next(stage)
        got = widened(RUNS[settings.judge](target, for_model(target, case.inputs)))
    except Exception as error:
        return current, text_of(error)
    difference = first_mismatch(got, widened(wanted), fp16_tolerance)
    return ("compare", difference) if difference else (None, consumes_half(onnx.load(target)))


def judge_all(cases, settings, workers):
    """Rows {case, stage, cause, allows_half, half} for the eligible cases, and why the others are not."""
    references = isolated_map(functools.partial(reference, settings=settings), cases, workers)
    references = [wanted.reason if isinstance(wanted, Broken) else wanted for wanted in references]
    left_out = {case.name: wanted for case, wanted in zip(cases, references) if isinstance(wanted, str)}
    tasks = [(case, wanted) for case, wanted in zip(cases, references) if isinstance(wanted, dict)]
    results = isolated_map(functools.partial(judge, settings=settings), tasks, workers)
    rows = []
    for (case, _), result in zip(tasks, results):
        stage, detail = ("crash or hang", result.reason) if isinstance(result, Broken) else result
        rows.append({"case": case.name, "stage": stage, "cause": detail if stage else None,
                     "allows_half": allows_half(onnx.load(case.path)), "half": stage is None and detail})
    return rows, left_out


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


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mezzo", "--converter", dest="converter", default="mezzo",
                        help="a mezzo command, `identity`, or `python:MODULE:FUNCTION`")
    parser.add_argument("--io", choices=["keep", "half"], default="keep", help="graph inputs and outputs: kept FP32, or half")
    parser.add_argument("--policy", choices=["safe", "pure"], default="safe", help="the conversion's policy")
    parser.add_argument("--judge", choices=sorted(RUNS), default="runtime", help="what runs the models")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose name contains this; all must be strict")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts and one row for each case")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--min-strict", type=int, default=1232)
    parser.add_argument("--min-half", type=int, default=1166)
    parser.add_argument("--max-wrong", type=int, default=0)
    return parser.parse_args()


def main():
    arguments = parse()
    settings = Settings(arguments.converter, arguments.io, arguments.policy, arguments.judge)
    with tempfile.TemporaryDirectory() as folder:
        rows, left_out = judge_all(node_cases(Path(folder), arguments.only), settings, arguments.workers)
    counts = summary(rows)
    print_failures(rows)
    print("\n{eligible} eligible, {strict} strict, {wrong} wrong; {allow_half} allow FP16, {really_half} really FP16"
          .format(**counts))
    if arguments.json:
        versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__}
        report = {"versions": versions, "settings": vars(settings), "counts": counts, "cases": rows, "left_out": left_out}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    if arguments.only:
        return 0 if 0 < counts["eligible"] == counts["strict"] else 1
    reached = counts["strict"] >= arguments.min_strict and counts["really_half"] >= arguments.min_half
    return 0 if reached and counts["wrong"] <= arguments.max_wrong else 1


if __name__ == "__main__":
    sys.exit(main())
