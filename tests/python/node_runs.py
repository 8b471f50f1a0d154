"""Runs a model with one of two judges: ONNX Runtime, which computes most of FP16 in FP32 on a CPU, and onnx.reference, which
computes FP16 in real halves, operator by operator."""

import warnings

import numpy as np
import onnx
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from node_cases import run as run_in_runtime
from node_types import element_type


def run_in_reference(path, inputs):
    evaluator = ReferenceEvaluator(str(path))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # halves overflow to infinity, as they should
        return dict(zip(evaluator.output_names, evaluator.run(None, inputs)))


RUNS = {"runtime": run_in_runtime, "reference": run_in_reference}


def for_model(path, inputs):
    """The inputs in the types that the model declares: FP32 is rounded where it takes FP16."""
    infos = onnx.load(path, load_external_data=False).graph.input
    half = {info.name for info in infos if element_type(info.type) == TensorProto.FLOAT16}
    return {name: cast(value, np.float32, np.float16) if name in half else value for name, value in inputs.items()}


def rounded(inputs):
    """The FP32 inputs with the numbers that halves hold."""
    return {name: cast(value, np.float32, np.float16, np.float32) for name, value in inputs.items()}


def widened(outputs):
    return {name: cast(value, np.float16, np.float32) for name, value in outputs.items()}


def cast(value, old, *new):
    """A value, or all of a sequence, from the type `old` to others one after the other; what is of another type stays."""
    if isinstance(value, (list, tuple)):
        return [cast(item, old, *new) for item in value]
    if value is None or np.asarray(value).dtype != old:
        return value
    with np.errstate(over="ignore"):
        for dtype in new:
            value = np.asarray(value).astype(dtype)
    return value
