#!/usr/bin/env python3
"""Gives operators inputs whose shapes, indices and attributes seldom fit: an error is right, a panic is not.

    cargo build --example run_cases
    python tests/python/cpu_bad_shapes.py target/debug/examples/run_cases [--seed N] [--rounds N]

Exit code 0 if no case panics, ends the process or is an internal error, and some cases of each operator run.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from cpu_runner import Crashed, Runner


class Maker:
    """Random inputs, mostly right."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def chance(self, p):
        return self.rng.random() < p

    def dims(self, *dims):
        changed = [int(self.rng.choice([0, 1, 2, d + 1])) if self.chance(0.04) else d for d in dims]
        if changed and self.chance(0.04):
            changed.pop()
        return changed + [1] * self.chance(0.03)

    def f(self, *dims):
        x = self.rng.standard_normal(self.dims(*dims)).astype(np.float32)
        if x.size and self.chance(0.1):
            x.flat[0] = self.rng.choice([np.nan, np.inf, -np.inf, 6e4])
        return x.astype(np.float16) if self.chance(0.03) else x

    def n(self, low, high, *dims):
        x = self.rng.integers(low, high, self.dims(*dims))
        if x.size and self.chance(0.1):
            x.flat[0] = self.rng.choice([-1, 100, 10**18, -(10**18), 2**63 - 1, -(2**63)])
        return x

    def maybe(self, value):
        return value if self.chance(0.5) else None

    def number(self, right):
        return int(self.rng.choice([right] * 12 + [0, -1, 3, 2**40, -(2**63)]))

    def one(self, *choices):
        return choices[self.rng.integers(len(choices))]


def cases(m):
    f, n, maybe, number, one = m.f, m.n, m.maybe, m.number, m.one
    past = [f(2, 2, 2, 4), f(2, 2, 2, 6), None] if m.chance(0.3) else [None, None, maybe(n(0, 6, 2))]
    yield "Attention", [f(2, 4, 3, 4), f(2, 2, 5, 4), f(2, 2, 5, 6), maybe(f(3, 5)), *past], m.rng.integers(1, 5), 24, {
        "is_causal": one(0, 1), "qk_matmul_output_mode": one(0, 1, 2, 3)}
    yield "Attention", [f(2, 3, 16), f(2, 5, 8), f(2, 5, 12), maybe(f(3, 5) > 0)], m.rng.integers(1, 5), 25, {
        "q_num_heads": number(4), "kv_num_heads": number(2), "left_window_size": number(1)}
    yield "RotaryEmbedding", [f(2, 4, 3, 8), f(9, 4), f(9, 4), n(0, 9, 2, 3)], 1, 23, {"interleaved": one(0, 1)}
    yield "RotaryEmbedding", [f(2, 3, 32), f(2, 3, 4), f(2, 3, 4)], 1, 23, {"num_heads": number(4)}
    yield "TensorScatter", [f(2, 3, 6, 2), f(2, 3, 4, 2), maybe(n(0, 3, 2))], 1, 24, {
        "axis": number(2), "mode": one("linear", "circular")}
    yield "LinearAttention", [f(2, 3, 16), f(2, 3, 8), f(2, 3, 6), maybe(f(2, 2, 4, 3)), f(2, 3, 2), f(2, 3, 2)], 2, 27, {
        "q_num_heads": number(4), "kv_num_heads": number(2)}
    yield "CausalConvWithState", [f(2, 3, 4), f(3, 1, 3), maybe(f(3)), maybe(f(2, 3, 2))], 2, 27, {}
    yield "GridSample", [f(2, 3, 4, 5), f(2, 3, 2, 2)], 1, 20, {
        "mode": one("nearest", "linear", "cubic"), "padding_mode": one("zeros", "border", "reflection"),
        "align_corners": one(0, 1)}
    yield "AffineGrid", one([f(2, 2, 3), np.array([2, 1, number(3), 3])], [f(2, 3, 4), n(1, 5, 5)]), 1, 20, {}
    yield "RoiAlign", [f(2, 3, 5, 6), np.abs(f(4, 4)) * 3, n(0, 2, 4)], 1, 16, {
        "mode": one("avg", "max"), "output_width": number(2), "sampling_ratio": number(2)}
    yield "MaxRoiPool", [f(2, 3, 5, 6), np.abs(f(4, 5))], 1, 16, {"pooled_shape": [2, number(3)]}
    yield "NonMaxSuppression", [f(2, 5, 4), f(2, 3, 5), n(0, 4, 1), maybe(np.abs(f(1))), maybe(f(1))], 1, 11, {
        "center_point_box": one(0, 1)}
    yield "Col2Im", [f(1, 5, 5), n(5, 6, 2), np.array([1, 5])], 1, 18, {
        "strides": [1, number(1)], "pads": [number(0), 0, 0, 0], "dilations": [number(1), 1]}
    yield "MaxUnpool", [f(1, 2, 2, 2), n(0, 32, 1, 2, 2, 2), maybe(np.array([1, 2, 5, 4]))], 1, 11, {
        "kernel_shape": [number(2), 2], "strides": [2, 2], "pads": [0, 0, number(0), 0]}
    yield "DeformConv", [f(1, 4, 5, 5), f(4, 2, 2, 2), f(1, 16, 4, 4), maybe(f(4)), maybe(f(1, 8, 4, 4))], 1, 19, {
        "group": number(2), "offset_group": number(2)}
    yield "Det", [f(2, 3, 3)], 1, 11, {}
    yield "SoftmaxCrossEntropyLoss", [f(3, 5, 2), n(0, 5, 3, 2), maybe(f(5))], 2, 13, {
        "reduction": one("none", "sum", "mean"), "ignore_index": number(1)}
    yield "NegativeLogLikelihoodLoss", [f(3, 5), n(0, 5, 3)], 1, 13, {}
    yield "SwiGLU", [f(3, 5), f(3, 5)], 1, 28, {}
    yield "FlexAttention", [f(2, 4, 3, 4), f(2, 2, 5, 4), f(2, 2, 5, 6)], 1, 26, {}


