#!/usr/bin/env python3
"""Judges the opset upgrade on models in old forms (old_forms.py) and on the ONNX backend suites.

    python tests/python/upgrade_suite.py [--filter SUBSTRING] [--to VERSION ...] [--verbose] [--lowered] -- PROGRAM
    python tests/python/upgrade_suite.py --models FILE ... -- PROGRAM

PROGRAM is the example `upgrade`, or a command that runs it. Every model is brought to version 22 and to the newest that ONNX Runtime runs; the result
must pass ONNX's full checker where the old one does, and give the same outputs in ONNX Runtime (or, where that has no
kernel, in ONNX's reference evaluator) as the old one. onnx.version_converter's result is compared too, where it gives one.
Exit code 0 if nothing differs, fails or is invalid.
"""

import argparse
import collections
import itertools
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

from node_cases import mismatch, plain
from old_forms import old_forms

RANDOM = ("bernoulli", "training", "random", "multinomial", "dropout_with")
BAD = ("invalid", "different", "new one fails", "refused")
# What has no form in newer versions; refusing it is right.
REFUSALS = ("has lengths for the sequences", "which a node can give from version 12 on")
LOWERED = (7, 10, 12, 17)
# ONNX Runtime's kernel and the function it uses for a newer version differ: masked scores are the lowest number or minus
# infinity. Only the reference is asked.
REFERENCE_ONLY = ("_qk_matmul_bias_3d_mask_causal", "_qk_matmul_bias_4d_mask_causal")


def newest_that_runs():
    for version in range(onnx.defs.onnx_opset_version(), 7, -1):
        info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", info[:1], info[1:])
        try:
            session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)],
                                      ir_version=helper.OP_SET_ID_VERSION_MAP["ai.onnx", version]))
            return version
        except Exception:
            continue
    sys.exit("ONNX Runtime runs nothing")


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # As it stands: what ONNX Runtime fuses differs from version to version.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def in_runtime(model, feeds):
    return session(model).run(None, feeds)


def in_reference(model, feeds):
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model).run(None, feeds)


def valid(model):
    try:
        onnx.checker.check_model(model, full_check=True)
        return None
    except Exception as e:
        return str(e).strip().splitlines()[-1][:300]


def difference(got, want, relative):
    def allowed(values):
        return relative * np.maximum(1, np.abs(np.nan_to_num(values, posinf=0, neginf=0)))
    return next(filter(None, (mismatch(wide(g), wide(w), max_half(allowed, w)) for g, w in zip(got, want, strict=True))), None)


def max_half(allowed, want):
    """Halves may differ in their last places: kernels and functions round at different places."""
    half = isinstance(want, np.ndarray) and want.dtype == np.float16
    return (lambda values: 1000 * allowed(values)) if half else allowed


def wide(value):
    """Types that NumPy does not know as floats are compared as float32."""
    if isinstance(value, list):
        return [wide(item) for item in value]
    known = value is None or np.asarray(value).dtype.kind != "V" and np.asarray(value).dtype.isbuiltin == 1
    return value if known or np.asarray(value).dtype.kind in "OUS" else np.asarray(value).astype(np.float32)


class Expected:
    """What an old model gives, by evaluator; made when first asked for."""

    def __init__(self, model, feeds):
        self.model, self.feeds, self.known = model, feeds, {}

    def by(self, evaluator):
        if evaluator not in self.known:
            try:
                self.known[evaluator] = evaluator(self.model, self.feeds)
            except Exception:
                self.known[evaluator] = None
        return self.known[evaluator]


def compare(model, expected, evaluators):
    """`same`, `same in the reference`, `different`, `new one fails`, or `not run`, with a text."""
    failure, wanted = None, []
    for evaluator in evaluators:
        good = "same" if evaluator is in_runtime else "same in the reference"
        # The reference knows few old forms; what ONNX Runtime makes of the old model counts first.
        wanted += [want for want in [expected.by(evaluator)] if want is not None]
        if not wanted:
            continue
        try:
            got = evaluator(model, expected.feeds)
        except Exception as e:
            text = str(e).strip().splitlines()[-1][:300]
            missing = "NOT_IMPLEMENTED" in str(e) or evaluator is in_reference
            failure = failure or (("no kernel", text) if missing else ("new one fails", text))
            continue
        reasons = [difference(got, want, 1e-6 if evaluator is in_runtime else 1e-5) for want in wanted]
        return (good, "") if None in reasons else ("different", reasons[0])
    return failure or ("not run", "")


def state_shapes(model, expected):
    """Outputs must have shapes in a valid model; the old forms leave them to what comes out."""
    for i, info in enumerate(model.graph.output):
        want = expected.by(in_runtime) or expected.by(in_reference)
        if want and info.type.HasField("tensor_type") and not info.type.tensor_type.HasField("shape"):
            info.CopyFrom(helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, want[i].shape))


def converted(model, version):
    try:
        return onnx.version_converter.convert_version(model, version)
    except Exception:
        return None


def suite():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite divides by zero on purpose
        cases = load_model_tests(kind="node")
    for case in cases:
        (inputs, _), = case.data_sets
        yield case.name, case.model, feeds_of(case.model, inputs)


