#!/usr/bin/env python3
"""Runs the ONNX backend node suite on the CPU backend and counts: pass, wrong, unsupported, error, crash.

    cargo build --example run_cases
    python tests/python/cpu_node_suite.py target/debug/examples/run_cases [--filter SUBSTRING] [--json FILE]

A case is wrong if it gives outputs beyond the suite's tolerances without an error; outputs of half types within two steps
of the expected ones are counted as `half`. Exit code 0 if none is wrong or crashes.
"""

import argparse
import json
import tempfile
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests

from cpu_runner import Crashed, Runner, input_names
from node_cases import mismatch, plain

# Cases outside the count, with the reason.
OUTSIDE = {
    "training": ("training", "train_", "dropout_with_training", "_adagrad", "_adam", "_momentum", "_nesterov"),
    "random output": ("test_bernoulli",),
    "image files": ("test_image_decoder",),
}


def cases(name_contains):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        suite = load_model_tests(kind="node")
    for case in suite:
        if name_contains in case.name:
            yield case


def outside(name):
    return next((why for why, parts in OUTSIDE.items() if any(p in name for p in parts)), None)


def judge(runner, case, path):
    (inputs, outputs), = case.data_sets
    onnx.save(case.model, path)
    given = dict(zip(input_names(case.model), inputs))
    try:
        got, answer = runner.run(path, given)
    except Crashed as e:
        return "crash", f"the process ended with {e}"
    if got is None:
        code, message = answer
        if code == "Panic":
            return "crash", "a panic"
        return ("unsupported" if code == "Unsupported" else "error"), f"{code}: {message}"
    verdict, message = "pass", ""
    for info, want in zip(case.model.graph.output, outputs):
        have, want = comparable(got[info.name]), comparable(plain(want))
        noise = cancelled(case.model, want)
        why = difference(have, want, lambda w: case.atol + noise + case.rtol * np.abs(np.nan_to_num(w)))
        if why:
            verdict, message = "wrong", f"{info.name}: {why}"
            eps = HALF_STEP.get(getattr(plain(outputs[0]), "dtype", None) and plain(outputs[0]).dtype.name)
            if eps and not difference(have, want, lambda w: 2 * eps * np.abs(np.nan_to_num(w)) + case.atol):
                return "half", message
            break
    return verdict, message


def cancelled(model, want):
    """The suite's Fourier transforms were computed in FP32: where large terms cancel, an expected 0 is rounding noise, up to
    half a step of the largest value."""
    transforms = any(node.op_type in ("DFT", "STFT") for node in model.graph.node)
    return 2.0**-24 * float(np.max(np.abs(want), initial=0)) if transforms and isinstance(want, np.ndarray) else 0.0


# Spacing of half types relative to a value. Reference outputs for these types are rounded to half inside an operator too
# (NumPy's softmax in FP16, say), so the last two places differ from an evaluation that rounds once.
HALF_STEP = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def comparable(value):
    """Types that NumPy does not know are compared as float32."""
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, np.ndarray) and (value.dtype.kind == "V" or value.dtype.name.startswith("float8")):
        return value.astype(np.float32)
    return value


def difference(got, want, allowed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return mismatch(got, want, allowed)
        except (TypeError, ValueError) as e:
            return f"cannot be compared: {e}"


KINDS = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "bfloat16": "BF16", "object": "strings", "bool": "bool"}
SMALL = ("float8", "float6", "float4", "int4", "uint4", "int2", "uint2")


def groups(model):
    """Kinds of types of the model's inputs and outputs; a case counts in each of its groups."""
    found = set()
    for info in [*model.graph.input, *model.graph.output]:
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            found.add("sequences, optionals, maps")
            continue
        name = onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type).lower()
        name = {"float": "float32", "double": "float64", "string": "object"}.get(name, name)
        small = name.startswith(SMALL)
        found.add("below a byte, and 8-bit floats" if small else KINDS.get(name, "integers" if "int" in name else name))
    return found


def print_groups(tally):
    for group, counts in sorted(tally.items()):
        print(f"  {group:32} {counts['pass']:5} of {sum(counts.values())}")


# What runtimes commonly leave out; the rest is what they are compared on.
UNCOMMON = {"sequences, optionals, maps", "strings", "below a byte, and 8-bit floats"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--filter", default="")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", nargs="*", default=["wrong", "half", "crash"], help="verdicts to list")
    parser.add_argument("--min-share", type=float, default=0.0, help="share of the cases that must pass, 0 to 1")
    arguments = parser.parse_args()
    counts, verdicts, tally = Counter(), {}, defaultdict(Counter)
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(arguments.program, Path(folder) / "values")
        for case in cases(arguments.filter):
            why = outside(case.name)
            verdict, message = ("outside", why) if why else judge(runner, case, Path(folder) / "model.onnx")
            counts[verdict] += 1
            verdicts[case.name] = (verdict, message)
            if not why:
                found = groups(case.model)
                for group in found | ({"all but those three"} if not found & UNCOMMON else set()):
                    tally[group][verdict] += 1
            if verdict in arguments.show:
                print(f"{verdict:12} {case.name}: {message}")
    if arguments.json:
        arguments.json.write_text(json.dumps(verdicts, indent=1))
    counted = sum(n for verdict, n in counts.items() if verdict != "outside")
    print(", ".join(f"{verdict} {n}" for verdict, n in counts.most_common()),
          f"- {100 * counts['pass'] / max(counted, 1):.1f}% of {counted}")
    print_groups(tally)
    too_few = counts["pass"] < arguments.min_share * counted
    if too_few:
        print(f"fewer than {arguments.min_share:.1%} pass")
    raise SystemExit(1 if counts["wrong"] or counts["crash"] or too_few else 0)


if __name__ == "__main__":
    main()
