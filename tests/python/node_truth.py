"""The unrounded truth of one FP16 node on given inputs, and how far a backend's outputs are from it.

The inputs are halves, widened; the truth is the node's twin in ONNX Runtime (FP32) or in ONNX's reference evaluator
(FP64). A node that rounds once, to nearest, is at most half a step of half (its unit in the last place) from it. Two
allowances: SLACK for FP32 in place of real numbers, and for operators that sum, the noise of an FP32 sum whose order is
free. Elements that are moved, or that half holds exactly, have no neighbour within that bound: they must be equal.
"""

import warnings
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cpu_node_suite import comparable
from exposed import captured
from half_steps import beyond, rounded, same
from onnx_facts import all_graphs, subgraphs
from rounded_twin import (WIDEN, half_tensors, retype_attributes, retype_graph, round_outputs, run_unoptimised,
                          widened_array)

# 128 units in the last place of FP32, which is 1/64 of half's.
SLACK = 2.0**-6
BOUND = 0.5 + SLACK
# A node with graphs inside (If, Loop, Scan, FlexAttention) rounds many times: one rounding may go the other way.
BOUND_AROUND_GRAPHS = 1.0
# Noise of FP32 sums, as part of the sum of magnitudes. Between two orders of summing, 7.3 * 2^-24 is the most that was
# seen (a convolution), 1.5 * 2^-24 the most elsewhere.
SUM_NOISE = 16 * 2.0**-24
# Linear in each float input, so that the same node on magnitudes gives the sum of magnitudes.
LINEAR = {"AveragePool", "Col2Im", "Conv", "ConvTranspose", "CumSum", "Einsum", "Gemm", "GlobalAveragePool", "MatMul",
          "Mean", "ReduceMean", "ReduceSum", "Sum"}
# Sums and differences with more around them: noise as part of the output's largest magnitude.
SUMMING = {"Attention", "BatchNormalization", "CausalConvWithState", "DFT", "DeformConv", "GRU", "GridSample",
           "GroupNormalization", "InstanceNormalization", "LSTM", "LayerNormalization", "LinearAttention",
           "MeanVarianceNormalization", "RNN", "Resize", "RoiAlign", "RotaryEmbedding", "STFT", "Upsample"}
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


@dataclass
class Tally:
    """What was found over many nodes."""

    nodes: int = 0
    elements: int = 0
    different: int = 0
    by_noise: int = 0  # elements that only the noise of sums brings within the bound
    worst: float = 0.0
    around_graphs: float = 0.0  # the worst of nodes with graphs inside, which have a bound of their own
    outside: list = field(default_factory=list)
    without_truth: list = field(default_factory=list)

    def __str__(self):
        share = self.different / max(self.elements, 1)
        inside = f" ({self.around_graphs:.3f} around graphs)" if self.around_graphs else ""
        return (f"{self.nodes} nodes, {self.elements} halves, {share:.4%} not the nearest, "
                f"{self.by_noise} by noise of sums, worst {self.worst:.3f} steps{inside}")

    def add(self, other):
        self.nodes += other.nodes
        self.elements += other.elements
        self.different += other.different
        self.by_noise += other.by_noise
        self.worst = max(self.worst, other.worst)
        self.around_graphs = max(self.around_graphs, other.around_graphs)
        self.outside += other.outside
        self.without_truth += other.without_truth


def judge_nodes(model, values, truths):
    """Judges each FP16 node of the main graph whose values are all in `values` (by name; halves as halves)."""
    tally = Tally()
    half_inside = half_tensors(onnx.shape_inference.infer_shapes(model))
    values = {**{t.name: numpy_helper.to_array(t) for t in model.graph.initializer}, **values}
    for node in model.graph.node:
        names = {name for name in node.input if name} | captured(node)
        outputs = [name for name in node.output if name]
        if node.op_type in RANDOM or not any(is_half(values.get(name)) for name in [*names, *outputs]):
            continue
        label = f"{node.op_type} {node.name}".strip()
        if not all(name in values for name in [*names, *outputs]):
            tally.without_truth.append(f"{label}: a value that is no tensor")
            continue
        inputs = {name: values[name] for name in names}
        written = {name: values[name] for name in outputs}
        tally.add(judge_node(node, label, inputs, written, model, half_inside, truths))
    return tally


def judge_node(node, label, inputs, written, model, half_inside, truths):
    """By the truths in turn, until one finds nothing outside: an evaluator may be less exact than what it judges.

    What rounds twice or computes in half is outside for each of them.
    """
    found, reasons = None, []
    for truth in truths:
        try:
            wide, noise = truth_of(node, inputs, written, model, half_inside, truth)
            tally = Tally(nodes=1)
            bound = BOUND_AROUND_GRAPHS if any(True for _ in subgraphs(node)) else BOUND
            for name, got in written.items():
                judge_output(tally, label, got, wide[name], noise.get(name, 0.0), bound)
        except Exception as error:  # no kernel, a type that NumPy lacks: their exceptions have no common base
            reasons.append(" ".join(str(error).split())[:160] or type(error).__name__)
            continue
        if found is None or (len(tally.outside), tally.worst) < (len(found.outside), found.worst):
            found = tally
        if not found.outside:
            break
    return found or Tally(without_truth=[f"{label}: {'; '.join(reasons)}"])


