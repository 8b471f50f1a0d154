#!/usr/bin/env python3
"""Makes PyTorch archives to judge the PyTorch frontend by: torchvision, timm, Transformers and small models.

Each model gets random parameters (default initialisation gives outputs near zero, which any tolerance passes) and
BatchNorm statistics that are off from those of its own activations by chance, as a trained model's are. It is saved in the forms asked for, and has its inputs and outputs beside it:

    FOLDER/NAME.pt2          torch.export, as exported
    FOLDER/NAME.core.pt2     torch.export, decomposed
    FOLDER/NAME.traced.pt    TorchScript by trace
    FOLDER/NAME.scripted.pt  TorchScript by script
    FOLDER/NAME.traced_frozen.pt, FOLDER/NAME.scripted_frozen.pt  those two, frozen: parameters are constants of the code
    FOLDER/NAME.npz          in_0..., out_0... of torch in float32, double_0... in float64, and half_0... in half on the
                             CPU; the latter two where torch can
    FOLDER/failed.txt        what torch itself could not save

    make_zoo.py FOLDER [--only NAME,...] [--forms pt2,core,traced,scripted,traced_frozen,scripted_frozen] [--list]
"""
import argparse
import copy
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from zoo import ZOO

warnings.filterwarnings("ignore")


def randomise(m, inputs):
    """Parameters and statistics that keep activations near 1 but differ everywhere."""
    with torch.no_grad():
        for name, p in m.named_parameters():
            if p.dim() > 1:
                fan = p[0].numel()
                p.copy_(torch.randn_like(p) * (1.2 / max(fan, 1)) ** 0.5)
            elif name.endswith("weight") or "gamma" in name or "scale" in name:
                p.copy_(1 + 0.2 * torch.randn_like(p))
            else:
                p.copy_(0.1 * torch.randn_like(p))
        measure_statistics(m, inputs)


def measure_statistics(m, inputs):
    """Running statistics of the activations themselves, off by chance: with any others the activations grow from layer to
    layer, until float32 itself is far from float64. Each layer is measured behind those that have theirs already."""

    def measure(norm, given):
        x = given[0].transpose(0, 1).flatten(1)
        mean, var = x.mean(1), x.var(1)
        # A channel that hardly changes is not amplified without bound.
        var = torch.maximum(var, 0.2 * var.mean() + 1e-6)
        norm.running_mean.copy_(mean + 0.1 * var.sqrt() * torch.randn_like(var))
        norm.running_var.copy_(var * (0.5 + torch.rand_like(var)))

    norms = [n for n in m.modules() if isinstance(n, nn.modules.batchnorm._BatchNorm) and n.track_running_stats]
    hooks = [n.register_forward_pre_hook(measure) for n in norms]
    if hooks:
        m(*(torch.cat([x] + [torch.randn_like(x) for _ in range(7)]) for x in inputs))
    for hook in hooks:
        hook.remove()


def run(m, inputs, dtype):
    """The outputs of a copy of the model in another type; none where torch has no kernel for it."""
    try:
        other = copy.deepcopy(m).to(dtype)
        with torch.no_grad():
            return flatten(other(*(x.to(dtype) if x.is_floating_point() else x for x in inputs)))
    except Exception as e:
        print(f"  torch cannot run it in {dtype}: {str(e).strip().splitlines()[0][:120] if str(e) else type(e)}", flush=True)
        return []


def flatten(out):
    if isinstance(out, torch.Tensor):
        return [out]
    if isinstance(out, dict):
        out = list(out.values())
    return [t for o in out if o is not None for t in flatten(o)]


def save(form, m, inputs, path):
    if form in ("pt2", "core"):
        program = torch.export.export(m, inputs, strict=False)
        if form == "core":
            program = program.run_decompositions()
        torch.export.save(program, path)
        return
    traced = form.startswith("traced")
    program = torch.jit.trace(m, inputs, check_trace=False) if traced else torch.jit.script(m)
    torch.jit.save(torch.jit.freeze(program) if form.endswith("frozen") else program, path)


ENDINGS = {"pt2": ".pt2", "core": ".core.pt2", "traced": ".traced.pt", "scripted": ".scripted.pt",
           "traced_frozen": ".traced_frozen.pt", "scripted_frozen": ".scripted_frozen.pt"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=Path("torchzoo"))
    parser.add_argument("--only", default="")
    parser.add_argument("--forms", default=",".join(ENDINGS))
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    only = [n for n in args.only.split(",") if n]
    if args.list:
        print("\n".join(ZOO))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in only or ZOO:
        torch.manual_seed(1)
        try:
            m, inputs = ZOO[name]()
            m.eval()
            randomise(m, inputs)
            with torch.no_grad():
                outputs = flatten(m(*inputs))
        except Exception as e:
            print(f"{name}: cannot be made: {str(e)[:200]}")
            continue
        arrays = {f"in_{i}": t.numpy() for i, t in enumerate(inputs)}
        arrays |= {f"out_{i}": t.detach().numpy() for i, t in enumerate(outputs)}
        for word, dtype in (("double", torch.float64), ("half", torch.float16)):
            arrays |= {f"{word}_{i}": t.detach().numpy() for i, t in enumerate(run(m, inputs, dtype))}
        np.savez(args.folder / f"{name}.npz", **arrays)
        for form in args.forms.split(","):
            try:
                with torch.no_grad():
                    save(form, m, inputs, str(args.folder / (name + ENDINGS[form])))
                print(f"{name} {form}: saved", flush=True)
            except Exception as e:
                with open(args.folder / "failed.txt", "a") as f:
                    f.write(f"{name} {form}: {str(e)[:300]!r}\n")
                print(f"{name} {form}: torch cannot: {str(e).strip().splitlines()[0][:120] if str(e) else type(e)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
