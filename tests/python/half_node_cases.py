"""The ONNX backend node suite with FP16 in place of FP32, judged node by node on the CPU backend."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from cpu_node_suite import outside
from cpu_runner import Runner
from exposed import exposed, flat, value_types
from node_cases import node_cases
from node_runs import cast
from node_truth import Tally, judge_nodes, reference, runtime
from node_types import element_type
from onnx_facts import all_graphs
from rounded_twin import NARROW, retype_graph
from verdicts import expect

# Cases that are outside, and why. They must stay outside: one that no longer is has to leave this list.
INFINITE = "65536 is infinite as a half; both evaluators make an int32 of infinity, which is undefined; Mezzo saturates"
EXPECTED = {
    "test_quantizelinear_int16": INFINITE,
    "test_quantizelinear_uint16": INFINITE,
    "test_if_opt": "the reference gives an optional sequence as a list of one sequence",
}


FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}


def has_floats(model):
    return any(element_type(info.type) in FLOATS for info in [*model.graph.input, *model.graph.output])


def half_model(case, mezzo):
    """The case with FP16 in place of FP32; where an operator's schema forbids that, as the converter makes it."""
    model = onnx.load(case.path)
    for graph in all_graphs(model.graph):
        retype_graph(graph, *NARROW)
    if not model.functions:
        try:
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
            return model
        except onnx.shape_inference.InferenceError:
            pass
    target = case.path.with_suffix(".half.onnx")
    mezzo.convert(case.path, target, "--policy", "pure")
    return onnx.load(target)


def judge_case(case, mezzo, runner):
    half = half_model(case, mezzo)
    model, names = flat(half)
    path = case.path.with_suffix(".exposed.onnx")
    onnx.save(exposed(model, value_types(model), ("tensor_type", "sequence_type")), path)
    takes_half = {info.name for info in half.graph.input if element_type(info.type) == TensorProto.FLOAT16}
    inputs = {names[name]: cast(value, np.float32, np.float16) if name in takes_half else value
              for name, value in case.inputs.items()}
    got, answer = runner.run(path, inputs)
    expect(got is not None, f"it does not run: {answer[1] if got is None else ''}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return judge_nodes(model, {**inputs, **got}, [reference, runtime])


def judge_suite(mezzo, program, only=""):
    """All cases together; training and random ones left out. What is outside fails by name."""
    total, cases, wrong, missed = Tally(), 0, [], set(EXPECTED)
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(program, Path(folder) / "values")
        for case in node_cases(Path(folder), only, has_floats):
            if outside(case.name):
                continue
            try:
                found = judge_case(case, mezzo, runner)
            except Exception as error:  # each case is judged for itself, whatever stops it
                wrong.append(f"{case.name}: {type(error).__name__}: {error}")
                continue
            cases += 1
            wrong += [f"{case.name}: {text}" for text in found.without_truth]
            if case.name in EXPECTED and found.outside:
                missed.discard(case.name)
                found.outside = []
            wrong += [f"{case.name}: {text}" for text in found.outside]
            total.add(found)
    if not only:
        wrong += [f"{name} is no longer outside: it is to leave EXPECTED" for name in sorted(missed)]
    for text in wrong:
        print(f"      {text}")
    expect(not wrong, f"{len(wrong)} outside or not judged")
    expect(cases > 0, "no case")
    return f"{cases} cases, {total}, {len(EXPECTED)} explained"
