#!/usr/bin/env python3
"""Runs single operators that the ONNX node suite covers thinly on the CPU backend, and compares with ONNX's reference
evaluator: quantization in every type and granularity, small types through casts and operators that move elements,
products of quantized tensors, Fourier transforms of many lengths.

    cargo build --example run_cases
    python tests/python/cpu_reference.py target/debug/examples/run_cases

Exit code 0 if all agree.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from cpu_runner import Runner

OPSET = 25
INTEGERS = [np.uint8, np.int8, np.uint16, np.int16, ml_dtypes.uint4, ml_dtypes.int4, ml_dtypes.uint2, ml_dtypes.int2]
FLOATS = [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz,
          ml_dtypes.float4_e2m1fn]


def code(dtype):
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def model(op, inputs, outputs, attributes):
    names = [f"i{k}" if v is not None else "" for k, v in enumerate(inputs)]
    node = helper.make_node(op, names, [f"o{k}" for k in range(len(outputs))], **attributes)
    given = {n: v for n, v in zip(names, inputs) if n}
    infos = [helper.make_tensor_value_info(n, code(v.dtype), list(v.shape)) for n, v in given.items()]
    results = [helper.make_tensor_value_info(f"o{k}", t, None) for k, t in enumerate(outputs)]
    graph = helper.make_graph([node], "g", infos, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=13), given


def quantizations(rng):
    x = (rng.normal(size=(3, 7, 5)) * 40).astype(np.float32)
    grids = [((), {}), ((7,), {"axis": -2}), ((3, 3, 5), {"axis": 1, "block_size": 3}),
             ((3, 7, 2), {"axis": 2, "block_size": 4})]
    for dtype in INTEGERS + FLOATS:
        for shape, attributes in grids:
            scale = (rng.random(shape) + 0.5).astype(np.float32)
            zero = np.asarray(rng.integers(0, 2, shape) if dtype in INTEGERS else np.zeros(shape)).astype(dtype)
            yield "QuantizeLinear", [x, scale, zero], [code(dtype)], attributes
            q = (rng.normal(size=x.shape) * 3).astype(np.float32).astype(dtype)
            yield "DequantizeLinear", [q, scale, zero], [TensorProto.FLOAT], attributes
        yield "DequantizeLinear", [q, np.array(0.3, np.float16)], [TensorProto.FLOAT], {"output_dtype": 1}


def small_types(rng):
    for dtype in INTEGERS[4:] + FLOATS:
        # Negative values do not go to unsigned types, where ONNX leaves the result open.
        x = np.asarray(rng.integers(0, 2, (3, 5))).astype(np.float32).astype(dtype)
        yield "Transpose", [x], [code(dtype)], {"perm": [1, 0]}
        yield "Concat", [x, x], [code(dtype)], {"axis": 1}
        yield "Slice", [x, np.array([1]), np.array([3])], [code(dtype)], {}
        yield "Gather", [x, np.array([1, 0])], [code(dtype)], {}
        for other in (np.float32, np.float16, ml_dtypes.bfloat16, np.float64, np.int32, np.int64, np.uint8, np.bool_):
            yield "Cast", [x], [code(other)], {"to": code(other)}
            values = np.array([0, 1, 3, 5, 7, 100], np.float32).astype(other)
            yield "Cast", [values], [code(dtype)], {"to": code(dtype)}


def quantized(rng):
    u = lambda *s: rng.integers(0, 255, s).astype(np.uint8)  # noqa: E731
    i = lambda *s: rng.integers(-128, 127, s).astype(np.int8)  # noqa: E731
    f = lambda v: np.array(v, np.float32)  # noqa: E731
    z, int32 = np.array(120, np.uint8), [TensorProto.INT32]
    yield "MatMulInteger", [u(2, 3, 4), i(2, 4, 5), z, i(2, 1, 5)], int32, {}
    yield "MatMulInteger", [u(4), i(4), z], int32, {}
    yield "ConvInteger", [u(1, 4, 7, 7), i(6, 2, 3, 3), z, np.array(3, np.int8)], int32, {
        "group": 2, "pads": [1, 0, 1, 2], "strides": [2, 1]}
    scales = (rng.random(6) * 0.05 + 0.01).astype(np.float32)
    yield "QLinearMatMul", [u(2, 3, 40), f(0.03), z, i(40, 6), scales, i(6), f(1.3), z], [TensorProto.UINT8], {}
    yield "QLinearConv", [u(2, 4, 7, 7), f(0.03), z, i(6, 2, 3, 3), scales, np.zeros(6, np.int8), f(0.9), z,
                          rng.integers(-999, 999, 6).astype(np.int32)], [TensorProto.UINT8], {"group": 2}


def transforms(rng):
    x = rng.normal(size=(2, 13, 3, 2)).astype(np.float32)
    for length in (None, 8, 13, 16, 20):
        n = None if length is None else np.array(length)
        for axis in (1, -2):
            place = np.array(axis)
            yield "DFT", [x, n, place], [TensorProto.FLOAT], {}
            yield "DFT", [x, n, place], [TensorProto.FLOAT], {"inverse": 1}
            yield "DFT", [x[..., :1], n, place], [TensorProto.FLOAT], {"onesided": 1}
            yield "DFT", [x, n, place], [TensorProto.FLOAT], {"onesided": 1, "inverse": 1}


def agree(got, want):
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    tolerance = 2e-3 if got.dtype == np.float16 else 1e-5
    return np.allclose(got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=1e-6, equal_nan=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    count = wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(arguments.program, Path(folder) / "values")
        path = Path(folder) / "model.onnx"
        for family in (quantizations, small_types, quantized, transforms):
            for op, inputs, outputs, attributes in family(np.random.default_rng(7)):
                case, given = model(op, inputs, outputs, attributes)
                onnx.save(case, path)
                got, answer = runner.run(path, given)
                want = ReferenceEvaluator(case).run(None, given)
                count += 1
                if got is None or not all(agree(got[f"o{k}"], np.asarray(w)) for k, w in enumerate(want)):
                    wrong += 1
                    print(f"{op} {attributes} of {[(v.dtype.name, v.shape) for v in given.values()]}:",
                          "differs" if got is not None else answer)
    print(f"{count - wrong} of {count} agree with the reference")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
