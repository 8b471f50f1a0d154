#!/usr/bin/env python3
"""Exports whole models as PyTorch writes them: random weights, random BatchNorm statistics, no download.

    python tools/make_zoo.py build/zoo [--only NAME ...]

Run with what tools/requirements-zoo.txt pins. Not part of "make test": tests need no torch. tests/python/zoo_judge.py judges
the conversion of these models; results are in docs/zoo.md.
"""

import argparse
from pathlib import Path

import numpy
import onnx
import torch
import torchvision
from torch import nn

MODELS = {}


def model(function):
    MODELS[function.__name__] = function
    return function


def image(size=224):
    return (torch.randn(1, 3, size // 32, size // 32).repeat_interleave(32, 2).repeat_interleave(32, 3)
            + 0.3 * torch.randn(1, 3, size, size),)


@model
def resnet50():
    return torchvision.models.resnet50(), image(), {}


@model
def mobilenet_v3_large():
    return torchvision.models.mobilenet_v3_large(), image(), {}


@model
def efficientnet_b0():
    return torchvision.models.efficientnet_b0(), image(), {}


@model
def convnext_tiny():
    return torchvision.models.convnext_tiny(), image(), {}


@model
def vit_b_16():
    return torchvision.models.vit_b_16(), image(), {}


class Bert(nn.Module):
    """BERT-base's encoder, its mask of -1e9 and its epsilon of 1e-12, written out as old exports have it."""

    def __init__(self, layers=12, width=768, heads=12):
        super().__init__()
        self.heads = heads
        self.words, self.places = nn.Embedding(30522, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(nn.ModuleDict({
            "qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width), "norm1": nn.LayerNorm(width, eps=1e-12),
            "up": nn.Linear(width, 4 * width), "down": nn.Linear(4 * width, width),
            "norm2": nn.LayerNorm(width, eps=1e-12)}) for _ in range(layers))

    def forward(self, input_ids, attention_mask):
        mask = (1.0 - attention_mask[:, None, None, :].float()) * -1e9
        x = self.norm(self.words(input_ids) + self.places(torch.arange(input_ids.shape[1], device=input_ids.device)))
        for layer in self.layers:
            b, s, w = x.shape
            q, k, v = layer["qkv"](x).reshape(b, s, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
            scores = q @ k.transpose(-1, -2) / (w // self.heads) ** 0.5 + mask
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, s, w)
            x = layer["norm1"](x + layer["out"](mixed))
            x = layer["norm2"](x + layer["down"](nn.functional.gelu(layer["up"](x))))
        return x


@model
def bert_base():
    mask = torch.ones(2, 16, dtype=torch.int64)
    mask[1, 9:] = 0
    inputs = (torch.randint(0, 30522, (2, 16)), mask)
    return Bert(), inputs, {"input_names": ["input_ids", "attention_mask"], "opset_version": 13}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(40, 128, num_layers=2, bidirectional=True)
        self.gru = nn.GRU(256, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.gru(self.lstm(x)[0])[0])


@model
def lstm():
    return Recurrent(), (torch.randn(20, 2, 40),), {}


class Scripted(nn.Module):
    """If and Loop, as torch.jit.script leaves them."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x, steps: int):
        h = torch.tanh(self.up(x))
        for i in range(steps):
            h = torch.relu(self.down(h)) + x if i % 2 == 0 else torch.tanh(self.up(h)) * 0.5
        if h.sum() > 0:
            y = torch.softmax(h, -1)
        else:
            y = torch.sigmoid(h) - 0.5
        return y + h


@model
def scripted():
    return torch.jit.script(Scripted().eval()), (torch.randn(4, 64), 5), {"input_names": ["x", "steps"]}


class Unet(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        def block(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(),
                                 nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
        self.down = nn.ModuleList([block(3, width), block(width, 2 * width), block(2 * width, 4 * width)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), nn.ConvTranspose2d(2 * width, width, 2, 2)])
        self.merge = nn.ModuleList([block(4 * width, 2 * width), block(2 * width, width)])
        self.head = nn.Conv2d(width, 4, 1)

    def forward(self, x):
        skips = []
        for block in self.down[:-1]:
            x = block(x)
            skips.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.down[-1](x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips)):
            x = merge(torch.cat([up(x), skip], 1))
        return self.head(x)


@model
def unet():
    return Unet(), image(128), {}


class Detector(nn.Module):
    """A pyramid with Resize, the best scores by TopK, their boxes decoded, NonMaxSuppression."""

    def __init__(self):
        super().__init__()
        trunk = torchvision.models.resnet18()
        self.stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool, trunk.layer1, trunk.layer2)
        self.deep = nn.Sequential(trunk.layer3)
        self.side, self.top = nn.Conv2d(128, 64, 1), nn.Conv2d(256, 64, 1)
        self.scores, self.boxes = nn.Conv2d(64, 2, 3, padding=1), nn.Conv2d(64, 8, 3, padding=1)

    def forward(self, x):
        low = self.stem(x)
        merged = self.side(low) + nn.functional.interpolate(self.top(self.deep(low)), size=low.shape[-2:], mode="nearest")
        scores = self.scores(merged).sigmoid().flatten(1)[0]
        deltas = self.boxes(merged).reshape(1, 2, 4, -1).transpose(2, 3).reshape(-1, 4)
        best, index = scores.topk(100)
        h, w = merged.shape[-2:]
        cell = index % (h * w)
        centre = torch.stack([cell % w, cell // w], 1).float() * 8 + 4
        chosen = deltas[index]
        size = chosen[:, 2:].clamp(-2, 2).exp() * 16
        middle = centre + chosen[:, :2] * 8
        boxes = torch.cat([middle - size / 2, middle + size / 2], 1)
        keep = torchvision.ops.nms(boxes, best, 0.5)
        return boxes[keep], best[keep], scores


@model
def detector():
    return Detector(), image(), {"output_names": ["boxes", "best", "scores"]}


def randomise(network):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.6, 1.8)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, 0, module.in_features ** -0.5)  # a head that starts at zero would answer zero
        elif hasattr(module, "layer_scale"):
            nn.init.uniform_(module.layer_scale, 0.1, 0.3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=sorted(MODELS), metavar="NAME", default=list(MODELS))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        torch.manual_seed(1)
        network, inputs, options = MODELS[name]()
        if not isinstance(network, torch.jit.ScriptModule):
            randomise(network)
            network.eval()
        path = arguments.folder / f"{name}.onnx"
        torch.onnx.export(network, inputs, str(path), dynamo=False, **({"opset_version": 17} | options))
        names = [i.name for i in onnx.load(path).graph.input]
        numpy.savez(path.with_suffix(".npz"), **dict(zip(names, (torch.as_tensor(i).numpy() for i in inputs))))
        print(f"{name:20} {path.stat().st_size / 1e6:8.1f} MB", flush=True)


if __name__ == "__main__":
    main()
