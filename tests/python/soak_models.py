#!/usr/bin/env python3
"""Takes mutated models through Mezzo: no model, however wrong, may panic, crash, hang or be an internal error.

    cargo build --example soak_models
    python tests/python/soak_models.py target/debug/examples/soak_models --fixtures build/fixtures [--count 10000]
        [--seed N] [--only I] [--save DIR] [--mezzo MEZZO]

Mutants are made of small fixtures, the digits and the ONNX backend node suite until `--count` of them load. Each is loaded,
converted to FP16 now and then, written and read again, built for the CPU backend, and run on inputs of its declared shapes
within a memory limit. With `--mezzo` the command converts and inspects every tenth of them too. Failing mutants are saved with the line that
shows the failure again. Exit code 0 if there are none.
"""

import argparse
import json
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

from mutations import FLOATS, INTS, Mutator

MEMORY_LIMIT = 64 << 20  # what the engine is told
ADDRESS_SPACE = 1 << 30  # what the process gets: allocations beyond it fail, and end it
CANCEL_MS, HANG_SECONDS = 2000, 10
LARGEST_BASE = 200_000
LARGEST_INPUT = 1 << 16
BAD_CODES = ("Internal", "Panic")


class Runner:
    """The example program, which is started again when it dies."""

    def __init__(self, program):
        self.program, self.process = str(program), None
        self.stderr = tempfile.TemporaryFile()

    def run(self, case):
        """The answer, or {"died": why}."""
        if self.process is None:
            self.stderr.seek(0)
            self.stderr.truncate()
            self.process = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=self.stderr, preexec_fn=limit_memory)
        self.process.stdin.write(json.dumps(case).encode() + b"\n")
        self.process.stdin.flush()
        start, line = time.monotonic(), b""
        while not line.endswith(b"\n"):
            left = start + HANG_SECONDS - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return self.gone(f"no answer within {HANG_SECONDS} s")
            piece = self.process.stdout.read1(1 << 20)
            if not piece:
                return self.gone(f"ended with {self.process.wait()}")
            line += piece
        return json.loads(line)

    def gone(self, why):
        self.stop()
        self.stderr.seek(0)
        return {"died": f"{why} {self.stderr.read()[:300].decode(errors='replace')}"}

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def bases(fixtures, digits):
    """Name, model and input data by name of what is mutated; fixtures are small in number and weigh as much as the suite."""
    own = [*sorted(fixtures.glob("*.onnx")), *sorted(digits.glob("digits*.onnx"))]
    small = [p for p in own if p.stat().st_size < LARGEST_BASE]
    loaded = [(p.stem, onnx.load(p), {}) for p in small]
    suite = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite divides by zero on purpose
        for case in load_model_tests(kind="node"):
            (inputs, _), = case.data_sets
            if case.model.ByteSize() < LARGEST_BASE and not any(too_large(v) for v in inputs):
                suite.append((case.name, case.model, dict(zip((i.name for i in case.model.graph.input), inputs))))
    return loaded, suite


def too_large(value):
    return isinstance(value, np.ndarray | TensorProto) and int(np.prod(getattr(value, "shape", ()) or value.dims
               if isinstance(value, TensorProto) else value.shape)) > LARGEST_INPUT


