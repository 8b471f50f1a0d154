#!/usr/bin/env python3
"""Runs a mezzo command over the archives of make_zoo.py and counts, for each form, those whose outputs agree with torch's.

    judge.py FOLDER [--mezzo PATH] [--only NAME,...] [--forms pt2,core,traced,scripted,traced_frozen,scripted_frozen]
             [--half] [--names FILE]

An archive agrees when every output is within 1e-4 of torch's in float64 (in FP32 where torch cannot run the model so),
relative to the largest magnitude in that output (with --half: the model converted to FP16 first, within 2e-2; beside it,
what torch's own run in half is off by, where there is one). --names takes only the models that a file lists, one a line (half.py writes one). Needs numpy alone.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FORMS = {"pt2": ".pt2", "core": ".core.pt2", "traced": ".traced.pt", "scripted": ".scripted.pt",
         "traced_frozen": ".traced_frozen.pt", "scripted_frozen": ".scripted_frozen.pt"}


def archives(folder, forms, only):
    for values in sorted(folder.glob("*.npz")):
        name = values.name[: -len(".npz")]
        if only and name not in only:
            continue
        for form in forms:
            path = folder / (name + FORMS[form])
            if path.exists():
                yield name, form, path, values


def call(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"exit status {done.returncode}")
    return done.stdout


def shapes(arrays):
    for a in arrays:
        shape = "x".join(map(str, a.shape)) or "scalar"
        yield from ("--input-shape", f"{shape}:{a.dtype}")


def judge(mezzo, path, values, scratch, half):
    """The largest error relative to its output's largest magnitude."""
    stored = np.load(values)
    wanted = truth(stored)
    outputs = outputs_of(mezzo, path, arrays(stored, "in_"), scratch, half)
    if len(outputs) != len(wanted):
        raise RuntimeError(f"{len(outputs)} outputs, torch gave {len(wanted)}")
    return difference(outputs, wanted)


def outputs_of(mezzo, path, inputs, scratch, half=False):
    """What the command computes from a model file, in the order of the model's outputs."""
    options = list(shapes(inputs)) if path.suffix == ".pt" else []
    if half:
        model = scratch / "model.onnx"
        call([mezzo, "convert", path, model, "--keep-io", *options])
        path, options = model, []
    info = json.loads(call([mezzo, "inspect", path, "--json", *options]))
    names = [i["name"] for i in info["inputs"]]
    if len(names) > len(inputs):
        raise RuntimeError(f"the model has inputs {names}, {len(inputs)} are stored")
    for name, array in zip(names, inputs):
        file = scratch / f"in{len(options)}{name.replace('/', '_')}.npy"
        np.save(file, array)
        options += ["--input", f"{name}={file}"]
    result = json.loads(call([mezzo, "run", path, "--output-dir", scratch / "out", "--json", *options]))
    return [np.load(o["file"]) for o in result["outputs"]]


def difference(outputs, wanted):
    """The largest difference relative to the largest magnitude of its output."""
    worst = 0.0
    for got, want in zip(outputs, wanted):
        if got.shape != want.shape:
            raise RuntimeError(f"shape {got.shape}, torch gave {want.shape}")
        if want.size:
            got, want = got.astype(np.float64), want.astype(np.float64)
            # A NaN is right only where torch has one: a plain maximum would pass over it.
            with np.errstate(invalid="ignore"):
                off = np.where((got == want) | (np.isnan(got) & np.isnan(want)), 0.0, np.abs(got - want))
            largest = np.abs(want[np.isfinite(want)]).max(initial=0.0) or 1.0
            worst = max(worst, float(np.nan_to_num(off, nan=np.inf, posinf=np.inf).max() / largest))
    return worst


def arrays(stored, word):
    """The arrays `word_0`, `word_1`... of an archive of numpy's."""
    return [stored[k] for k in sorted((k for k in stored if k.startswith(word)), key=lambda k: int(k[len(word):]))]


def truth(stored):
    """Torch's outputs in float64: its FP32 ones are off by roundings of their own. In FP32 where there are no others."""
    return arrays(stored, "double_") or arrays(stored, "out_")


def torch_half(values):
    """What torch's own run in half is off by, in words."""
    stored = np.load(values)
    own = arrays(stored, "half_")
    return f" (torch in half {difference(own, truth(stored)):.1e})" if own else " (torch cannot run it in half)"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mezzo", default="mezzo")
    parser.add_argument("--only", type=lambda t: t.split(","))
    parser.add_argument("--forms", type=lambda t: t.split(","), default=list(FORMS))
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--names", type=Path)
    args = parser.parse_args()
    if args.names:
        args.only = args.names.read_text().split()
        if not args.only:
            sys.exit(f"{args.names} lists no model")
    bound = 2e-2 if args.half else 1e-4
    counts = {form: [0, 0] for form in args.forms}
    for name, form, path, values in archives(args.folder, args.forms, args.only):
        counts[form][1] += 1
        with tempfile.TemporaryDirectory() as scratch:
            try:
                error = judge(args.mezzo, path, values, Path(scratch), args.half)
                good = error <= bound
                print(f"{'ok  ' if good else 'FAR '} {name} {form} {error:.1e}{torch_half(values) if args.half else ''}", flush=True)
                counts[form][0] += good
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                print(f"FAIL {name} {form}: {e}", flush=True)
    for form, (good, all_of) in counts.items():
        print(f"{form}: {good} of {all_of} agree")
    sys.exit(any(good != all_of for good, all_of in counts.values()))


if __name__ == "__main__":
    main()