def model(op, inputs, outputs, opset, attributes):
    names = ["" if value is None else f"i{k}" for k, value in enumerate(inputs)]
    feeds = {n: v for n, v in zip(names, inputs) if n}
    domain = "ai.onnx.preview" if op == "FlexAttention" else ""
    made = [f"o{k}" for k in range(outputs)]
    given = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), None) for n, v in feeds.items()]
    node = helper.make_node(op, names, made, domain=domain, **attributes)
    graph = helper.make_graph([node], "case", given, [onnx.ValueInfoProto(name=o) for o in made])
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=imports, ir_version=10), feeds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    maker, ran, all_cases, bad = Maker(arguments.seed), Counter(), Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        runner, path = Runner(arguments.program, Path(folder) / "values"), Path(folder) / "model.onnx"
        for _ in range(arguments.rounds):
            for op, inputs, outputs, opset, attributes in cases(maker):
                made, feeds = model(op, inputs, outputs, opset, attributes)
                onnx.save(made, path)
                try:
                    got, answer = runner.run(path, feeds, threads=int(maker.one(1, 2)))
                    code = "ok" if got is not None else answer[0]
                except Crashed as e:
                    code, answer = "crash", e
                all_cases[op] += 1
                ran[op] += code == "ok"
                if code in ("crash", "Panic", "Internal"):
                    bad += 1
                    print(f"{code} {op} {[None if v is None else v.shape for v in inputs]} {attributes}: {answer}")
    print(", ".join(f"{op} {ran[op]} of {count} ran" for op, count in all_cases.items()), f"- {bad} bad")
    raise SystemExit(1 if bad or any(not ran[op] for op in all_cases) else 0)


if __name__ == "__main__":
    main()