class Inputs:
    """Values for a model's declared inputs, as the example reads them."""

    def __init__(self, rng, data):
        self.rng, self.data, self.symbols = rng, data, {}
        self.numbers = np.random.default_rng(rng.getrandbits(63))

    def of(self, model):
        given = {i.name for i in model.graph.initializer}
        return {i.name: self.value(i.name, i.type) for i in model.graph.input if i.name not in given}

    def value(self, name, kind):
        which = kind.WhichOneof("value")
        own = self.data.get(name)
        if which == "sequence_type":
            if isinstance(own, (list, tuple)):
                return {"sequence": [encode(v) for v in own]}
            return {"sequence": [self.value("", kind.sequence_type.elem_type) for _ in range(self.rng.randrange(3))]}
        if which == "optional_type":
            inside = self.value(name, kind.optional_type.elem_type)
            return {"optional": None if self.rng.random() < 0.4 else inside}
        if which != "tensor_type":
            return encode(own) if isinstance(own, (np.ndarray, TensorProto)) else self.tensor(TensorProto.FLOAT, [2])
        return self.declared(own, kind.tensor_type)

    def declared(self, own, kind):
        if isinstance(own, np.ndarray):
            own = numpy_helper.from_array(own)
        dims = [self.dim(d) for d in kind.shape.dim] if kind.HasField("shape") else None
        if isinstance(own, TensorProto) and own.data_type == kind.elem_type and self.rng.random() < 0.9:
            if dims is None or len(dims) == len(own.dims) and all(
                    d.WhichOneof("value") == "dim_param" or not d.HasField("dim_value") or d.dim_value == n
                    for d, n in zip(kind.shape.dim, own.dims)):
                return encode(self.changed(own))
        if dims is None:
            dims = [self.rng.randrange(4) for _ in range(self.rng.randrange(4))]
        return self.tensor(kind.elem_type, dims)

    def changed(self, tensor):
        """The tensor, at times with some odd values."""
        if tensor.data_type == TensorProto.STRING or self.rng.random() < 0.7:
            return tensor
        x = numpy_helper.to_array(tensor).copy()
        if not x.size or x.dtype.kind not in "iuf":
            return tensor
        with np.errstate(all="ignore"):
            for _ in range(self.rng.randrange(1, 3)):
                at, odd = self.rng.randrange(x.size), FLOATS if x.dtype.kind == "f" else INTS
                x.reshape(-1)[at] = np.asarray(self.rng.choice(odd)).astype(x.dtype)
        return numpy_helper.from_array(x)

    def dim(self, d):
        if d.HasField("dim_value"):
            return d.dim_value
        size = self.rng.choice([0, 1, 1, 2, 2, 3, 4])
        size = 2**40 if size == 0 and self.rng.random() < 0.05 else size
        return self.symbols.setdefault(d.dim_param, size) if d.dim_param else size

    def tensor(self, kind, dims):
        size = 1
        for d in dims:
            size *= max(d, 0)
        if size > LARGEST_INPUT:
            dims = [min(max(d, 0), 2**40 if 0 in dims else 2) for d in dims]  # it does not fit, which must be an error
        dims = [max(d, 0) for d in dims]
        if 0 in dims and self.rng.random() < 0.2:
            # No elements at all, and yet a size that no list can have.
            dims = [d and (self.rng.choice([d, 2**20, 2**40, 2**62]) if d > 1 else d) for d in dims]
        if kind == TensorProto.STRING:
            words = ["", "a", "b c", "\u00e9", "1.5", "nan"]
            return {"dims": dims, "strings": [self.rng.choice(words) for _ in range(int(np.prod(dims)))]}
        if 0 in dims:
            return {"dtype": kind, "dims": dims, "hex": ""}
        try:
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
        except KeyError:
            return {"dims": dims, "strings": []}
        with np.errstate(all="ignore"):
            if dtype.kind in "iu":
                x = self.numbers.integers(0, 6, dims)
                if x.size and self.rng.random() < 0.3:
                    x.flat[0] = self.rng.choice([-1, -100, 100, 2**31 - 1, 2**62, -(2**63)])
            else:
                x = np.asarray(self.numbers.standard_normal(dims))
                if x.size and self.rng.random() < 0.2:
                    x.flat[0] = self.rng.choice(FLOATS)
            return encode(numpy_helper.from_array(np.asarray(x).astype(dtype)))


def encode(value):
    if value is None:
        return {"optional": None}
    if isinstance(value, (list, tuple)):
        return {"sequence": [encode(v) for v in value]}
    tensor = value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value))
    if tensor.data_type == TensorProto.STRING:
        return {"dims": list(tensor.dims), "strings": [s.decode(errors="replace") for s in tensor.string_data]}
    if not tensor.raw_data:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor))
    return {"dtype": tensor.data_type, "dims": list(tensor.dims), "hex": tensor.raw_data.hex()}


