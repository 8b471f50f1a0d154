#!/usr/bin/env python3
"""Writes the small `.pt2` archives of tests/data/torch, which the Rust tests read (torch 2.15)."""
import io
import re
import zipfile
from pathlib import Path

import torch
from torch import nn

OUT = Path(__file__).resolve().parent.parent / "data/torch"


class Condition(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda q: (self.a(q) + 1, q.sum(-1)), lambda q: (q - 1, q.mean(-1)), (x,))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(9, 4)
        self.o = nn.Linear(4, 9, bias=False)
        self.o.weight = self.e.weight

    def forward(self, i):
        return {"logits": self.o(self.e(i)), "hidden": [self.e(i)]}


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x):
        self.count.add_(1)
        return x + self.count


def save(name, module, inputs, shapes=None):
    raw = io.BytesIO()
    torch.export.save(torch.export.export(module.eval(), inputs, dynamic_shapes=shapes), raw)
    # The folders of the machine that made the file are taken out of the stack traces; sample inputs are left out.
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(OUT / f"{name}.pt2", "w") as new:
        for entry in old.namelist():
            data = old.read(entry)
            if entry.endswith("models/model.json"):
                data = re.sub(rb'File \\"/[^"]*/', b'File \\\\"', data)
            if "sample_inputs" not in entry:
                new.writestr(zipfile.ZipInfo(entry, (1980, 1, 1, 0, 0, 0)), data)


torch.manual_seed(0)
save("condition", Condition(), (torch.randn(2, 4),), ({0: torch.export.Dim("batch", min=2, max=16)},))
save("tied", Tied(), (torch.arange(5)[None],))
save("counter", Counter(), (torch.randn(2),))
