#!/usr/bin/env python3
"""The same models in PyTorch: FP16 eager, torch.compile, and FP32 with TF32; milliseconds on the device per execution.

    python benches/gpu/torch_peer.py [NAME ...]
"""
import json
import sys
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import make_zoo  # noqa: E402
import models  # noqa: E402

BATCHES = (1, 8, 32)
SEQUENCE = 128


def inputs_of(name, batch, dtype):
    if name == "bert_base":
        return (torch.randint(0, 30522, (batch, SEQUENCE), device="cuda"),
                torch.ones(batch, SEQUENCE, dtype=torch.int64, device="cuda"))
    return (torch.randn(batch, 3, 224, 224, device="cuda", dtype=dtype),)


def as_half(network):
    """Half parameters; the benchmark's BERT makes its mask in float, which torch's own .half() does not know."""
    network = network.half()
    forward = network.forward
    if type(network).__name__ == "Bert":
        def run(*inputs):
            with torch.autocast("cuda", dtype=torch.float16):
                return forward(*inputs)
        return run
    return network


def milliseconds(run, inputs, rounds=7):
    with torch.no_grad():
        for _ in range(5):
            run(*inputs)
        torch.cuda.synchronize()
        times = []
        for _ in range(rounds):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(30):
                run(*inputs)
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / 30)
    return sorted(times)[len(times) // 2]


def main():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or models.NAMES:
        torch.manual_seed(0)
        network = make_zoo.MODELS[name]()[0].eval().cuda()
        single = {batch: milliseconds(network, inputs_of(name, batch, torch.float32)) for batch in BATCHES}
        half = as_half(network)
        compiled = torch.compile(half, dynamic=False)  # each batch is compiled for itself
        for batch in BATCHES:
            inputs = inputs_of(name, batch, torch.float16)
            result = {"model": name, "batch": batch, "eager_fp32_ms": single[batch], "eager_fp16_ms": milliseconds(half, inputs)}
            try:
                result["compiled_fp16_ms"] = milliseconds(compiled, inputs)
            except Exception as reason:  # the compiler's own failures are of many kinds
                result["compiled_fp16"] = str(reason)[:200]
            print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}), flush=True)


if __name__ == "__main__":
    main()
