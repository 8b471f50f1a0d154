"""What the judge of nodes must condemn: operators that compute in half or round twice; and what it must not."""

import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from node_truth import judge_nodes, reference, runtime
from verdicts import expect

# NumPy computes these in halves if it is given halves.
IN_HALVES = ("Gelu", "LayerNormalization", "LogSoftmax", "Sigmoid", "Softmax", "Swish")


def single(op, inputs):
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, None) for name in [*inputs, "y"]]
    graph = helper.make_graph([helper.make_node(op, list(inputs), ["y"])], "g", infos[:-1], infos[-1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)


def condemned(op, inputs, y):
    return bool(judge_nodes(single(op, inputs), {**inputs, "y": y.astype(np.float16)}, [runtime, reference]).outside)


def judge_controls():
    rng = np.random.default_rng(0)
    x, scale = rng.normal(size=(8, 64)).astype(np.float16), rng.normal(size=64).astype(np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for op in IN_HALVES:
            inputs = {"x": x, "scale": scale} if op == "LayerNormalization" else {"x": x}
            model = single(op, inputs)
            in_halves = ReferenceEvaluator(model).run(None, inputs)[0]
            in_doubles = ReferenceEvaluator(model).run(None, {k: v.astype(np.float64) for k, v in inputs.items()})[0]
            expect(condemned(op, inputs, in_halves), f"{op} in halves is not found out")
            expect(not condemned(op, inputs, in_doubles), f"{op} rounded once is condemned")
    a, b = (rng.normal(size=(64, 64)).astype(np.float16) for _ in range(2))
    wide = a.astype(np.float64), b.astype(np.float64)
    parts = [(wide[0][:, k:k + 32] @ wide[1][k:k + 32]).astype(np.float16) for k in (0, 32)]
    expect(condemned("MatMul", {"a": a, "b": b}, parts[0] + parts[1]), "a sum of halves is not found out")
    expect(not condemned("MatMul", {"a": a, "b": b}, wide[0] @ wide[1]), "a product rounded once is condemned")
    moved = x.copy()
    moved[3, 5] = np.nextafter(moved[3, 5], np.float16(9))
    expect(condemned("Identity", {"x": x}, moved), "one element a step off is not found out")
    return f"{', '.join(IN_HALVES)} in halves, a product in two stored parts, one element a step off: all found out"
