#!/usr/bin/env python3
"""Judges what models are rewritten into for the ONNX parsers of TensorRT 8.5 and 8.6.

    python tests/python/tensorrt_rewrite.py [--filter SUBSTRING] [--verbose] [--models FILE ...] -- PROGRAM

PROGRAM is the example `tensorrt_rewrite`, or a command that runs it. Every node case of the ONNX backend suite that has an
operator of a local function or of the rewriting's table is rewritten; the result must be of operator set 17 at most, hold
nothing the parser does not know, pass ONNX's full checker, and give the case's outputs in ONNX Runtime or ONNX's reference
evaluator. `--models` compares what models give before and after on random inputs.
Exit code 0 if nothing differs or is invalid.
"""

import argparse
import collections
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests

from node_cases import plain
from upgrade_suite import RANDOM, difference, feeds_of, in_reference, in_runtime, valid, wide

# As in src/backend/tensorrt/rewrite/mod.rs; those of the second list only for 8.5.
TABLE = """Attention AveragePool Cast CastLike DequantizeLinear Gelu GridSample GroupNormalization IsInf LpPool Mish Pad QuantizeLinear
RMSNormalization ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare Resize
ScatterElements ScatterND Shape Split Swish""".split()
ONLY_85 = ["LayerNormalization"]
# Gone from every rewritten model.
UNKNOWN = ["Attention", "CastLike", "Gelu", "GroupNormalization", "IsInf", "Mish", "RMSNormalization", "Swish"]
# Types of inputs and outputs that TensorRT 8 knows, or casts to one it knows.
TYPES = [getattr(onnx.TensorProto, t) for t in "FLOAT FLOAT16 DOUBLE INT8 UINT8 INT32 INT64 BOOL".split()]
# Newer versions count the windows of ceil_mode in another way, which TensorRT does for itself.
OTHER_MEANING = ["test_averagepool_2d_ceil_last_window_starts_on_pad"]
BAD = ("different", "invalid", "newer than 17", "unknown operator", "cannot run")


def operators(nodes):
    for node in nodes:
        yield node.op_type
        for attribute in node.attribute:
            for graph in [attribute.g, *attribute.graphs]:
                yield from operators(graph.node)


def rewritten(program, jobs):
    """(case, source, target, version) -> its line of the answer."""
    lines = "".join(f"{source}\t{target}\t{version}\n" for _, source, target, version in jobs)
    done = subprocess.run(program, input=lines, text=True, capture_output=True, check=True)
    return done.stdout.splitlines()


def judge(original, path, version, feeds, wanted):
    model = onnx.load(path)
    if max(i.version for i in model.opset_import if i.domain in ("", "ai.onnx")) > 17 or model.functions:
        return "newer than 17", ""
    unknown = set(UNKNOWN + (ONLY_85 if version == "8.5" else [])) & set(operators(model.graph.node))
    if unknown:
        return "unknown operator", ", ".join(unknown)
    problem = valid(model)
    if problem:
        return "invalid", problem
    reasons = []
    for run in (in_runtime, in_reference):
        try:
            got = run(model, feeds)
        except Exception as e:
            reasons.append(str(e).strip().splitlines()[-1][:200])
            continue
        reason = difference(got, wanted, 1e-5)
        if reason is None:
            return "same", ""
        # Where the evaluator itself is not what the suite says, it must at least do what it did before.
        try:
            reason = difference(got, [wide(v) for v in run(onnx.load(original), feeds)], 1e-5)
        except Exception:
            pass
        if reason is None:
            return "same as before", ""
        reasons.append(reason)
        if run is in_runtime:
            return "different", reason
    return "cannot run", "; ".join(reasons)


def suite(chosen, folder):
    """Cases of the backend suite: name, model's path, feeds, outputs."""
    for case in load_model_tests(kind="node"):
        model = case.model
        if chosen not in case.name or not set(operators(model.graph.node)) & set(TABLE + ONLY_85):
            continue
        infos = [*model.graph.input, *model.graph.output]
        if not all(v.type.tensor_type.elem_type in TYPES for v in infos) or any(part in case.name for part in RANDOM + tuple(OTHER_MEANING)):
            continue
        (inputs, outputs), = case.data_sets
        path = folder / f"{case.name}.onnx"
        onnx.save(model, path)
        yield case.name, path, feeds_of(model, inputs), [wide(plain(v)) for v in outputs]


def random_feeds(model):
    generator = np.random.default_rng(7)
    feeds = {}
    weights = {i.name for i in model.graph.initializer}
    for value in (v for v in model.graph.input if v.name not in weights):
        tensor = value.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else 2 for d in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        whole = np.issubdtype(dtype, np.integer) or dtype == bool
        feeds[value.name] = (generator.integers(0, 2, shape) if whole else generator.normal(size=shape)).astype(dtype)
    return feeds


def models(paths):
    for path in paths:
        model = onnx.load(path)
        feeds = random_feeds(model)
        yield Path(path).name, Path(path), feeds, [wide(v) for v in in_runtime(model, feeds)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--filter", default="")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("program", nargs="+")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    counts, bad = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        cases = list(models(arguments.models) if arguments.models else suite(arguments.filter, Path(folder)))
        jobs = [((name, feeds, wanted), path, Path(folder) / f"{i}-{version}.onnx", version)
                for i, (name, path, feeds, wanted) in enumerate(cases) for version in ("8.5", "8.6")]
        for ((name, feeds, wanted), source, target, version), answer in zip(jobs, rewritten(arguments.program, jobs), strict=True):
            result = judge(source, target, version, feeds, wanted) if answer == "ok" else ("refused", answer)
            counts[result[0]] += 1
            if result[0] in BAD:
                bad.append(f"{name} for {version}: {result[0]}: {result[1]}")
            if arguments.verbose and result[0] != "same":
                print(f"{name} for {version}: {result[0]}: {result[1]}")
    print("TensorRT 8 rewriting:", ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    if bad and not arguments.verbose:
        print("\n".join(bad))
    sys.exit(bool(bad) or not counts["same"])


main()
