#!/usr/bin/env python3
"""Builds the engines that are compared and measured on a GPU, several at once, and leaves those alone that are there already.

    python tests/gpu/engines.py FOLDER --mezzo MEZZO --library TENSORRT --models FOLDER [--published FOLDER] [--jobs N] [--only NAME,...]
        [--precisions fp16,fp32]

Prints a line of JSON for each engine. A timing cache beside the engines makes the next builds faster. Builds side by side time their
kernels less exactly: measure with nothing else running afterwards.
"""
import argparse
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import onnx

ROOT = Path(__file__).resolve().parents[2]
# The other sources need cuBLAS and cuDNN, which a machine may lack.
SOURCES = os.environ.get("MEZZO_TACTIC_SOURCES", "edge_mask_convolutions,jit_convolutions")
# What Mezzo refuses for TensorRT 8.5 and 8.6 is no failure of a build.
REFUSED = "TensorRT 8.5 was seen to exchange"
PRECISIONS = ["fp16", "fp32"]
IMAGES = "x=1x3x224x224:32x3x224x224:32x3x224x224"


@dataclass(frozen=True)
class Spec:
    """A model and how it is built. TF32 is for what is measured; what is only compared is exact in FP32."""

    name: str
    profile: str
    tf32: bool = False
    # The shapes of the inputs, where none is dynamic: TensorRT 8.5 tells the types of an engine's layers only then.
    fixed: tuple = ()

    def engine(self, folder, precision):
        return folder / f"{self.name}-{precision}.engine"


def some_of(known):
    """For argparse: names between commas, each of them one of these."""
    def read(text):
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"not known: {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
        return names
    return read


def fixed(name, **shapes):
    return Spec(name, "", fixed=tuple(shapes.items()))


# The quickest first, so that little time gives many.
SPECS = {spec.name: spec for spec in [
    Spec("digits", "image=1x1x8x8:4x1x8x8:8x1x8x8"),
    fixed("digits32"),
    fixed("ch_ppocr_mobile_v2.0_cls_infer", x=(2, 3, 48, 192)),
    fixed("silero_vad_16k_sequence", input=(5, 576)),
    fixed("silero_vad_op18_ifless", input=(1, 576), state=(2, 1, 128)),
    Spec("resnet50", IMAGES, tf32=True),
    fixed("ch_PP-OCRv4_det_infer", x=(1, 3, 96, 160)),
    fixed("ch_PP-OCRv4_rec_infer", x=(2, 3, 48, 160)),
    Spec("bert_base", "input_ids=1x16:32x128:32x128;attention_mask=1x16:32x128:32x128", tf32=True),
    Spec("vit_b_16", IMAGES, tf32=True),
    Spec("mobilenet_v3_large", "x=1x3x224x224:4x3x224x224:8x3x224x224"),
]}


def model_of(spec, models, published):
    """Where a model is, with its shapes fixed if the spec says so; or None."""
    places = [models / f"{spec.name}.onnx", ROOT / "tests/data/digits" / f"{spec.name}.onnx"]
    places += sorted(published.rglob(f"{spec.name}.onnx")) if published else []
    found = next((p for p in places if p.exists()), None)
    return with_shapes(found, dict(spec.fixed), models / "fixed" / f"{spec.name}.onnx") if found and spec.fixed else found


def with_shapes(path, shapes, copy):
    """A copy of a model whose inputs have these shapes; those of the other values follow from them."""
    if copy.exists():
        return copy
    model = onnx.load(path)
    for value in model.graph.input:
        if value.name in shapes:
            for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
                dim.dim_value = size
    del model.graph.value_info[:]
    copy.parent.mkdir(parents=True, exist_ok=True)
    part = copy.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    onnx.save(onnx.shape_inference.infer_shapes(model), part)
    part.rename(copy)
    return copy


def build(spec, precision, arguments):
    engine = spec.engine(arguments.folder, precision)
    result = {"engine": engine.stem}
    model = model_of(spec, arguments.models, arguments.published)
    if engine.exists() or model is None:
        return {**result, "skipped": "is there" if engine.exists() else "no model"}
    command = [arguments.mezzo, "build", model, engine, "--backend", "tensorrt", "--library", arguments.library, "--tactic-sources", SOURCES,
               "--timing-cache", arguments.folder / "timing.cache", *(["--profile", spec.profile] if spec.profile else []), "--json",
               *(["--precision", "fp16"] if precision == "fp16" else ["--tf32", str(spec.tf32).lower()])]
    began = time.monotonic()
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=arguments.limit)
    except subprocess.TimeoutExpired:
        return {**result, "error": f"not built in {arguments.limit} s"}
    result["seconds"] = round(time.monotonic() - began, 1)
    if done.returncode and REFUSED in done.stderr:
        return {**result, "refused": done.stderr.strip()[-1500:]}
    if done.returncode:
        return {**result, "error": done.stderr.strip()[-1500:]}
    return {**result, "megabytes": round(engine.stat().st_size / 1e6, 1), "nodes": json.loads(done.stdout).get("nodes")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mezzo", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--limit", type=int, default=900, help="seconds for one engine")
    parser.add_argument("--only", type=some_of(list(SPECS)), default=list(SPECS))
    parser.add_argument("--precisions", type=some_of(PRECISIONS), default=PRECISIONS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    wanted = [(spec, precision) for spec in SPECS.values() if spec.name in arguments.only
              for precision in arguments.precisions]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for done in [pool.submit(build, spec, precision, arguments) for spec, precision in wanted]:
            result = done.result()
            failed += "error" in result
            print(json.dumps(result), flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
