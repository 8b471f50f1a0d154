#!/usr/bin/env python3
"""Takes mutated models through Mezzo: no model, however wrong, may panic, crash, hang or be an internal error.

    cargo build --example soak_models
    python tests/python/soak_models.py target/debug/examples/soak_models --fixtures build/fixtures [--count 10000]
        [--seed N] [--only I] [--save DIR] [--mezzo MEZZO]

Mutants are made of small fixtures, the digits and the ONNX backend node suite until `--count` of them load. Each is
loaded, converted to half now and then, written and read again, built for the CPU backend, and run on inputs of its
declared shapes within a memory limit. With `--mezzo` the command converts and inspects every tenth of them too. Failing
mutants are saved with the line that shows the failure again. Exit code 0 if there are none.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

from mutations import Mutator
from soak_inputs import Inputs, too_large
from soak_runner import BAD_CODES, CANCEL_MS, HANG_SECONDS, MEMORY_LIMIT, Runner, limit_memory

LARGEST_BASE = 200_000


def bases(fixtures, digits):
    """Name, model and input data by name of what is mutated: the project's own models, and the suite's."""
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
    """How the mutant of that number is converted and built, and whether its engine is saved and loaded."""
    rng = random.Random(f"options {seed} {index}")
    chosen = {"bf16": rng.random() < 0.3, "pure": rng.random() < 0.3, "threads": rng.randrange(1, 3),
              "whole": rng.random() < 0.2}
    if rng.random() < 0.3:
        chosen["opset"] = rng.randrange(17, 29)
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
            case = {"model": str(path), "inputs": inputs, "half": half, "memory_limit": MEMORY_LIMIT,
                    "cancel_ms": CANCEL_MS, **options(arguments.seed, index, folder)}
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
