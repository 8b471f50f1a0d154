#!/usr/bin/env python3
"""Models that ask for more than there is, and models that broke something once: each must end in its own error.

    cargo build --example soak_models
    python tests/python/cpu_limits.py target/debug/examples/soak_models

Exit code 0 if every model ends as it should, without a panic, within seconds, and in the memory that it was given.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from soak_inputs import encode
from soak_runner import BAD_CODES, Runner

MEMORY_LIMIT = 16 << 20
LIMIT = f"limit is {MEMORY_LIMIT} bytes"
FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING


def array(values, dtype=np.float32):
    return np.array(values, dtype)


def one(op, *inputs, outputs=1, opset=21, frozen=(), domain="", **attributes):
    """A model of one node; inputs are arrays, strings as encoded, or None. Those in `frozen` become constants."""
    names = ["" if v is None else f"x{i}" for i, v in enumerate(inputs)]
    made = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, made, domain=domain, **attributes)
    return graph([node], {n: v for n, v in zip(names, inputs) if n}, made, opset, frozen)


def graph(nodes, inputs, outputs, opset=21, frozen=()):
    given = []
    for i, (name, value) in enumerate(inputs.items()):
        if i not in frozen:
            encoded = isinstance(value, dict)
            kind = value.get("dtype", STRING) if encoded else helper.np_dtype_to_tensor_dtype(value.dtype)
            given.append(helper.make_tensor_value_info(name, kind, None))
    constants = [numpy_helper.from_array(v, n) for i, (n, v) in enumerate(inputs.items()) if i in frozen]
    made = helper.make_graph(nodes, "case", given, [onnx.ValueInfoProto(name=o) for o in outputs], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return model, {n: v for i, (n, v) in enumerate(inputs.items()) if i not in frozen}


def empty(kind, dims):
    """A value without elements, of sizes that NumPy does not have."""
    return {"dtype": kind, "dims": dims, "hex": ""}


def loop(body_nodes, trips, start, scanned=()):
    """`trips` rounds of a body that makes `next` of `x`."""
    number, go = helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("go", BOOL, [])
    body = helper.make_graph([helper.make_node("Identity", ["go"], ["going"]), *body_nodes], "body",
                             [number, go, onnx.ValueInfoProto(name="x")],
                             [onnx.ValueInfoProto(name=n) for n in ("going", "next", *scanned)])
    outputs = ["y", *(f"s{i}" for i in range(len(scanned)))]
    nodes = [helper.make_node("Loop", ["trips", "", "start"], outputs, name="round", body=body)]
    return graph(nodes, {"trips": array(trips, np.int64), "start": start}, outputs, frozen=(0,))


def scan(over):
    """A Scan that collects what it is given."""
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "body", [onnx.ValueInfoProto(name="x")],
                             [onnx.ValueInfoProto(name="z")])
    return graph([helper.make_node("Scan", ["over"], ["y"], body=body, num_scan_inputs=1)], {"over": over}, ["y"])


def cases():
    big = 2**62
    words = {"dims": [1], "strings": ["word"]}
    # More memory than the limit: the node, what it needs and the limit are named.
    yield "Expand", one("Expand", array([1]), array([2**40], np.int64)), "OutOfMemory", \
        ["Expand", "bytes are needed", LIMIT]
    yield "Tile", one("Tile", array([1, 2]), array([2**36], np.int64)), "OutOfMemory", ["Tile", LIMIT]
    yield "ConstantOfShape", one("ConstantOfShape", array([2**20, 2**20], np.int64)), "OutOfMemory", [LIMIT]
    yield "Range", one("Range", array(0, np.int64), array(2**50, np.int64), array(1, np.int64)), "OutOfMemory", [LIMIT]
    yield "OneHot", one("OneHot", array([1], np.int64), array(2**40, np.int64), array([0, 1])), "OutOfMemory", [LIMIT]
    yield "Pad", one("Pad", array([1]), array([2**38, 0], np.int64)), "OutOfMemory", [LIMIT]
    for mode in ("nearest", "linear", "cubic"):
        for size in (2**36, big):
            yield f"Resize {mode}", one("Resize", array([[1, 2]]), None, None, array([1, size], np.int64),
                                        mode=mode), "OutOfMemory", [LIMIT]
    yield "MatMul", one("MatMul", np.ones((20000, 1, 1, 1), np.float32),
                        np.ones((1, 20000, 1, 1), np.float32)), "OutOfMemory", [LIMIT]
    yield "DFT", one("DFT", np.ones((1, 3, 1), np.float32), array(2**19 - 1, np.int64),
                     opset=20), "OutOfMemory", ["length 524287", LIMIT]
    yield "HannWindow", one("HannWindow", array(2**40, np.int64)), "OutOfMemory", [LIMIT]
    yield "strings: Expand", one("Expand", words, array([2**40], np.int64)), "OutOfMemory", [LIMIT]
    wide = [{"dims": [2**12, 1], "strings": ["a"] * 2**12}, {"dims": [1, 2**12], "strings": ["b"] * 2**12}]
    yield "strings: StringConcat", one("StringConcat", *wide), "OutOfMemory", ["StringConcat", LIMIT]
    yield "strings: Equal", one("Equal", *wide), "OutOfMemory", ["Equal", LIMIT]
    # Loops that collect or grow.
    same = helper.make_node("Identity", ["x"], ["next"])
    constant = helper.make_node("Constant", [], ["one"], value_float=1.0)
    yield "Loop: list of one value", loop([same, constant], 2**62, array([1]), ["one"]), "OutOfMemory", ["round", LIMIT]
    yield "Loop: values", loop([helper.make_node("Concat", ["x", "x"], ["next"], axis=0)], 60, array([1])), \
        "OutOfMemory", ["Concat", LIMIT]
    yield "Loop: strings", loop([helper.make_node("StringConcat", ["x", "x"], ["next"])], 60, words), \
        "OutOfMemory", ["StringConcat", LIMIT]
    yield "Loop: optionals", loop([helper.make_node("Optional", ["x"], ["next"])], 10**6, array([1])), \
        "Execution", ["Optional", "nested deeper"]
    yield "Loop: sequences", loop([helper.make_node("SequenceConstruct", ["x"], ["next"])], 10**6, array([1])), \
        "Execution", ["SequenceConstruct", "nested deeper"]
    # Sizes of what has no elements: no list of them, and no product that overflows.
    yield "Unique of empty rows", one("Unique", empty(FLOAT, [2**40, 0]), axis=0), "OutOfMemory", ["Unique", LIMIT]
    many, table = empty(INT64, [2**40, 0]), array([1, 2])
    yield "GatherND of empty tuples", one("GatherND", table, many), "OutOfMemory", ["GatherND", LIMIT]
    yield "ScatterND of empty tuples", one("ScatterND", table, many, empty(FLOAT, [2**40, 0])), None, []
    yield "SplitToSequence", one("SplitToSequence", empty(FLOAT, [2**40, 0])), "OutOfMemory", ["SplitToSequence", LIMIT]
    yield "SplitToSequence of 1", one("SplitToSequence", empty(FLOAT, [2**40, 0]), array(1, np.int64)), \
        "OutOfMemory", ["SplitToSequence", LIMIT]
    yield "EyeLike", one("EyeLike", empty(FLOAT, [2**40, 0])), "done", []
    yield "LSTM", one("LSTM", empty(FLOAT, [1, 2**40, 0]), empty(FLOAT, [1, 0, 0]), empty(FLOAT, [1, 0, 0]),
                      hidden_size=0), None, []
    yield "Scan", scan(empty(FLOAT, [2**40, 0])), "OutOfMemory", ["Scan", LIMIT]
    yield "strings: Cast", one("Cast", np.zeros(2**19, np.uint8), to=STRING), "OutOfMemory", ["Cast", LIMIT]
    yield "sizes that overflow", one("ReduceSum", empty(FLOAT, [big, big, 0])), "InvalidArgument", ["no byte size"]
    # Attributes and types that a kernel took without a look.
    yield "Split", one("Split", array([1, 2]), outputs=2, num_outputs=2**62), "InvalidModel", \
        ["num_outputs", "2 outputs"]
    yield "Split sizes", one("Split", array([1, 2]), array([2**62, 2**62], np.int64), outputs=2), "ShapeMismatch", []
    yield "Dropout", one("Dropout", array([1]), array(0.5), array([1])), "TypeMismatch", ["training_mode", "bool"]
    yield "DynamicQuantizeLinear", one("DynamicQuantizeLinear", array([1], np.int64), outputs=3), "TypeMismatch", \
        ["fp32"]
    heads = [np.ones((1, 1, 4), np.float32), empty(FLOAT, [1, 0, 4]), empty(FLOAT, [1, 0, 4])]
    yield "Attention over nothing", one("Attention", *heads, opset=24, q_num_heads=2, kv_num_heads=2), "done", []
    rows = [empty(FLOAT, [1, 1, 2**40, 0]), empty(FLOAT, [1, 1, 2, 0]), empty(FLOAT, [1, 1, 2, 0])]
    yield "Attention of empty rows", one("Attention", *rows, opset=24), "done", []
    yield "ReduceL2", one("ReduceL2", array([-(2**63)] * 4, np.int64)), "done", []
    yield "LinearAttention", one("LinearAttention", *[np.ones((1, 1, 4), np.float32)] * 3, opset=27, q_num_heads=2**62,
                                 kv_num_heads=1, update_rule="linear", outputs=2), "ShapeMismatch", ["more elements"]
    # Conversions of models that are wrong themselves: the model is blamed, not the converter.
    yield "convert: wrong types", one("MatMulInteger", array([[1]]), array([[1]])), "InvalidModel", ["MatMulInteger"]
    for name, attributes, code, parts in [
            ("no value", {}, "InvalidModel", ["'c'", "exactly one attribute"]),
            ("sparse", {"sparse_value": sparse()}, "Unsupported", ["'c'", "sparse"])]:
        nodes = [helper.make_node("Constant", [], ["c"], **attributes), helper.make_node("Add", ["x", "c"], ["y"])]
        model, inputs = graph(nodes, {"x": array([1, 2, 3, 4])}, ["y"])
        model.graph.value_info.append(helper.make_tensor_value_info("c", FLOAT, [4]))
        yield f"convert: {name}", (model, inputs), code, parts
    for names in ([], [""]):
        nodes = [helper.make_node("Dropout", names, ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
        yield "convert: Dropout of nothing", graph(nodes, {"x": array([1])}, ["y"]), "Unsupported", ["Dropout"]
    nodes = [helper.make_node("Cast", [""], ["c"], to=FLOAT), helper.make_node("MatMul", ["c", "x"], ["y"])]
    yield "convert: empty name", graph(nodes, {"x": array([[1]])}, ["y"]), "InvalidModel", ["Cast", "empty name"]


def sparse():
    values, places = helper.make_tensor("", FLOAT, [2], [1, 2]), helper.make_tensor("", INT64, [2], [0, 3])
    return helper.make_sparse_tensor(values, places, [4])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    arguments = parser.parse_args()
    runner, bad, count = Runner(arguments.program), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.onnx"
        for name, (model, inputs), code, parts in cases():
            path.write_bytes(model.SerializeToString())
            values = {n: v if isinstance(v, dict) else encode(v) for n, v in inputs.items()}
            answer = runner.run({"model": str(path), "half": name.startswith("convert"), "memory_limit": MEMORY_LIMIT,
                                 "inputs": values})
            got = answer.get("code", answer.get("stage", "died"))
            count += 1
            wrong = got in BAD_CODES or got != (code or got) or "died" in answer or answer.get("panics")
            if wrong or not all(part in answer.get("error", "") for part in parts):
                bad += 1
                print(f"{name}: {code} with {parts} was expected, but: {answer}", file=sys.stderr)
    runner.stop()
    print(f"{count - bad} of {count} models ended as they should")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
