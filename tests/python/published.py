#!/usr/bin/env python3
"""Judges the `mezzo` command on real published models, which come out of wheels of the Python package index.

    python tests/python/published.py --mezzo target/release/mezzo --cache .cache/published

Each model: `mezzo inspect --json` describes it as ONNX Runtime does; converted, with I/O converted and kept, it is valid,
loads in ONNX Runtime, stores its weights as half and computes the same within FP16 tolerance. README.md beside this file
says what is special about each model.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from digits import handwriting
from judge import FP16_TOLERANCE, FP32_TOLERANCE, MINIMUM_HALF_SHARE, as_half, expect_close, expect_io_types, run_onnxruntime, session
from mezzo_cli import Mezzo, file_stem
from onnx_facts import half_share
from verdicts import Verdicts, expect
from wheels import fetch

# Pinned package, and the models that its wheel must hold: one that is gone must not go unnoticed.
PACKAGES = {
    "magika==1.0.3": ["standard_v3_3/model"],
    "silero-vad==6.2.3": ["silero_vad", "silero_vad_16k_op15", "silero_vad_16k_sequence", "silero_vad_half",
                          "silero_vad_op18_ifless", "silero_vad_openvino_16k"],
    "rapidocr-onnxruntime==1.4.4": ["ch_PP-OCRv4_det_infer", "ch_PP-OCRv4_rec_infer", "ch_ppocr_mobile_v2.0_cls_infer"],
}
# Input shapes that the models are made for: 16 kHz frames with their context, a small page, lines of text.
VAD = {"input": (1, 576), "state": (2, 1, 128)}
SHAPES = {
    "model": {"bytes": (2, 2048)},
    "silero_vad": VAD, "silero_vad_16k_op15": VAD, "silero_vad_half": VAD, "silero_vad_op18_ifless": VAD,
    "silero_vad_openvino_16k": VAD,
    "silero_vad_16k_sequence": {"input": (5, 576), "h": (1, 1, 128), "c": (1, 1, 128)},
    "ch_PP-OCRv4_det_infer": {"x": (1, 3, 96, 160)},
    "ch_PP-OCRv4_rec_infer": {"x": (2, 3, 48, 160)},
    "ch_ppocr_mobile_v2.0_cls_infer": {"x": (2, 3, 48, 192)},
}
# The detector's output is a sigmoid whose edges are steep: 1.99e-2 in ONNX Runtime 1.32 on one machine, whose kernels sum in
# another order on the next. The bound of 2e-2 would pass or fail by chance.
STEEP = {"ch_PP-OCRv4_det_infer": 4e-2}
DTYPES = {"tensor(float)": "fp32", "tensor(float16)": "fp16", "tensor(int64)": "int64", "tensor(int32)": "int32",
          "tensor(bool)": "bool"}


def models(cache):
    """Name and path of each model, fetched if need be."""
    cache.mkdir(parents=True, exist_ok=True)
    for requirement, names in PACKAGES.items():
        for path in fetch(requirement, [f"{name}.onnx" for name in names], cache):
            yield path.stem if path.stem != "model" else requirement.split("==")[0], path


def make_inputs(path):
    """Seeded values that the model reacts to: handwriting for the readers of text, noise for audio, any bytes."""
    rng = np.random.default_rng(0)
    inputs = {}
    for value in session(path).get_inputs():
        if value.name == "sr":
            inputs["sr"] = np.array(16000, np.int64)
        elif value.name == "bytes":
            inputs["bytes"] = rng.integers(0, 256, SHAPES[path.stem]["bytes"]).astype(np.int32)
        elif value.name == "x":
            inputs["x"] = handwriting(*SHAPES[path.stem]["x"])
        else:
            inputs[value.name] = rng.normal(scale=0.3, size=SHAPES[path.stem][value.name]).astype(np.float32)
    return inputs


def dimension_matches(described, runtime, declared):
    """A name, a number, or null for neither.

    ONNX Runtime infers some output dimensions that the file leaves open; saying what the file says is right too.
    """
    return described == runtime or described == declared


def declared_shape(info):
    """The shape as the file has it. An exporter's dimension of -1 means that it is not known."""
    shape = [getattr(d, d.WhichOneof("value") or "", None) for d in info.type.tensor_type.shape.dim]
    return [None if isinstance(d, int) and d < 0 else d for d in shape]