def is_half(value):
    if isinstance(value, (list, tuple)):
        return any(is_half(item) for item in value)
    return getattr(value, "dtype", None) == np.float16


def truth_of(node, inputs, written, model, half_inside, truth):
    """The outputs unrounded, and the noise of FP32 sums in them."""
    wide = truth(node, inputs, written, model, half_inside)
    noise = {}
    if node.op_type in LINEAR:
        sizes = {name: magnitudes(value) for name, value in inputs.items()}
        sums = truth(node, sizes, written, model, half_inside)
        noise = {name: SUM_NOISE * np.nan_to_num(np.abs(value), posinf=0.0) for name, value in sums.items()}
    elif node.op_type in SUMMING:
        noise = {name: SUM_NOISE * largest(wide[name]) for name in written}
    return wide, noise


def magnitudes(value):
    """What a sum of magnitudes sums; integers among the inputs are places, not terms."""
    return np.abs(value) if is_half(value) and isinstance(value, np.ndarray) else value


def largest(value):
    """The largest finite magnitude; 0 for what is no array of floats."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return 0.0
    return np.abs(value[np.isfinite(value)]).max(initial=0.0)


def judge_output(tally, label, got, wide, noise, bound):
    if isinstance(got, (list, tuple)):
        if len(got) != len(wide):
            tally.outside.append(f"{label}: a sequence of {len(got)} values, expected {len(wide)}")
            return
        for g, w in zip(got, wide):
            judge_output(tally, label, g, w, 0.0, bound)
        return
    got, wide = np.asarray(got), np.asarray(wide)
    if got.shape != wide.shape:
        tally.outside.append(f"{label}: shape {got.shape}, expected {wide.shape}")
    elif got.dtype == np.float16:
        if wide.dtype == np.float16:
            raise TypeError("the truth is itself in halves")
        judge_halves(tally, label, got, wide, noise, bound)
    elif got.dtype == np.float32:
        # Statistics that stay FP32 beside a half output: as good as FP32 allows.
        if not np.allclose(got, wide, rtol=2.0**-18, atol=2.0**-20 * largest(wide), equal_nan=True):
            tally.outside.append(f"{label}: its FP32 output differs")
    else:
        equal = same(comparable(got), comparable(wide))
        if got.dtype != wide.dtype or not equal.all():
            places = f"{int((~equal).sum())} of {got.size} places"
            tally.outside.append(f"{label}: its {got.dtype} output differs at {places}")


def judge_halves(tally, label, got, wide, noise, bound):
    far = beyond(got, wide, noise)
    tally.elements += got.size
    tally.different += int((~same(got, rounded(wide))).sum())
    tally.by_noise += int(((beyond(got, wide, 0.0) > bound) & (far <= bound)).sum())
    if bound == BOUND:
        tally.worst = max(tally.worst, far.max(initial=0.0))
    else:
        tally.around_graphs = max(tally.around_graphs, far.max(initial=0.0))
    count = int((far > bound).sum())
    if count:
        at = np.argmax(far)
        tally.outside.append(f"{label}: {count} of {got.size} elements, the worst {far.flat[at]:.3g} steps: "
                             f"{got.flat[at]:.8g} for {wide.flat[at]:.8g}")


def one_node(node, inputs, outputs, model, half_inside):
    """A model of the widened node alone. Small integers (axes, shapes) are constants, as some kernels insist."""
    node = onnx.NodeProto.FromString(node.SerializeToString())
    retype_attributes(node, *WIDEN)
    for inner in subgraphs(node):
        for graph in all_graphs(inner):
            retype_graph(graph, *WIDEN)
            round_outputs(graph, half_inside)
    graph = onnx.GraphProto(name="node", node=[node])
    feeds = {}
    for name, value in inputs.items():
        value = widened_array(value)
        if isinstance(value, np.ndarray) and value.dtype.kind == "i" and value.ndim <= 1:
            graph.initializer.append(numpy_helper.from_array(value, name))
        else:
            graph.input.append(info_of(name, value))
            feeds[name] = value
    graph.output.extend(info_of(name, widened_array(value), shaped=False) for name, value in outputs.items())
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=min(model.ir_version, 11)), feeds


def info_of(name, value, shaped=True):
    if isinstance(value, (list, tuple)):
        dtype = value[0].dtype if value else np.dtype(np.float32)
        return helper.make_tensor_sequence_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), None)
    dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, dtype, value.shape if shaped else None)


def runtime(node, inputs, outputs, model, half_inside):
    """In FP32, by ONNX Runtime."""
    return run_unoptimised(*one_node(node, inputs, outputs, model, half_inside))


def reference(node, inputs, outputs, model, half_inside):
    """In FP64, by ONNX's evaluator, which computes in the types that come in."""
    single, feeds = one_node(node, inputs, outputs, model, half_inside)
    for attribute in single.graph.node[0].attribute:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
    half = {name for name, value in inputs.items() if is_half(value)}
    feeds = {name: value.astype(np.float64) if name in half and isinstance(value, np.ndarray) else value
             for name, value in feeds.items()}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        evaluator = ReferenceEvaluator(single)
        return dict(zip(evaluator.output_names, evaluator.run(None, feeds)))
