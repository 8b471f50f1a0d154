"""Whole FP16 models on the CPU backend, judged node by node and against their rounded twins."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import published
from digits import read_digits
from exposed import exposed, flat, value_types, without_ifs
from fixtures.inputs import make_inputs
from judge import as_half
from mezzo_cli import file_stem
from node_truth import judge_nodes, reference, runtime
from rounded_twin import rounded_twin, run_unoptimised, widened_array
from verdicts import expect
from zoo_judge import CHOSEN_BY_SCORES

UNIT = 2.0**-11  # half's rounding error at 1
# Single roundings that go the other way grow on their way to the outputs. This is twice the most that was seen (31.5
# units, the text detector, whose twin moves by 32 when one input element moves by a step); a model that answers
# nonsense is far beyond it. How true single nodes are is judged apart.
END_TO_END = 64.0
DIGITS = 8  # images


@dataclass
class Subject:
    name: str
    path: Path
    inputs: dict


def fixtures(folder, digits):
    names = ("resnet18", "encoder", "encoder_ln", "mlp", "conv_bn", "if_loop", "functions")
    for path in (folder / f"{name}.onnx" for name in names):
        yield Subject(path.stem, path, make_inputs(onnx.load(path)))
    images, _ = read_digits(digits / "digits_test.bin")
    yield Subject("digits", digits / "digits.onnx", {"image": images[:DIGITS]})


def fetched(cache):
    for name, path in published.models(cache):
        yield Subject(name, path, published.make_inputs(path))


def zoo(folder):
    for path in sorted(folder.glob("*.onnx")):
        yield Subject(path.stem, path, dict(np.load(path.with_suffix(".npz"))))


def judge_layers(subject, mezzo):
    """Each node by what it read and wrote, and the outputs are those of the run that nobody watches."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        mezzo.convert(subject.path, work / "half.onnx")
        inputs = as_half(subject.inputs)
        model, names = flat(onnx.load(work / "half.onnx"))
        values = {}
        while model:
            last = model
            onnx.save(exposed(last, value_types(last)), work / "exposed.onnx")
            given = {names[name]: value for name, value in inputs.items()}
            values = {**given, **mezzo.run(work / "exposed.onnx", given, work / "run")}
            model = without_ifs(last, values)
        plain = mezzo.run(work / "half.onnx", inputs, work / "plain")
        for output in onnx.load(work / "half.onnx").graph.output:
            expect(np.array_equal(plain[file_stem(output.name)], values[names[output.name]], equal_nan=True),
                   f"{output.name} is another when every tensor is an output")
    found = judge_nodes(last, values, [runtime, reference])
    wrong = found.outside + found.without_truth
    for text in wrong:
        print(f"      {text}")
    expect(not wrong, f"{len(wrong)} nodes outside or not judged: {found}")
    expect(found.nodes > 0, "no node in FP16")
    return str(found)


def judge_whole(subject, mezzo, kept):
    """The outputs, against the twin's: the largest difference in units of 2^-11 of the largest value."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        mezzo.convert(subject.path, work / "half.onnx", *(["--keep-io"] if kept else []))
        inputs = subject.inputs if kept else as_half(subject.inputs)
        got = mezzo.run(work / "half.onnx", inputs, work / "run")
        twin = rounded_twin(onnx.load(work / "half.onnx"))
    feeds = {name: widened_array(value) for name, value in inputs.items()}
    want = run_unoptimised(twin, feeds)
    other = nudge(feeds)
    nudged = run_unoptimised(twin, other) if other else None
    told = []
    for name, value in want.items():
        have = got[file_stem(name)]
        if name in CHOSEN_BY_SCORES.get(subject.name, ()):
            continue  # rows in the order of scores: equal scores may change places
        far, differing = distance(have, value)
        expect(far <= END_TO_END, f"{name} is {far:.1f} units from the twin, at most {END_TO_END:.0f} are allowed")
        by_nudge = f" (twin, input nudged: {distance(nudged[name], value)[0]:.3g})" if nudged else ""
        told.append(f"{name} {far:.3g} units, {differing:.2%} differ{by_nudge}")
    return "; ".join(told)


def distance(have, want):
    have, want = have.astype(np.float64), want.astype(np.float64)
    expect(have.shape == want.shape and np.isfinite(have).all(), f"shape {have.shape} for {want.shape}, or not finite")
    return np.abs(have - want).max() / np.abs(want).max() / UNIT, (have != want).mean()


def nudge(feeds):
    """The first float input with its largest value one step of half lower: what one rounding the other way does.

    None for a model without such an input.
    """
    name = next((name for name, value in feeds.items() if value.dtype == np.float32), None)
    if name is None:
        return None
    value = feeds[name].copy()
    at = np.argmax(np.abs(value))
    value.flat[at] = np.nextafter(value.flat[at].astype(np.float16), np.float16(0))
    return {**feeds, name: value}
