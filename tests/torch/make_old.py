#!/usr/bin/env python3
"""Writes archives of old versions to tests/data/torch/old: a small scripted one with its version entry and code rewritten.

    make_old.py

What old code means is torch's word: each archive is loaded by torch, which brings old operators up to date, and run;
tests/data/torch/old/expected.json has the outputs ("refused" where torch does not load it), which
tests/torch_old_versions.rs compares. Each code stands in the last version with the old meaning and in the first with the new one.
"""
import io
import json
import re
import warnings
import zipfile
from pathlib import Path

import torch

warnings.filterwarnings("ignore")
OUT = Path(__file__).resolve().parent.parent / "data/torch/old"
FLOATS = torch.tensor([-7.0, -2.5, 0.5, 7.0])
INTS = torch.tensor([-7, -2, 5, 7])

# name: (the first version with the new meaning, the expression that forward(x) returns, x)
CASES = {
    "div_tensors": (4, "torch.div(x, torch.add(torch.mul(x, 0), 2))", INTS),
    "div_scalar": (4, "torch.div(x, 2)", INTS),
    "div_by_float": (4, "torch.div(x, 2.)", INTS),
    "div_floats": (4, "torch.div(x, 2)", FLOATS),
    "div_mode": (4, "torch.div(x, 2, rounding_mode=\"floor\")", INTS),
    "div_in_place": (4, "torch.div_(torch.add(x, 1), 2)", FLOATS),
    "div_in_place_ints": (4, "torch.div_(torch.add(x, 1), 2)", INTS),
    "div_numbers": (4, "torch.mul(x, torch.div(torch.len(x), 8))", FLOATS),
    "full": (5, "torch.add(torch.mul(x, 0), torch.full([4], 3))", INTS),
    "full_type": (5, "torch.add(torch.mul(x, 0), torch.full([4], 3, dtype=4))", INTS),
    "full_bool": (5, "torch.add(torch.mul(x, 0), torch.full([4], True))", INTS),
    "linspace": (8, "torch.add(torch.linspace(0, 1, None), torch.sum(x))", FLOATS),
    "linspace_omitted": (8, "torch.add(torch.linspace(0, 1), torch.sum(x))", FLOATS),
    "linspace_steps": (8, "torch.add(torch.linspace(0, 1, 5), torch.sum(x))", FLOATS),
    "logspace": (9, "torch.add(torch.logspace(0, 1, None, 2.), torch.sum(x))", FLOATS),
    "logspace_omitted": (9, "torch.add(torch.logspace(0, 1), torch.sum(x))", FLOATS),
    "logspace_steps": (9, "torch.add(torch.logspace(0, 1, 5, 3.), torch.sum(x))", FLOATS),
    "gelu": (10, "torch.gelu(x)", FLOATS),
}


class M(torch.nn.Module):
    def forward(self, x):
        return x


def rewritten(version, expression):
    """The archive of M with another version and another result. Without debug files, which hold the paths of this machine."""
    raw, out = io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.script(M()), raw)
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.namelist():
            data = old.read(entry)
            if entry.endswith("debug_pkl"):
                continue
            if entry.endswith("/version"):
                data = b"%d\n" % version
            if entry.endswith(".py"):
                data, count = re.subn(rb"return x\b", b"return " + expression.encode(), data)
                assert count == 1, data
            new.writestr(zipfile.ZipInfo(re.sub("^[^/]*", "m", entry), (1980, 1, 1, 0, 0, 0)), data)
    return out.getvalue()


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    expected = {}
    for name, (change, expression, x) in CASES.items():
        for version in (change - 1, change):
            data = rewritten(version, expression)
            file = f"{name}.{version}.pt"
            (OUT / file).write_bytes(data)
            try:
                got = torch.jit.load(io.BytesIO(data))(x.clone())
                answer = {"type": str(got.dtype)[6:], "values": got.tolist()}
            except RuntimeError as e:
                answer = {"refused": next(line for line in str(e).splitlines() if line.strip())[:100]}
            expected[file] = {"input": {"type": str(x.dtype)[6:], "values": x.tolist()}, "output": answer}
            print(file, str(answer)[:110])
    (OUT / "expected.json").write_text("".join(["{\n", ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in expected.items()), "\n}\n"]))


if __name__ == "__main__":
    main()
