#!/usr/bin/env python3
"""Runs operators at random sizes on the CPU backend, beyond what ONNX's node suite has, and compares.

    cargo build --example run_cases
    python tests/python/cpu_random_cases.py target/debug/examples/run_cases [--seed N] [--filter SUBSTRING]

The judge is ONNX Runtime, or ONNX's reference evaluator where ONNX Runtime lacks the operator (or is less exact).
Exit code 0 if no case differs or fails.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator

from cpu_runner import Crashed, Runner


class Case:
    def __init__(self, name, op, inputs, outputs=1, opset=24, judge="ort", tolerance=1e-4, domain="", **attributes):
        self.name, self.judge, self.tolerance = name, judge, tolerance
        names = ["" if value is None else f"i{k}" for k, value in enumerate(inputs)]
        self.outputs = outputs if isinstance(outputs, list) else [f"o{k}" for k in range(outputs)]
        self.feeds = {n: v for n, v in zip(names, inputs) if n}
        node = helper.make_node(op, names, self.outputs, domain=domain, **attributes)
        self.outputs = [o for o in self.outputs if o]
        graph = helper.make_graph(
            [node], "case",
            [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
             for n, v in self.feeds.items()],
            [onnx.ValueInfoProto(name=o) for o in self.outputs])
        imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        self.model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=imports, ir_version=10))

    def expected(self):
        if self.judge == "ref":
            return ReferenceEvaluator(self.model).run(None, self.feeds)
        session = onnxruntime.InferenceSession(self.model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, self.feeds)

    def difference(self, got):
        for name, want in zip(self.outputs, self.expected()):
            have, want = got[name].astype(np.float64), np.asarray(want).astype(np.float64)
            if have.shape != want.shape:
                return f"{name} has the shape {have.shape} instead of {want.shape}"
            close = np.isclose(have, want, rtol=self.tolerance, atol=self.tolerance, equal_nan=True)
            if not close.all():
                return f"{name}: {(~close).sum()} of {close.size} differ by up to {np.abs(have - want).max():.3g}"
        return None


def attention(rng, f):
    b, n, s, d, v = 2, int(rng.integers(1, 70)), int(rng.integers(70, 400)), 48, 40
    q, k, w = f(b, 6, n, d), f(b, 2, s, d), f(b, 2, s, v)
    yield Case("attention grouped", "Attention", [q, k, w], opset=23)
    yield Case("attention masked", "Attention", [q, k, w, rng.random((b, 1, n, s)) > 0.3], is_causal=1, softcap=2.0)
    yield Case("attention fp64", "Attention", [x.astype(np.float64) for x in (q, k, w)], judge="ref", tolerance=1e-9)
    yield Case("attention fp16", "Attention", [x.astype(np.float16) for x in (q, k, w)], judge="ref", tolerance=3e-3)
    yield Case("attention of two types", "Attention", [q, k, w.astype(np.float64)], judge="ref")
    yield Case("attention one query", "Attention", [f(b, 6, 1, d), k, w, f(b, 6, 1, s)], ["y", "", "", "qk"], opset=23,
               qk_matmul_output_mode=2)
    yield Case("attention one query, joined heads", "Attention", [f(b, 1, 6 * d), f(b, s, 2 * d), f(b, s, 2 * v)],
               opset=23, q_num_heads=6, kv_num_heads=2)
    yield Case("attention lengths", "Attention", [q, k, w, None, None, None, np.array([s, 40])], is_causal=1)
    yield Case("attention short mask", "Attention", [q, k, w, f(n, 60), None, None, np.array([60, 40])], judge="ref")
    yield Case("attention window", "Attention", [q, k, w, f(1, 6, 1, s), None, None, np.array([s, 40])], opset=25,
               judge="ref", left_window_size=20, right_window_size=3)
    joined = [f(b, n, 6 * d), f(b, s, 2 * d), f(b, s, 2 * v)]
    heads = {"q_num_heads": 6, "kv_num_heads": 2}
    yield Case("attention joined heads", "Attention", joined, ["y", "", "", "qk"], opset=23, **heads)
    for mode in range(4):
        past = [f(n, s + 5), f(b, 2, 5, d), f(b, 2, 5, v)]
        yield Case(f"attention past, mode {mode}", "Attention", joined + past, 4, opset=23, is_causal=mode % 2,
                   softcap=3.0, qk_matmul_output_mode=mode, **heads)
    positions = rng.integers(0, 50, (2, 9))
    yield Case("rotary part", "RotaryEmbedding", [f(2, 9, 64), f(50, 6), f(50, 6), positions], num_heads=4,
               rotary_embedding_dim=12)
    yield Case("rotary interleaved", "RotaryEmbedding", [f(2, 4, 9, 16), f(2, 9, 8), f(2, 9, 8)], interleaved=1)
    yield Case("scatter round the end", "TensorScatter", [f(3, 2, 10, 4), f(3, 2, 4, 4), np.array([8, 0, 9])],
               mode="circular")
    yield Case("scatter axis 1", "TensorScatter", [f(3, 10, 2, 4), f(3, 4, 2, 4), np.array([2, 0, 6])], axis=1)
    gates, rates = -np.abs(f(2, 5, 24)), np.abs(f(2, 5, 3))
    yield Case("linear attention", "LinearAttention",
               [f(2, 5, 48), f(2, 5, 24), f(2, 5, 12), f(2, 3, 8, 4), gates, rates], 2, opset=27, judge="ref",
               q_num_heads=6, kv_num_heads=3)
    yield Case("causal convolution", "CausalConvWithState", [f(2, 5, 3), f(5, 1, 6), f(5), f(2, 5, 5)], 2, opset=27,
               judge="ref", activation="silu")


def images(rng, f):
    for mode in ("nearest", "linear", "cubic"):
        for padding in ("zeros", "border", "reflection"):
            for align in (0, 1):
                how = {"mode": mode, "padding_mode": padding, "align_corners": align, "opset": 20}
                name = f"{mode} {padding} {align}"
                yield Case(f"grid 2-D {name}", "GridSample", [f(2, 3, 7, 9), f(2, 5, 6, 2) * 1.5], **how)
                if mode != "cubic":
                    yield Case(f"grid 3-D {name}", "GridSample", [f(1, 2, 4, 5, 6), f(1, 3, 4, 2, 3) * 1.5], **how)
    yield Case("affine 3-D", "AffineGrid", [f(2, 3, 4), np.array([2, 1, 3, 4, 5])])
    yield Case("affine 2-D", "AffineGrid", [f(2, 2, 3), np.array([2, 1, 3, 4])], align_corners=1)
    regions = np.sort(rng.random((7, 2, 2)) * 30, axis=1).reshape(7, 4).astype(np.float32)
    numbers = rng.integers(0, 3, 7)
    size = {"output_height": 3, "output_width": 4, "spatial_scale": 0.5}
    for mode in ("avg", "max"):
        for shift in ("half_pixel", "output_half_pixel"):
            for samples in (0, 2):
                yield Case(f"regions {mode} {shift} {samples}", "RoiAlign", [f(3, 5, 12, 16), regions, numbers],
                           mode=mode, coordinate_transformation_mode=shift, sampling_ratio=samples, opset=16, **size)
    yield Case("regions, version 10", "RoiAlign", [f(3, 5, 12, 16), regions, numbers], opset=10, **size)
    pooled = np.concatenate([numbers[:, None].astype(np.float32), regions], 1)
    yield Case("region pool", "MaxRoiPool", [f(3, 5, 12, 16), pooled], opset=16, pooled_shape=[3, 4], spatial_scale=0.5)
    boxes, scores = rng.random((2, 200, 4)).astype(np.float32), rng.random((2, 3, 200)).astype(np.float32)
    most, overlap, least = np.array([20]), np.array([0.4], np.float32), np.array([0.3], np.float32)
    yield Case("boxes", "NonMaxSuppression", [boxes, scores, most, overlap, least])
    yield Case("boxes by centre", "NonMaxSuppression", [boxes, scores, most, overlap], center_point_box=1)
    yield Case("blocks 2-D", "Col2Im", [f(2, 18, 20), np.array([8, 9]), np.array([2, 3])], pads=[1, 0, 1, 2],
               strides=[2, 2], dilations=[1, 2])
    yield Case("blocks 3-D", "Col2Im", [f(2, 24, 27), np.array([4, 4, 4]), np.array([2, 2, 2])])
    places = rng.permutation(144)[:36].reshape(2, 2, 3, 3)
    yield Case("unpool", "MaxUnpool", [f(2, 2, 3, 3), places], opset=11, kernel_shape=[2, 2], strides=[2, 2])
    yield Case("determinants", "Det", [f(3, 4, 6, 6)], opset=11, tolerance=1e-3)
    yield Case("deformed", "DeformConv", [f(2, 6, 9, 10), f(4, 3, 3, 2), f(2, 36, 5, 5), f(4), f(2, 18, 5, 5)],
               opset=19, group=2, offset_group=3, pads=[1, 1, 1, 1], strides=[2, 2], dilations=[1, 2])


def losses(rng, f):
    scores, targets, weights = f(4, 7, 5, 3), rng.integers(0, 7, (4, 5, 3)), np.abs(f(7))
    for reduction in ("none", "sum", "mean"):
        yield Case(f"cross entropy {reduction}", "SoftmaxCrossEntropyLoss", [scores, targets, weights], 2, opset=13,
                   reduction=reduction, ignore_index=3)
        yield Case(f"likelihood {reduction}", "NegativeLogLikelihoodLoss", [scores, targets], opset=13,
                   reduction=reduction)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--filter", default="")
    arguments = parser.parse_args()
    onnxruntime.set_default_logger_severity(4)
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(arguments.seed)
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(arguments.program, Path(folder) / "values")
        for family in (attention, images, losses):
            for case in family(rng, lambda *shape: rng.standard_normal(shape).astype(np.float32)):
                if arguments.filter not in case.name:
                    continue
                path = Path(folder) / "model.onnx"
                onnx.save(case.model, path)
                try:
                    got, answer = runner.run(path, case.feeds, threads=2)
                    why = f"{answer[0]}: {answer[1]}" if got is None else case.difference(got)
                except Crashed as e:
                    why = f"the process ended with {e}"
                passed, failed = passed + (not why), failed + bool(why)
                if why:
                    print(f"FAILED {case.name}: {why}")
    print(f"{passed} passed, {failed} failed")
    raise SystemExit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
