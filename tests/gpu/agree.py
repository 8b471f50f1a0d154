#!/usr/bin/env python3
"""Engines of TensorRT on a GPU against the CPU backend: FP32 and FP16 of each model on the same inputs.

    python tests/gpu/agree.py ENGINES --mezzo MEZZO --library TENSORRT --models FOLDER [--published FOLDER] [--only NAME,...]

ENGINES is what tests/gpu/engines.py built. FP16 of TensorRT must agree with the CPU backend's FP16, and FP32 with its FP32, within the
bounds below, as shares of an output's largest number. The engine's own layers are counted by the inspector.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "python"))
from engines import SPECS, model_of, some_of  # noqa: E402
from digits import handwriting  # noqa: E402
from mezzo_cli import Mezzo, MezzoError  # noqa: E402

# TF32 has the mantissa of half.
FP16, TF32, FP32 = 2e-2, 2e-2, 2e-3
# The text detector ends in a sigmoid whose edges are steep: tests/python/published.py has the reason.
STEEP = {"ch_PP-OCRv4_det_infer": 4e-2}
PAGES = {"ch_PP-OCRv4_det_infer": (1, 3, 96, 160), "ch_PP-OCRv4_rec_infer": (2, 3, 48, 160),
         "ch_ppocr_mobile_v2.0_cls_infer": (2, 3, 48, 192)}
# Sizes of dimensions by name; of each list one after the other.
SIZES = {"bert_base": [{"batch": 4, "sequence": 24}, {"batch": 1, "sequence": 128}, {"batch": 3, "sequence": 77}]}
KNOWN = {  # of the published models, which do not name their dimensions
    "silero_vad_16k_sequence": {"input": (5, 576), "h": (1, 1, 128), "c": (1, 1, 128)},
    "silero_vad_op18_ifless": {"input": (1, 576), "state": (2, 1, 128)},
}


def image(rng, dims):
    """Blocks with noise on them: on noise alone images lead to nothing that a network was made for."""
    array = rng.normal(size=dims)
    if len(dims) == 4 and dims[-1] >= 32:
        coarse = rng.normal(size=[*dims[:2], -(-dims[2] // 16), -(-dims[3] // 16)])
        array = 0.3 * array + coarse.repeat(16, 2).repeat(16, 3)[..., :dims[2], :dims[3]]
    return array


def make_inputs(path, sizes):
    """Seeded inputs in the model's own types."""
    rng = np.random.default_rng(0)
    graph = onnx.load(path, load_external_data=False).graph
    constants = {i.name for i in graph.initializer}
    inputs = {}
    for value in (v for v in graph.input if v.name not in constants):
        tensor = value.type.tensor_type
        dims = [d.dim_value or sizes.get(d.dim_param, 2) for d in tensor.shape.dim]
        dims = KNOWN.get(path.stem, {}).get(value.name, dims)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if value.name == "sr":
            inputs["sr"] = np.array(16000, np.int64)
        elif value.name == "attention_mask":
            inputs[value.name] = np.ones(dims, dtype)
            inputs[value.name][1::2, dims[1] * 2 // 3:] = 0
        elif np.issubdtype(dtype, np.integer):
            inputs[value.name] = rng.integers(0, 100, dims).astype(dtype)
        elif path.stem in PAGES:
            inputs[value.name] = handwriting(*PAGES[path.stem])
        else:
            inputs[value.name] = image(rng, dims).astype(dtype)
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

    def run(self, engine, inputs, folder):
        """The engine says which types its buffers hold: TensorRT 8 casts INT64, and a converted model takes halves."""
        held = {v["name"]: v["dtype"] for v in self.mezzo.inspect(engine)["inputs"]}
        kinds = {"int32": np.int32, "fp16": np.float16}
        inputs = {n: a.astype(kinds.get(held[n], a.dtype)) for n, a in inputs.items()}
        placed = Placed(self.mezzo, self.library) if engine.suffix == ".engine" else self.mezzo
        return placed.run(engine, inputs, folder)

    def judge(self, spec, path, engines):
        half = self.scratch / f"{path.stem}-half.onnx"
        self.mezzo.convert(path, half)
        single_engine, half_engine = spec.engine(engines, "fp32"), spec.engine(engines, "fp16")
        off = {"fp32": 0.0, "fp16": 0.0, "fp16_of_fp32": 0.0, "cpu_fp16_of_fp32": 0.0}
        cases = SIZES.get(path.stem, [{"batch": 4}])
        for sizes in cases:
            inputs = make_inputs(path, sizes)
            cpu32 = self.run(path, inputs, self.scratch / "cpu32")
            cpu16 = self.run(half, inputs, self.scratch / "cpu16")
            gpu16 = self.run(half_engine, inputs, self.scratch / "gpu16")
            found = {"fp16": difference(gpu16, cpu16), "fp16_of_fp32": difference(gpu16, cpu32),
                     "cpu_fp16_of_fp32": difference(cpu16, cpu32)}
            if single_engine.exists():
                found["fp32"] = difference(self.run(single_engine, inputs, self.scratch / "gpu32"), cpu32)
            off.update({k: max(off[k], v) for k, v in found.items()})
        if not single_engine.exists():
            off["fp32"] = None
        result = {"model": path.stem, **off, "tf32": spec.tf32, "cases": len(cases), **self.layers(half_engine)}
        bound = STEEP.get(path.stem, FP16)
        result["ok"] = (result["fp32"] is not None and result["fp32"] <= (TF32 if spec.tf32 else FP32) and result["fp16"] <= bound
                        and runs_in_half(result))
        return result

    def layers(self, engine):
        return count_layers(json.loads(self.mezzo.call("inspect", engine, "--library", self.library, "--layers", "--json")))


def find_layers(tree):
    return find_list(tree, "Layers")


def find_list(tree, key):
    """The list under a key, wherever it is."""
    if isinstance(tree, dict):
        if isinstance(tree.get(key), list):
            return tree[key]
        tree = list(tree.values())
    parts = tree if isinstance(tree, list) else []
    return next((found for part in parts if isinstance(part, (dict, list)) for found in [find_list(part, key)] if found), [])


def count_layers(told):
    """How many layers of the engine itself have half and float outputs, as the inspector says, and of how many it tells no type.

    A ForeignNode is a whole graph that TensorRT compiled as one. What it computes in is not told, and where all its outputs are the
    engine's own, with the types that the caller wants, its outputs say nothing of it either: such layers are "opaque"."""
    layers, ends = find_layers(told), set(find_list(told, "Bindings"))
    counts = dict.fromkeys(["half", "float", "other", "opaque", "untold"], 0)
    for layer in layers:
        counts[layer_type(layer, ends) if isinstance(layer, dict) else "untold"] += 1
    return {"layers": len(layers), **{f"{kind}_layers": count for kind, count in counts.items()}}


def runs_in_half(counts):
    """Half layers were found; or none are told to be float. TensorRT 8.5 tells no types where shapes are dynamic: those layers are
    counted as untold, and nothing is claimed of them."""
    return counts["half_layers"] > 0 or counts["float_layers"] == 0


def layer_type(layer, ends):
    outputs = layer.get("Outputs", [])
    formats = " ".join(str(o.get("Format/Datatype", "")) for o in outputs)
    if not formats or "N/A" in formats:
        return "untold"
    if "Half" in formats or "FP16" in formats:
        return "half"
    if "ForeignNode" in layer.get("Name", "") and all(o.get("Name") in ends for o in outputs):
        return "opaque"
    return "float" if "Float" in formats or "FP32" in formats else "other"


class Placed(Mezzo):
    """A command that knows where the library is."""

    def __init__(self, mezzo, library):
        super().__init__(mezzo.program)
        self.library = library

    def call(self, command, *arguments):
        return super().call(command, *arguments, "--library", self.library)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", type=Path)
    parser.add_argument("--mezzo", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--only", type=some_of(list(SPECS)), default=list(SPECS))
    arguments = parser.parse_args()
    failed = 0
    for spec in (s for s in SPECS.values() if s.name in arguments.only):
        path = model_of(spec, arguments.models, arguments.published)
        if path is None or not spec.engine(arguments.engines, "fp16").exists():
            print(json.dumps({"model": spec.name, "skipped": "no model" if path is None else "no FP16 engine"}), flush=True)
            continue
        with tempfile.TemporaryDirectory() as scratch:
            try:
                result = Judge(Mezzo(arguments.mezzo), arguments.library, Path(scratch)).judge(spec, path, arguments.engines)
            except (MezzoError, KeyError, ValueError, OSError) as reason:
                result = {"model": path.stem, "ok": False, "error": str(reason)[:1000]}
        failed += not result["ok"]
        print(json.dumps({k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in result.items()}), flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