def check_values(described, by_runtime, in_file):
    expect([v["name"] for v in described] == [v.name for v in by_runtime],
           f"names {[v['name'] for v in described]}, expected {[v.name for v in by_runtime]}")
    declared = {info.name: declared_shape(info) for info in in_file}
    for value, runtime in zip(described, by_runtime):
        name = value["name"]
        expect(value["dtype"] == DTYPES[runtime.type], f"{name} has dtype {value['dtype']}, expected {DTYPES[runtime.type]}")
        triples = list(zip(value["shape"], runtime.shape, declared[name]))
        expect(len(value["shape"]) == len(runtime.shape) and all(dimension_matches(*t) for t in triples),
               f"{name} has shape {value['shape']}, expected {runtime.shape}")


def check_inspect(path, mezzo):
    described, runtime, graph = mezzo.inspect(path), session(path), onnx.load(path).graph
    check_values(described["inputs"], runtime.get_inputs(), graph.input)
    check_values(described["outputs"], runtime.get_outputs(), graph.output)
    return f"{len(described['inputs'])} inputs, {len(described['outputs'])} outputs"


def check_pure(path, mezzo, work, kept):
    """All that is legal in half: valid, and it runs. How far its values are off is said, not judged."""
    target = work / f"{path.stem}-pure.onnx"
    mezzo.convert(path, target, "--policy", "pure", *(["--keep-io"] if kept else []))
    onnx.checker.check_model(str(target), full_check=True)
    expect_io_types(onnx.load(target), onnx.load(path), kept)
    inputs = make_inputs(path)
    got, want = run_onnxruntime(target, inputs if kept else as_half(inputs)), run_onnxruntime(path, inputs)
    worst = max(np.abs(got[name].astype(np.float64) - w).max() / np.abs(w).max() for name, w in want.items())
    return f"half {half_share(onnx.load(target)):.0%}, off by {worst:.1e}"


def check_run(path, mezzo, work, runs, tolerance):
    """The CPU backend against ONNX Runtime on the FP32 model."""
    inputs = make_inputs(path)
    expected = {file_stem(name): array for name, array in run_onnxruntime(path, inputs).items()}
    return f"off by {expect_close(mezzo.run(runs, inputs, work), expected, tolerance)}"


def check_conversion(path, mezzo, work, kept):
    target = work / f"{path.stem}-{'kept' if kept else 'half'}.onnx"
    mezzo.convert(path, target, *(["--keep-io"] if kept else []))
    onnx.checker.check_model(str(target), full_check=True)
    model = onnx.load(target)
    expect_io_types(model, onnx.load(path), kept)
    share = half_share(model)
    expect(share >= MINIMUM_HALF_SHARE, f"only {share:.0%} of the float bytes are half")
    inputs = make_inputs(path)
    got = run_onnxruntime(target, inputs if kept else as_half(inputs))
    worst = expect_close(got, run_onnxruntime(path, inputs), STEEP.get(path.stem, FP16_TOLERANCE))
    return f"half {share:.0%}, off by {worst}, {target.stat().st_size / path.stat().st_size:.0%} of the size"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mezzo", default="mezzo", help="the command to judge")
    parser.add_argument("--cache", type=Path, required=True, help="keep the downloaded models here")
    parser.add_argument("--only", metavar="TEXT", default="", help="models whose path contains this text")
    arguments = parser.parse_args()
    mezzo, verdicts = Mezzo(arguments.mezzo), Verdicts()
    for name, path in models(arguments.cache):
        if arguments.only not in str(path):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            verdicts.judge(name, "inspect", check_inspect, path, mezzo)
            verdicts.judge(name, "convert", check_conversion, path, mezzo, Path(scratch), False)
            verdicts.judge(name, "convert --keep-io", check_conversion, path, mezzo, Path(scratch), True)
            verdicts.judge(name, "pure", check_pure, path, mezzo, Path(scratch), False)
            verdicts.judge(name, "pure --keep-io", check_pure, path, mezzo, Path(scratch), True)
            verdicts.judge(name, "run fp32", check_run, path, mezzo, Path(scratch), path, FP32_TOLERANCE)
            half = Path(scratch) / f"{path.stem}-kept.onnx"
            verdicts.judge(name, "run fp16", check_run, path, mezzo, Path(scratch), half,
                           STEEP.get(path.stem, FP16_TOLERANCE))
    return verdicts.close()


if __name__ == "__main__":
    sys.exit(main())
