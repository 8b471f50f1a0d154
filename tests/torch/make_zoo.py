#!/usr/bin/env python3
"""Makes PyTorch archives to judge the PyTorch frontend by: torchvision, timm, Transformers and small models.

Each model gets random parameters (default initialisation gives outputs near zero, which any tolerance passes) and
BatchNorm statistics near those of its own activations (measure_statistics says how). It is saved in the forms asked for,
and has its inputs and outputs beside it:

    FOLDER/NAME.pt2          torch.export, as exported
    FOLDER/NAME.core.pt2     torch.export, decomposed
    FOLDER/NAME.traced.pt    TorchScript by trace
    FOLDER/NAME.scripted.pt  TorchScript by script
    FOLDER/NAME.traced_frozen.pt, FOLDER/NAME.scripted_frozen.pt  those two, frozen: parameters are constants of the code
    FOLDER/NAME.npz          in_0..., out_0... of torch in float32, double_0... in float64, and half_0... in half on the
                             CPU; the latter two where torch can
    FOLDER/failed.txt        what torch itself could not save

It prints how far torch's float32 is from its float64, and how much the outputs change with other inputs.

    make_zoo.py FOLDER [--only NAME,...] [--forms pt2,core,traced,scripted,traced_frozen,scripted_frozen] [--list]
                [--statistics]

--statistics makes only the models that have BatchNorm.
"""
import argparse
import copy
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from judge import difference
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
    """BatchNorm of a well-conditioned model: what a rounding error in one layer is worth must not grow from layer to layer,
    or any two orders of a sum end up far apart and the comparison judges the chance of it.

    Scales are the second moments of the model's own activations (a variance can be tiny beside the mean, and dividing by
    it amplifies the mean's error); means are a part of the activations' own; and the shift is positive, so that most
    activations pass a ReLU: where half of them are cut, a deep random network without residuals is chaotic. Each layer is
    measured behind those that have theirs already."""

    def measure(norm, given):
        x = given[0].transpose(0, 1).flatten(1)
        scale = x.square().mean(1) + 1e-6
        norm.running_mean.copy_(x.mean(1) * torch.rand_like(scale) + 0.1 * scale.sqrt() * torch.randn_like(scale))
        norm.running_var.copy_(scale * (0.5 + torch.rand_like(scale)))
        if norm.affine:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.copy_(1 + 0.1 * torch.randn_like(scale))

    hooks = [n.register_forward_pre_hook(measure) for n in m.modules() if has_statistics(n)]
    if hooks:
        m(*(torch.cat([x] + [torch.randn_like(x) for _ in range(7)]) for x in inputs))
    for hook in hooks:
        hook.remove()


def has_statistics(module):
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats


def conditioning(m, inputs, outputs, exact):
    """How far torch's own float32 is from its float64, and how much the outputs change with other inputs: the first has to
    be far below the tolerance, the second far above it, or nothing can be judged by the model."""
    with torch.no_grad():
        others = flatten(m(*(torch.randn_like(x) if x.is_floating_point() else x.flip(-1) for x in inputs)))
    far = [[t.detach().numpy() for t in side] for side in (outputs, exact, others)]
    return difference(far[0], far[1]), difference(far[2], far[0])


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
    parser.add_argument("--statistics", action="store_true")
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
            if args.statistics and not any(map(has_statistics, m.modules())):
                continue
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
        exact = [torch.from_numpy(a) for k, a in arrays.items() if k.startswith("double_")]
        if exact:
            near, moved = conditioning(m, inputs, outputs, exact)
            print(f"{name}: float32 is {near:.1e} from float64, other inputs change the outputs by {moved:.1e}", flush=True)
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