def stored():
    """The backend suite's stored models, of old versions; those of version 6 count as 7 where they are valid so."""
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for case in load_model_tests(kind=kind):
            folder = case.model_dir and Path(case.model_dir)
            model = onnx.load(folder / "model.onnx") if folder else case.model
            inputs = case.data_sets[0][0] if not folder else [
                onnx.load_tensor(folder / "test_data_set_0" / f"input_{i}.pb")
                for i in range(len(list((folder / "test_data_set_0").glob("input_*.pb"))))]
            for opset in model.opset_import:
                opset.version = opset.version if opset.domain else max(opset.version, 7)
            if not valid(model):
                yield f"{kind} {case.name}", model, feeds_of(model, inputs)


def feeds_of(model, inputs):
    constants = {t.name for t in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in constants]
    return {n: plain(v) for n, v in zip(names, inputs)}


def lowered():
    """The node suite's models as onnx.version_converter brings them down, where they then give the same."""
    for name, model, feeds in suite():
        own = max((o.version for o in model.opset_import if not o.domain), default=0)
        expected = Expected(model, feeds)
        if name.endswith("_expanded") or any(part in name for part in RANDOM):
            continue
        for version in (v for v in LOWERED if v < own):
            low = converted(model, version)
            if low is not None and not valid(low) and compare(low, expected, [in_runtime])[0] == "same":
                yield f"{name} as of {version}", low, feeds


def files(paths):
    """Models from files, with inputs made up until ONNX Runtime takes them."""
    for path in paths:
        model = onnx.load(path)
        constants = {t.name for t in model.graph.initializer}
        infos = [i for i in model.graph.input if i.name not in constants]
        for size, whole in itertools.product((1, 2, 64, 512, 32, 48), (16000, 1)):
            feeds = {i.name: made_up(i.type.tensor_type, size, whole, seed) for seed, i in enumerate(infos)}
            try:
                in_runtime(model, feeds)
                break
            except Exception:
                continue
        yield f"{path.parent.name}/{path.name}", model, feeds


def made_up(tensor, size, whole, seed):
    dims = [d.dim_value if d.dim_value > 0 else size for d in tensor.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    if np.issubdtype(dtype, np.floating):
        return np.random.default_rng(seed).normal(size=dims).astype(dtype)
    return np.full(dims, whole, dtype)


def upgraded(program, jobs):
    text = "".join(f"{a}\t{b}\t{v}\n" for a, b, v in jobs)
    process = subprocess.run(program, input=text, capture_output=True, text=True, check=False)
    lines = process.stdout.splitlines()
    if process.returncode or len(lines) != len(jobs):
        sys.exit(f"the program ended with {process.returncode} after {len(lines)} of {len(jobs)}:\n{process.stderr[-2000:]}")
    return lines


def judge(program, models, versions, folder):
    """Yields name, version, verdict and text of every model."""
    jobs, about = [], []
    for i, (name, model, feeds) in enumerate(models):
        own = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
        source = folder / f"{i}.onnx"
        expected, sound = Expected(model, feeds), []
        state_shapes(model, expected)
        source.write_bytes(model.SerializeToString())
        for version in versions:
            if own is None or own >= version:
                yield name, version, "already newer", ""
            elif own < 7:
                yield name, version, "older than 7", ""
            else:
                jobs.append((source, folder / f"{i}-{version}.onnx", version))
                about.append((name, model, expected, sound))
    for (_, path, version), (name, model, expected, sound), answer in zip(jobs, about, upgraded(program, jobs)):
        if answer != "ok":
            yield name, version, "refused as it should" if any(r in answer for r in REFUSALS) else "refused", answer
            continue
        new = onnx.load(path)
        fault = valid(new)
        if not sound:
            sound.append(valid(model))
        if fault and not sound[0]:
            yield name, version, "invalid", fault
            continue
        yield name, version, "valid" if not fault else "invalid like the old one", fault
        if any(part in name for part in RANDOM):
            yield name, version, "random or training", ""
            continue
        evaluators = [in_reference] if name.endswith(REFERENCE_ONLY) else [in_runtime, in_reference]
        verdict, text = compare(new, expected, evaluators)
        yield name, version, verdict, text
        other = converted(model, version)
        if other is not None and verdict.startswith("same"):
            verdict, text = compare(other, expected, evaluators)
            yield name, version, f"onnx.version_converter: {verdict}", text


def main():
    onnxruntime.set_default_logger_severity(4)  # it warns of each old attribute while a model loads
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", nargs="+")
    parser.add_argument("--filter", default="")
    parser.add_argument("--to", type=int, nargs="*")
    parser.add_argument("--lowered", action="store_true", help="also the node suite brought down to older versions")
    parser.add_argument("--models", type=Path, nargs="*", help="judge these instead")
    parser.add_argument("--verbose", action="store_true", help="also list what is neither good nor bad")
    options = parser.parse_args()
    versions = options.to or sorted({22, newest_that_runs()})
    bad = False
    sets = [("old forms", old_forms()), ("stored models", stored()), ("node suite", suite())]
    sets += [("lowered node suite", lowered())] if options.lowered else []
    for title, models in [("files", files(options.models))] if options.models else sets:
        counts = collections.Counter()
        models = [m for m in models if options.filter in m[0]]
        with tempfile.TemporaryDirectory() as folder:
            for name, version, verdict, text in judge(options.program, models, versions, Path(folder)):
                counts[version, verdict] += 1
                bad |= verdict in BAD
                if verdict in BAD or options.verbose and text:
                    print(f"{title}, {name} to {version}: {verdict}: {text}")
        for version in versions:
            parts = sorted((what, n) for (v, what), n in counts.items() if v == version)
            print(f"{title}: {len(models)} models to version {version}:", ", ".join(f"{n} {what}" for what, n in parts))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
