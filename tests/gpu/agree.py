#!/usr/bin/env python3
"""Engines of TensorRT on a GPU against the CPU backend: FP32 and FP16 of each model on the same inputs.

    python tests/gpu/agree.py --mezzo MEZZO --library FOLDER MODEL.onnx [...] [--scratch FOLDER]

FP16 of TensorRT must agree with the CPU backend's FP16, and FP32 (TF32 off) with its FP32, within the bounds below, as shares of
an output's largest number. The engine's own layers are counted by the inspector.
"""
import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from mezzo_cli import Mezzo, MezzoError  # noqa: E402

FP16, FP32 = 2e-2, 2e-3
# The other sources need cuBLAS and cuDNN, which a machine may lack.
SOURCES = os.environ.get("MEZZO_TACTIC_SOURCES", "edge_mask_convolutions,jit_convolutions")
SIZES = {"batch": 4, "N": 4, "sequence": 24, "seq": 24, "length": 24}
KNOWN = {  # of the published models, which do not name their dimensions
    "ch_PP-OCRv4_det_infer": {"x": (1, 3, 96, 160)},
    "ch_PP-OCRv4_rec_infer": {"x": (2, 3, 48, 160)},
    "ch_ppocr_mobile_v2.0_cls_infer": {"x": (2, 3, 48, 192)},
    "silero_vad_16k_sequence": {"input": (5, 576), "h": (1, 1, 128), "c": (1, 1, 128)},
    "silero_vad_op18_ifless": {"input": (1, 576), "state": (2, 1, 128)},
}


def make_inputs(path):
    """Seeded inputs in the model's own types."""
    rng = np.random.default_rng(0)
    graph = onnx.load(path, load_external_data=False).graph
    constants = {i.name for i in graph.initializer}
    inputs = {}
    for value in (v for v in graph.input if v.name not in constants):
        tensor = value.type.tensor_type
        dims = [d.dim_value or SIZES.get(d.dim_param, 2) for d in tensor.shape.dim]
        dims = KNOWN.get(path.stem, {}).get(value.name, dims)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if value.name == "sr":
            inputs["sr"] = np.array(16000, np.int64)
        elif value.name == "attention_mask":
            inputs[value.name] = np.ones(dims, dtype)
        elif np.issubdtype(dtype, np.integer):
            inputs[value.name] = rng.integers(0, 100, dims).astype(dtype)
        else:
            # Blocks with noise on them: on noise alone images lead to nothing that a network was made for.
            array = rng.normal(size=dims)
            if len(dims) == 4 and dims[-1] >= 32:
                coarse = rng.normal(size=[*dims[:2], -(-dims[2] // 16), -(-dims[3] // 16)])
                array = 0.3 * array + coarse.repeat(16, 2).repeat(16, 3)[..., :dims[2], :dims[3]]
            inputs[value.name] = array.astype(dtype)
    return inputs


def difference(got, want):
    worst = 0.0
    for name, array in want.items():
        a, b = np.asarray(got[name], np.float64), np.asarray(array, np.float64)
        if a.shape != b.shape:
            return float("inf")
        if a.size:
            with np.errstate(invalid="ignore"):
                off = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b))
            # A NaN is right only where the other has one: a plain maximum would pass over it.
            off = np.nan_to_num(off, nan=np.inf, posinf=np.inf).max()
            worst = max(worst, float(off / max(np.abs(b[np.isfinite(b)]).max(initial=0), 1e-30)))
    return worst


class Judge:
    def __init__(self, mezzo, library, scratch):
        self.mezzo, self.library, self.scratch = mezzo, library, scratch

    def build(self, model, inputs, name, *options):
        engine = self.scratch / f"{name}.engine"
        shapes = {n: "x".join(map(str, a.shape)) for n, a in inputs.items() if a.ndim}
        profile = ";".join(f"{n}={s}:{s}:{s}" for n, s in shapes.items())
        began = time.monotonic()
        self.mezzo.call("build", model, engine, "--backend", "tensorrt", "--library", self.library, "--tactic-sources", SOURCES,
                        "--tf32", "false", *(["--profile", profile] if profile else []), *options)
        return engine, time.monotonic() - began

    def run(self, engine, inputs, folder):
        """The engine says which integer types its buffers hold: TensorRT 8 casts INT64."""
        held = {v["name"]: v["dtype"] for v in self.mezzo.inspect(engine)["inputs"]}
        inputs = {n: a.astype(np.int32) if held[n] == "int32" else a for n, a in inputs.items()}
        return Placed(self.mezzo, self.library).run(engine, inputs, folder)

    def judge(self, path):
        inputs = make_inputs(path)
        half = self.scratch / f"{path.stem}-half.onnx"
        self.mezzo.convert(path, half, "--keep-io")
        cpu32 = self.mezzo.run(path, inputs, self.scratch / "cpu32")
        cpu16 = self.mezzo.run(half, inputs, self.scratch / "cpu16")
        engine32, seconds32 = self.build(path, inputs, path.stem)
        engine16, seconds16 = self.build(half, inputs, f"{path.stem}-half")
        gpu32 = self.run(engine32, inputs, self.scratch / "gpu32")
        gpu16 = self.run(engine16, inputs, self.scratch / "gpu16")
        result = {
            "model": path.stem, "fp32": difference(gpu32, cpu32), "fp16": difference(gpu16, cpu16),
            "fp16_of_fp32": difference(gpu16, cpu32), "cpu_fp16_of_fp32": difference(cpu16, cpu32),
            "build_s": round(seconds32, 1), "build_fp16_s": round(seconds16, 1), **self.layers(engine16),
        }
        result["ok"] = result["fp32"] <= FP32 and result["fp16"] <= FP16
        return result

    def layers(self, engine):
        """How many layers of the engine itself have half and float outputs, as the inspector says."""
        text = json.loads(Mezzo(self.mezzo.program).call("inspect", engine, "--library", self.library, "--layers", "--json"))
        layers = find_layers(text)
        kinds = [layer_type(layer) for layer in layers if isinstance(layer, dict)]
        return {"layers": len(layers), "half_layers": kinds.count("half"), "float_layers": kinds.count("float")}


def find_layers(tree):
    """The list under "Layers", wherever it is."""
    if isinstance(tree, dict):
        if isinstance(tree.get("Layers"), list):
            return tree["Layers"]
        tree = list(tree.values())
    return next((found for part in tree if isinstance(part, (dict, list)) for found in [find_layers(part)] if found), []) \
        if isinstance(tree, list) else []


def layer_type(layer):
    formats = " ".join(str(o.get("Format/Datatype", "")) for o in layer.get("Outputs", []))
    return "half" if "Half" in formats or "FP16" in formats else "float" if "Float" in formats or "FP32" in formats else "other"


class Placed(Mezzo):
    """A command that knows where the library is."""

    def __init__(self, mezzo, library):
        super().__init__(mezzo.program)
        self.library = library

    def call(self, command, *arguments):
        return super().call(command, *arguments, "--library", self.library)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mezzo", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("models", nargs="+", type=Path)
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(Mezzo(arguments.mezzo), arguments.library, arguments.scratch or Path(folder))
        for path in arguments.models:
            try:
                result = judge.judge(path)
            except (MezzoError, KeyError, ValueError, OSError) as reason:
                result = {"model": path.stem, "ok": False, "error": str(reason)[:1000]}
            failed += not result["ok"]
            print(json.dumps({k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in result.items()}), flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
