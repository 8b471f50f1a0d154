"""The cases of the ONNX backend node suite: their models, inputs and expected outputs."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests


@dataclass
class NodeCase:
    name: str
    path: Path
    inputs: dict
    expected: dict
    rtol: float
    atol: float


def node_cases(folder, name_contains="", wanted=lambda model: has_float_input(model)):
    """All cases whose model is wanted, by default for a float32 input. Their models go into `folder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite divides by zero on purpose
        suite = load_model_tests(kind="node")
    cases = []
    for case in suite:
        if name_contains in case.name and wanted(case.model):
            path = folder / f"{case.name}.onnx"
            onnx.save(case.model, path)
            (inputs, outputs), = case.data_sets
            cases.append(NodeCase(case.name, path, by_name(case.model.graph.input, inputs),
                                  by_name(case.model.graph.output, outputs), case.rtol, case.atol))
    return cases


def by_name(infos, values):
    return {info.name: plain(value) for info, value in zip(infos, values, strict=True)}


def plain(value):
    """Arrays, lists of them, or None, in place of the protobuf messages and scalars that the suite uses here and there."""
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if value is None else np.asarray(value)


def has_float_input(model):
    return any(i.type.tensor_type.elem_type == TensorProto.FLOAT for i in model.graph.input
               if i.type.WhichOneof("value") == "tensor_type")


def run(path, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def mismatch(got, want, allowed):
    """None if the values agree, else why not. `allowed(want)` is the largest difference for float arrays."""
    if want is None or got is None:
        return None if got is want else "one value is empty"
    if isinstance(want, (list, tuple)):
        if len(got) != len(want):
            return f"a sequence of {len(got)} values, expected {len(want)}"
        return next(filter(None, (mismatch(g, w, allowed) for g, w in zip(got, want))), None)
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
    if not np.issubdtype(want.dtype, np.floating):
        return None if np.array_equal(got, want) else "values of a type that is not float differ"
    return float_mismatch(got.astype(np.float64), want.astype(np.float64), allowed)


def float_mismatch(got, want, allowed):
    if not np.array_equal(np.isnan(got), np.isnan(want)):
        return "NaN at different places"
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite & ~np.isnan(want)], want[~finite & ~np.isnan(want)]):
        return "infinities differ"
    difference, limit = np.abs(got[finite] - want[finite]), np.broadcast_to(allowed(want), want.shape)[finite]
    if (difference <= limit).all():
        return None
    worst = np.argmax(difference - limit)
    return f"differs by {difference[worst]:.3g} at {want[finite][worst]:.6g}"