def mutant(seed, index, fixtures, suite):
    """Name, model, input values and changes of the mutant of that number."""
    rng = random.Random(f"{seed} {index}")
    name, base, data = rng.choice(fixtures if fixtures and rng.random() < 0.1 else suite)
    model = onnx.ModelProto()
    model.CopyFrom(base)
    tensors = {k: v if isinstance(v, TensorProto) else numpy_helper.from_array(v) for k, v in data.items()
               if isinstance(v, (np.ndarray, TensorProto))}
    mutator = Mutator(rng, model, tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # casts of odd values
        mutator.mutate(rng.choice([1, 1, 2, 3]))
    return name, model, rng.random() < 0.3, Inputs(rng, data).of(model), mutator.done


def options(seed, index, folder):
    """How the mutant of that number is converted, and whether its engine is saved and loaded."""
    rng = random.Random(f"options {seed} {index}")
    chosen = {"bf16": rng.random() < 0.3, "pure": rng.random() < 0.3}
    if rng.random() < 0.3:
        chosen["opset"] = rng.randrange(7, 29)
    if rng.random() < 0.2:
        chosen["engine"] = str(folder / "mutant.engine")
    return chosen


def command(mezzo, path, folder):
    """What is wrong with what the command makes of the model, or None."""
    for words in (["convert", path, folder / "half.onnx"], ["inspect", path]):
        try:
            done = subprocess.run([mezzo, *words], capture_output=True, timeout=HANG_SECONDS, preexec_fn=limit_memory)
        except subprocess.TimeoutExpired:
            return f"{words[0]}: no answer within {HANG_SECONDS} s"
        text = done.stderr.decode(errors="replace")
        if done.returncode < 0 or "panic" in text or "internal error" in text.lower():
            return f"{words[0]}: exit code {done.returncode}: {text[-300:]}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--fixtures", type=Path, required=True)
    parser.add_argument("--digits", type=Path, default=Path("tests/data/digits"))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--only", type=int, help="make just this mutant")
    parser.add_argument("--start", type=int, default=0, help="the number of the first mutant")
    parser.add_argument("--save", type=Path, default=Path("build/soak"))
    parser.add_argument("--mezzo", type=Path)
    arguments = parser.parse_args()
    fixtures, suite = bases(arguments.fixtures, arguments.digits)
    stages, codes, bad, loaded, index = Counter(), Counter(), Counter(), 0, arguments.only or arguments.start
    runner, start = Runner(arguments.program), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder, path = Path(temporary), Path(temporary) / "mutant.onnx"
        while loaded < arguments.count:
            name, model, half, inputs, changes = mutant(arguments.seed, index, fixtures, suite)
            path.write_bytes(model.SerializeToString())
            case = {"model": str(path), "half": half, "threads": 1 + index % 2, "whole": index % 5 == 0, "memory_limit": MEMORY_LIMIT, "cancel_ms": CANCEL_MS,
                    "inputs": inputs, **options(arguments.seed, index, folder)}
            answer = runner.run(case)
            why = answer.get("died") or "; ".join(answer["panics"])
            if not why and answer.get("code") in BAD_CODES:
                why = answer["error"]
            if not why and arguments.mezzo and index % 10 == 0:
                why = command(arguments.mezzo, path, folder)
            if why:
                save(arguments, index, name, changes, case, path, why)
                bad["died" if "died" in answer else "panic or internal error"] += 1
            stages[answer.get("stage", "died")] += 1
            codes[answer.get("code", "ran" if "stage" in answer else "died")] += 1
            loaded += answer.get("stage") != "load"
            if arguments.only is not None:
                print(name, changes, json.dumps(answer))
                break
            index += 1
            if index % 1000 == 0:
                print(f"{index} made, {loaded} loaded, {sum(bad.values())} bad, {time.monotonic() - start:.0f} s",
                      file=sys.stderr, flush=True)
    runner.stop()
    print(f"{loaded} mutants loaded, {stages['done']} ran, {stages['load']} did not load; {sum(bad.values())} bad "
          f"({time.monotonic() - start:.0f} s, seed {arguments.seed}); answers:",
          ", ".join(f"{code} {n}" for code, n in codes.most_common()))
    raise SystemExit(1 if bad else 0)


def save(arguments, index, name, changes, case, path, why):
    """Keeps a failing mutant, and prints what shows its failure again."""
    arguments.save.mkdir(parents=True, exist_ok=True)
    kept = arguments.save / f"{arguments.seed}-{index}.onnx"
    kept.write_bytes(path.read_bytes())
    line = kept.with_suffix(".json")
    line.write_text(json.dumps({**case, "model": str(kept)}) + "\n")
    print(f"{index} {name} {changes}: {why}\n    {arguments.program} < {line}", flush=True)


if __name__ == "__main__":
    main()
