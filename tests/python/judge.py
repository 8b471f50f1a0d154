#!/usr/bin/env python3
"""The outer judge: holds what the `mezzo` command makes of each test model against ONNX's checker and ONNX Runtime.

    python tests/python/judge.py --mezzo target/release/mezzo --fixtures build/fixtures --digits tests/data/digits

For each model: the conversion, with I/O converted and kept, is valid, loads in ONNX Runtime, has the promised I/O types,
stores its weights as half and computes the same within FP16 tolerance. Models in ENGINE also run on Mezzo's own engine.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

from digits import read_digits
from fixtures.inputs import make_inputs
from mezzo_cli import Mezzo, MezzoError, file_stem
from onnx_facts import half_share, io_types, training_nodes
from verdicts import Failure, Skip, Verdicts, expect

FP32_TOLERANCE = 1e-4  # of the output maximum
FP16_TOLERANCE = 2e-2
MINIMUM_HALF_SHARE = 0.9
ENGINE = {"digits", "resnet18", "encoder", "encoder_ln"}
TRAINING = {"training_dropout": "Dropout", "bn_training": "BatchNormalization"}


class Case:
    """One model with its input values and the FP32 outputs that ONNX Runtime gives."""

    def __init__(self, path, work, inputs=None):
        self.path = path
        self.name = path.stem
        self.model = onnx.load(path)
        self.inputs = inputs or make_inputs(self.model)
        self.work = work / self.name
        self.work.mkdir(parents=True, exist_ok=True)
        self.expected = None

    def reference(self):
        if self.expected is None:
            self.expected = run_onnxruntime(self.path, self.inputs)
        return self.expected


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_onnxruntime(path, inputs):
    try:
        loaded = session(path)
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented as error:
        raise Skip(f"ONNX Runtime CPU has no kernel: {str(error).splitlines()[0][:120]}") from None
    names = [output.name for output in loaded.get_outputs()]
    return dict(zip(names, loaded.run(names, inputs)))


def as_half(inputs):
    return {name: a.astype(np.float16) if a.dtype == np.float32 else a for name, a in inputs.items()}


def difference(got, expected):
    """The largest difference over all outputs, each relative to its largest expected value."""
    expect(set(got) == set(expected), f"outputs {sorted(got)}, expected {sorted(expected)}")
    worst = 0.0
    for name, want in expected.items():
        have = got[name].astype(np.float64)
        expect(have.shape == want.shape, f"{name} has shape {have.shape}, expected {want.shape}")
        expect(np.isfinite(have).all(), f"{name} is not finite")
        worst = max(worst, np.abs(have - want).max() / np.abs(want).max())
    return worst


def expect_close(got, expected, tolerance):
    worst = difference(got, expected)
    expect(worst <= tolerance, f"differs by {worst:.2e} of the output maximum, at most {tolerance:.0e} is allowed")
    return f"{worst:.2e}"


def expect_io_types(model, original, kept):
    """Float I/O is half unless it was to be kept; all else stays as it was."""
    float_type = TensorProto.FLOAT if kept else TensorProto.FLOAT16
    for now, before in zip(io_types(model), io_types(original)):
        wanted = {name: float_type if t == TensorProto.FLOAT else t for name, t in before.items()}
        expect(now == wanted, f"inputs or outputs have types {now}, expected {wanted}")


def check_conversion(case, mezzo, kept):
    """Convert one way, then judge the file by the checker, by ONNX Runtime and by its own types."""
    target = case.work / ("kept.onnx" if kept else "half.onnx")
    target.unlink(missing_ok=True)
    mezzo.convert(case.path, target, *(["--keep-io"] if kept else []))
    onnx.checker.check_model(str(target), full_check=True)
    model = onnx.load(target)
    expect_io_types(model, case.model, kept)
    share = half_share(model)
    expect(share >= MINIMUM_HALF_SHARE, f"only {share:.0%} of the float bytes are half")
    got = run_onnxruntime(target, case.inputs if kept else as_half(case.inputs))
    return f"half {share:.0%}, off by {expect_close(got, case.reference(), FP16_TOLERANCE)}"


def check_engine(case, mezzo, variant):
    """Run by `mezzo run`: the FP32 model, and the converted one with I/O kept and with I/O in half."""
    path = {"fp32": case.path, "kept": case.work / "kept.onnx", "half": case.work / "half.onnx"}[variant]
    if not path.exists():
        raise Failure("there is no converted model to run")
    got = mezzo.run(path, as_half(case.inputs) if variant == "half" else case.inputs, case.work / f"run-{variant}")
    expected = {file_stem(name): array for name, array in case.reference().items()}
    return f"off by {expect_close(got, expected, FP32_TOLERANCE if variant == 'fp32' else FP16_TOLERANCE)}"


def check_accuracy(case, mezzo, labels):
    """Half a point of accuracy is what FP16 may cost on the held-out digits."""
    accuracies = []
    for variant in ("fp32", "kept"):
        path = case.path if variant == "fp32" else case.work / "kept.onnx"
        logits = mezzo.run(path, case.inputs, case.work / f"accuracy-{variant}")["logits"]
        accuracies.append((logits.argmax(axis=1) == labels).mean())
    expect(accuracies[0] >= 0.97, f"FP32 accuracy is {accuracies[0]:.2%}")
    expect(accuracies[1] >= accuracies[0] - 0.005, f"accuracy falls from {accuracies[0]:.2%} to {accuracies[1]:.2%}")
    return f"FP32 {accuracies[0]:.2%}, FP16 {accuracies[1]:.2%}"


def check_training_form(case, mezzo, operator):
    """Training form is refused with an error that names the operator, or it is gone from the result. Never silent."""
    target = case.work / "kept.onnx"
    target.unlink(missing_ok=True)
    try:
        mezzo.convert(case.path, target, "--keep-io")
    except MezzoError as error:
        expect(operator in str(error) and "panicked" not in str(error), f"the error does not name {operator}: {error}")
        expect(not target.exists(), "it was refused, yet an output file was left")
        return "refused"
    onnx.checker.check_model(str(target), full_check=True)
    left = [node.name for node in training_nodes(onnx.load(target))]
    expect(not left, f"still in training form: {left}")
    return "made inference form"


def judge_case(case, mezzo, verdicts):
    if case.name in TRAINING:
        verdicts.judge(case.name, "training form", check_training_form, case, mezzo, TRAINING[case.name])
        return
    verdicts.judge(case.name, "convert", check_conversion, case, mezzo, False)
    verdicts.judge(case.name, "convert --keep-io", check_conversion, case, mezzo, True)
    if case.name in ENGINE:
        for variant in ("fp32", "kept", "half"):
            verdicts.judge(case.name, f"run {variant}", check_engine, case, mezzo, variant)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mezzo", default="mezzo", help="the command to judge")
    parser.add_argument("--fixtures", type=Path, required=True, help="the folder that make_models.py filled")
    parser.add_argument("--digits", type=Path, required=True, help="the folder of digits.onnx and digits_test.bin")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="judge these models only")
    parser.add_argument("--work", type=Path, help="keep the converted files here")
    arguments = parser.parse_args()
    mezzo, verdicts = Mezzo(arguments.mezzo), Verdicts()
    paths = sorted(arguments.fixtures.glob("*.onnx"))
    missing = (ENGINE | set(TRAINING)) - {"digits"} - {path.stem for path in paths}
    if missing:
        parser.error(f"{arguments.fixtures} lacks {sorted(missing)}: run make_models.py first")
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        if not arguments.only or "digits" in arguments.only:
            images, labels = read_digits(arguments.digits / "digits_test.bin")
            case = Case(arguments.digits / "digits.onnx", work, {"image": images})
            judge_case(case, mezzo, verdicts)
            verdicts.judge(case.name, "accuracy", check_accuracy, case, mezzo, labels)
        for path in paths:
            if not arguments.only or path.stem in arguments.only:
                judge_case(Case(path, work), mezzo, verdicts)
    return verdicts.close()


if __name__ == "__main__":
    sys.exit(main())
