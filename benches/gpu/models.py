#!/usr/bin/env python3
"""Exports the models of the GPU benchmarks with a dynamic batch: random weights, no download.

    python benches/gpu/models.py FOLDER [NAME ...]

Needs torch, torchvision and onnx. The models are those of tools/make_zoo.py.
"""
import sys
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import make_zoo  # noqa: E402

NAMES = ["resnet50", "vit_b_16", "bert_base"]


def randomise(network):
    """Parameters and statistics that leave no output near zero."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
        if isinstance(module, torch.nn.Linear) and module.weight.abs().max() == 0:
            torch.nn.init.normal_(module.weight, std=0.05)


def export(name, folder):
    torch.manual_seed(0)
    network, inputs, options = make_zoo.MODELS[name]()
    network = network.eval()
    randomise(network)
    names = options.pop("input_names", ["x"])
    options = {"opset_version": 17, **options}
    path = folder / f"{name}.onnx"
    torch.backends.mha.set_fastpath_enabled(False)  # its operator has no form in ONNX
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, inputs, str(path), dynamo=False, input_names=names, output_names=["y"],
                          dynamic_axes={n: {0: "batch"} if name != "bert_base" else {0: "batch", 1: "sequence"} for n in [*names, "y"]}, **options)
    print(path, path.stat().st_size)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or NAMES:
        export(name, folder)


if __name__ == "__main__":
    main()
