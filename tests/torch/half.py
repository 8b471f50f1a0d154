#!/usr/bin/env python3
"""Finds the traced models of make_zoo.py that torch's own `.half()` breaks, and writes what it did to each.

    half.py FOLDER

Each FOLDER/NAME.traced.pt is loaded, `.half()`-ed and run in half on its inputs, as the flow did that Mezzo replaces.
FOLDER/half_fails.txt gets the names where that raises or gives what is not finite though FP32 is, one a line;
FOLDER/half.txt all of them, with the reason or the error relative to the output's maximum.
`judge.py FOLDER --half --forms traced --names FOLDER/half_fails.txt` then shows what Mezzo makes of them.
"""
import argparse
import re
from pathlib import Path

import numpy as np
import torch

from judge import difference, truth
from make_zoo import flatten


def reason(error):
    """The line of an interpreter's traceback that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"RuntimeError: |.*(Half|Float|expected|Expected|dtype)", line)]
    return (told or lines or [type(error).__name__])[-1][:160]


def half_run(path, stored):
    """The largest error relative to the output's maximum of the archive run in half."""
    inputs = [torch.from_numpy(stored[f"in_{i}"]) for i in range(sum(k.startswith("in_") for k in stored))]
    program = torch.jit.load(str(path)).half().eval()
    with torch.no_grad():
        outputs = flatten(program(*(x.half() if x.is_floating_point() else x for x in inputs)))
    return difference([t.float().numpy() for t in outputs], truth(stored))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    fails, lines = [], []
    for path in sorted(args.folder.glob("*.traced.pt")):
        name = path.name[: -len(".traced.pt")]
        try:
            worst = half_run(path, np.load(args.folder / f"{name}.npz"))
            line = f"{name}: runs, off by {worst:.1e}"
            if not np.isfinite(worst):
                fails.append(name)
                line = f"{name}: runs, but gives what is not finite"
        except Exception as e:
            fails.append(name)
            line = f"{name}: fails: {reason(e)}"
        lines.append(line)
        print(line, flush=True)
    (args.folder / "half_fails.txt").write_text("".join(f"{n}\n" for n in fails))
    (args.folder / "half.txt").write_text("".join(f"{n}\n" for n in lines))
    print(f"torch's .half() breaks {len(fails)} of {len(lines)} traced models")


if __name__ == "__main__":
    main()
