#!/usr/bin/env python3
"""Writes the small models of the suite: shapes that are not known beforehand, and fixed ones.

    python tests/gpu/models.py FOLDER
"""
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

DIGITS = Path(__file__).resolve().parents[1] / "data" / "digits" / "digits.onnx"


def save(path, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    node, info = helper.make_node, helper.make_tensor_value_info
    # The positive numbers of x, and where they are: the data decides how many.
    save(folder / "select.onnx", [
        node("Greater", ["x", "zero"], ["positive"]), node("NonZero", ["positive"], ["where"]),
        node("Transpose", ["where"], ["indices"], perm=[1, 0]), node("GatherND", ["x", "indices"], ["values"]),
    ], [info("x", TensorProto.FLOAT, ["n"])],
        [info("values", TensorProto.FLOAT, ["k"]), info("where", TensorProto.INT64, [1, "k"])],
        [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])])
    # The same, with an output of x's size and one of a fixed size.
    save(folder / "mixed.onnx", [
        node("Mul", ["x", "two"], ["doubled"]), node("ReduceMax", ["x"], ["largest"], keepdims=1),
        node("Greater", ["x", "zero"], ["positive"]), node("NonZero", ["positive"], ["where"]),
        node("Transpose", ["where"], ["indices"], perm=[1, 0]), node("GatherND", ["x", "indices"], ["values"]),
    ], [info("x", TensorProto.FLOAT, ["n"])],
        [info("doubled", TensorProto.FLOAT, ["n"]), info("values", TensorProto.FLOAT, ["k"]),
         info("largest", TensorProto.FLOAT, [1])],
        [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]), helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])])
    # Branches with constants of their own, which read a value of the graph around them: with one output, and with two.
    def branch(name, factor, outputs):
        made = [info(f"{name}_small", TensorProto.FLOAT, [1, 4]), info(f"{name}_large", TensorProto.FLOAT, [1, 2, 4])]
        return helper.make_graph(
            [node("Mul", ["x", f"{name}_factor"], [f"{name}_small"]), node("Concat", [f"{name}_small", "x"], [f"{name}_two"], axis=0),
             node("Unsqueeze", [f"{name}_two", f"{name}_axes"], [f"{name}_large"])],
            name, [], made[:outputs],
            [helper.make_tensor(f"{name}_factor", TensorProto.FLOAT, [], [factor]), helper.make_tensor(f"{name}_axes", TensorProto.INT64, [1], [0])])
    for stem, names in [("branch", ["small"]), ("branches", ["small", "large"])]:
        yes, no = branch("yes", 2.0, len(names)), branch("no", -3.0, len(names))
        outputs = [info("small", TensorProto.FLOAT, [1, 4]), info("large", TensorProto.FLOAT, [1, 2, 4])]
        save(folder / f"{stem}.onnx", [
            node("ReduceMax", ["x"], ["most"], keepdims=0), node("Greater", ["most", "zero"], ["positive"]),
            node("If", ["positive"], names, then_branch=yes, else_branch=no),
        ], [info("x", TensorProto.FLOAT, [1, 4])], outputs[:len(names)], [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])])
    # A row, repeated to the size that an input says.
    save(folder / "expand.onnx", [node("Expand", ["x", "size"], ["rows"]), node("Add", ["rows", "rows"], ["y"])],
         [info("x", TensorProto.FLOAT, [1, 4]), info("size", TensorProto.INT64, [2])], [info("y", TensorProto.FLOAT, ["a", "b"])])
    # The digits for 32 images: TensorRT 8.5 tells the types of layers only where all shapes are fixed.
    digits = onnx.load(DIGITS)
    for value in [*digits.graph.input, *digits.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 32
    del digits.graph.value_info[:]
    onnx.save(digits, folder / "digits32.onnx")


if __name__ == "__main__":
    main()
