#!/usr/bin/env python3
"""Builds whole models with TensorRT-RTX, which needs no GPU: in FP32, and converted to FP16.

    python tests/python/tensorrt_models.py --mezzo mezzo --fixtures build/fixtures --cache build/published [--library FOLDER]

Made models (digits, encoders with ranges of batch and sequence, ResNet-18, a vision transformer) and published ones (three
readers of text, speech detectors without If). Each must build; its inputs and outputs have the model's types; the FP16 engine
has layers in half, no more in float than the conversion left, and a smaller plan. Where the library is not there
(tools/fetch_tensorrt.sh rtx) it says so and succeeds.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mezzo_cli import Mezzo, MezzoError
from published import models

ROOT = Path(__file__).parents[2]
TYPES = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.INT64: "int64", TensorProto.INT32: "int32"}
BATCH_AND_SEQUENCE = "input_ids=1x4:4x64:8x128;attention_mask=1x4:4x64:8x128"
PROFILES = {
    "digits": "image=1x1x8x8:8x1x8x8:32x1x8x8",
    "encoder": BATCH_AND_SEQUENCE,
    "encoder_ln": BATCH_AND_SEQUENCE,
    "resnet18": "image=1x3x224x224:8x3x224x224:32x3x224x224",
    "vit": "image=1x3x32x32:4x3x32x32:8x3x32x32",
    "ch_PP-OCRv4_det_infer": "x=1x3x64x64:1x3x320x320:2x3x640x640",
    "ch_PP-OCRv4_rec_infer": "x=1x3x48x32:4x3x48x320:8x3x48x640",
    "ch_ppocr_mobile_v2.0_cls_infer": "x=1x3x48x192:4x3x48x192:8x3x48x192",
    "silero_vad_16k_sequence": "input=1x576:5x576:32x576",
    "silero_vad_openvino_16k": None,
}


def vision_transformer(path, blocks=2, width=64, heads=4, patch=8, size=32):
    """A small vision transformer with the operators of its kind: LayerNormalization, Gelu, a class token."""
    rng = np.random.default_rng(3)
    nodes, weights = [], []

    def weight(name, *shape, scale=0.1):
        weights.append(numpy_helper.from_array(rng.normal(scale=scale, size=shape).astype(np.float32), name))
        return name

    def ints(name, *values):
        weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def op(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def norm(x, name):
        return op("LayerNormalization", [x, weight(f"{name}.w", width, scale=1), weight(f"{name}.b", width)], name, axis=-1)

    def linear(x, name, inside, outside):
        product = op("MatMul", [x, weight(f"{name}.w", inside, outside)], f"{name}.product")
        return op("Add", [product, weight(f"{name}.b", outside)], name)

    count = (size // patch) ** 2
    x = op("Conv", ["image", weight("patch.w", width, 3, patch, patch)], "patches", strides=[patch, patch])
    x = op("Reshape", [x, ints("flat", 0, width, count)], "columns")
    x = op("Transpose", [x], "tokens", perm=[0, 2, 1])
    batch = op("Shape", ["image"], "batch", start=0, end=1)
    shape = op("Concat", [batch, ints("one_token", 1, width)], "class_shape", axis=0)
    x = op("Concat", [op("Expand", [weight("class", 1, 1, width), shape], "class_tokens"), x], "with_class", axis=1)
    x = op("Add", [x, weight("positions", 1, count + 1, width)], "embedded")
    split, joined = ints("split", 0, 0, heads, width // heads), ints("joined", 0, 0, width)
    for i in range(blocks):
        b = f"block{i}"
        y = norm(x, f"{b}.norm1")
        q, k, v = (op("Transpose", [op("Reshape", [linear(y, f"{b}.{n}", width, width), split], f"{b}.{n}.split")],
                      f"{b}.{n}.heads", perm=[0, 2, 3, 1] if n == "k" else [0, 2, 1, 3]) for n in "qkv")
        scale = weight(f"{b}.scale", scale=0)
        weights[-1] = numpy_helper.from_array(np.float32((width // heads) ** -0.5), scale)
        scores = op("Mul", [op("MatMul", [q, k], f"{b}.scores"), scale], f"{b}.scaled")
        y = op("MatMul", [op("Softmax", [scores], f"{b}.weights", axis=-1), v], f"{b}.mixed")
        y = op("Reshape", [op("Transpose", [y], f"{b}.back", perm=[0, 2, 1, 3]), joined], f"{b}.joined")
        x = op("Add", [x, linear(y, f"{b}.out", width, width)], f"{b}.attended")
        y = op("Gelu", [linear(norm(x, f"{b}.norm2"), f"{b}.up", width, 4 * width)], f"{b}.gelu")
        x = op("Add", [x, linear(y, f"{b}.down", 4 * width, width)], f"{b}.end")
    x = op("Gather", [norm(x, "norm"), ints("first", 0)], "class_token", axis=1)
    linear(op("Squeeze", [x, ints("axis", 1)], "pooled"), "logits", width, 10)
    graph = helper.make_graph(
        nodes, "vit", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def declared(values):
    return [(v.name, TYPES.get(v.type.tensor_type.elem_type)) for v in values]


def told(values):
    return [(v["name"], v["dtype"]) for v in values]


def build(mezzo, path, profile, folder, library, *options):
    arguments = ["build", path, folder / "x.engine", "--backend", "tensorrt-rtx", "--library", library, "--json",
                 "--save-plan", folder / "x.plan", *options]
    built = json.loads(mezzo.call(*arguments, *(["--profile", profile] if profile else [])))
    return built, (folder / "x.plan").stat().st_size


def judge(mezzo, name, path, folder, library):
    model = onnx.load(path)
    weights = {i.name for i in model.graph.initializer}
    inputs, outputs = [v for v in model.graph.input if v.name not in weights], model.graph.output
    wide, wide_bytes = build(mezzo, path, PROFILES[name], folder, library)
    assert told(wide["inputs"]) == declared(inputs) and told(wide["outputs"]) == declared(outputs), told(wide["inputs"])
    assert wide["nodes"]["half"] == 0 and wide["nodes"]["float"] > 0, wide["nodes"]
    half_model = folder / "half.onnx"
    mezzo.convert(path, half_model)
    half, half_bytes = build(mezzo, half_model, PROFILES[name], folder, library, "--require-fp16")
    converted = onnx.load(half_model)
    kept = {i.name for i in converted.graph.initializer}
    inputs = [v for v in converted.graph.input if v.name not in kept]
    assert told(half["inputs"]) == declared(inputs) and told(half["outputs"]) == declared(converted.graph.output)
    assert half["nodes"]["half"] > half["nodes"]["float"], half["nodes"]
    assert half_bytes < wide_bytes, (half_bytes, wide_bytes)
    return (f"{name}: {wide['nodes']['float']} layers in float; converted {half['nodes']['half']} in half and "
            f"{half['nodes']['float']} in float; plans of {wide_bytes} and {half_bytes} bytes")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mezzo", default="mezzo")
    parser.add_argument("--fixtures", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--library", type=Path, default=ROOT / "build/tensorrt")
    arguments = parser.parse_args()
    if not arguments.library.exists():
        print(f"SKIPPED models for TensorRT-RTX: it is not in {arguments.library} (tools/fetch_tensorrt.sh rtx)")
        return
    mezzo, failed = Mezzo(arguments.mezzo), 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = {name: arguments.fixtures / f"{name}.onnx" for name in ("encoder", "encoder_ln", "resnet18")}
        paths |= {"digits": ROOT / "tests/data/digits/digits.onnx", "vit": vision_transformer(folder / "vit.onnx")}
        paths |= {name: path for name, path in models(arguments.cache) if name in PROFILES}
        assert set(paths) == set(PROFILES), set(PROFILES) - set(paths)
        for name, path in paths.items():
            try:
                print(judge(mezzo, name, path, folder, arguments.library))
            except (AssertionError, MezzoError, KeyError) as e:
                failed += 1
                print(f"{name}: FAILED: {type(e).__name__}: {e}")
    print(f"TensorRT-RTX: {len(PROFILES) - failed} of {len(PROFILES)} models build in FP32 and FP16")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
