"""Large models made for the converter benchmark: a GPT-like stack, a wide one above 2 GB, and long chains.

Weights are seeded random numbers of sensible size. Nothing is downloaded.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Collects nodes and initializers of one graph; values are named by the operator that makes them."""

    def __init__(self, seed=0):
        self.nodes, self.initializers = [], []
        self.random = np.random.default_rng(seed)
        self.count = 0

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name, *shape):
        scale = np.float32(shape[0] ** -0.5)
        return self.constant(name, self.random.standard_normal(shape, dtype=np.float32) * scale)

    def node(self, op_type, *inputs, **attributes):
        self.count += 1
        output = f"{op_type.lower()}_{self.count}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], name=f"{op_type}_{self.count}", **attributes))
        return output

    def layer_norm(self, x, width, name):
        """LayerNormalization as exporters decompose it below opset 17."""
        mean = self.node("ReduceMean", x, axes=[-1])
        centered = self.node("Sub", x, mean)
        variance = self.node("ReduceMean", self.node("Pow", centered, "two"), axes=[-1])
        norm = self.node("Div", centered, self.node("Sqrt", self.node("Add", variance, "eps")))
        scaled = self.node("Mul", norm, self.constant(f"{name}.weight", np.ones(width, np.float32)))
        return self.node("Add", scaled, self.constant(f"{name}.bias", np.zeros(width, np.float32)))

    def linear(self, x, rows, columns, name):
        product = self.node("MatMul", x, self.weight(f"{name}.weight", rows, columns))
        return self.node("Add", product, self.constant(f"{name}.bias", np.zeros(columns, np.float32)))

    def model(self, inputs, outputs, opset=13):
        graph = helper.make_graph(self.nodes, "bench", inputs, outputs, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def gpt(blocks=28, width=1024, heads=16, sequence=128):
    """A decoder of `blocks` blocks with a causal mask of the smallest float, as exporters write it (about 1.44 GB)."""
    b = Builder()
    b.constant("two", np.float32(2))
    b.constant("eps", np.float32(1e-5))
    b.constant("scale", np.float32((width // heads) ** -0.5))
    mask = np.triu(np.full((sequence, sequence), np.finfo(np.float32).min, np.float32), 1)
    b.constant("mask", mask[None, None])
    b.constant("split", np.array([1, sequence, heads, width // heads], np.int64))
    b.constant("join", np.array([1, sequence, width], np.int64))
    x = b.node("Gather", b.weight("embedding", 8192, width), "ids")
    for i in range(blocks):
        h = b.layer_norm(x, width, f"{i}.ln1")
        q, k, v = (b.node("Reshape", b.linear(h, width, width, f"{i}.{n}"), "split") for n in "qkv")
        q, v = (b.node("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
        k = b.node("Transpose", k, perm=[0, 2, 3, 1])
        scores = b.node("Add", b.node("Mul", b.node("MatMul", q, k), "scale"), "mask")
        context = b.node("MatMul", b.node("Softmax", scores, axis=-1), v)
        joined = b.node("Reshape", b.node("Transpose", context, perm=[0, 2, 1, 3]), "join")
        x = b.node("Add", x, b.linear(joined, width, width, f"{i}.proj"))
        h = b.linear(b.layer_norm(x, width, f"{i}.ln2"), width, 4 * width, f"{i}.fc1")
        h = b.node("Mul", h, b.node("Sigmoid", h))
        x = b.node("Add", x, b.linear(h, 4 * width, width, f"{i}.fc2"))
    b.nodes.append(helper.make_node("Identity", [x], ["hidden"], name="last"))
    return b.model(
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, sequence])],
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [1, sequence, width])],
    )


def wide(layers=9, width=8192):
    """Matrices of 256 MB, about 2.35 GB in all: more than one protobuf message holds."""
    b = Builder()
    x = "x"
    for i in range(layers):
        x = b.node("Relu", b.linear(x, width, width, f"fc{i}"))
    b.nodes.append(helper.make_node("Identity", [x], ["y"], name="last"))
    return b.model(
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, width])],
    )


def chain(length):
    """A chain of elementwise nodes, a quarter of them Max (which some tools keep in FP32), without weights."""
    b = Builder()
    b.constant("half", np.float32(0.5))
    x = "x"
    for i in range(length):
        x = b.node("Max", x, "half") if i % 4 == 0 else b.node("Relu", x)
    b.nodes[-1].output[0] = "y"
    return b.model(
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )


def save(model, path):
    """Above 2 GB the weights go to one file beside the model."""
    size = sum(len(t.raw_data) for t in model.graph.initializer)
    if size < 1_900_000_000:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)


MODELS = {
    "gpt_1.4GB": gpt,
    "wide_2.4GB": wide,
    "chain_2000": lambda: chain(2000),
    "chain_20000": lambda: chain(20000),
}
