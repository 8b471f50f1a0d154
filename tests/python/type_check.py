#!/usr/bin/env python3
"""Judges type inference and the type checker on the ONNX backend node suite.

    python tests/python/type_check.py [--models MODEL.onnx ...] -- COMMAND

COMMAND is the example `check_types` (`cargo run --quiet --example check_types --`, say); `--types` is put after it.

1. Every model passes, unless it is older than opset 7, the oldest that is read.
2. Without value_info and without the types of its outputs, every model still gets the types that
   onnx.shape_inference finds, in every graph and subgraph, and those that it declared for its outputs.
3. One input of a node made FP16 while another of the same type variable stays FP32 is refused; the message names the
   node's operator, the value, and both types.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto
from onnx.backend.test.loader import load_model_tests

SHOWN = 20
OLD = "the oldest that is read is 7"


def short(value_type):
    """A type as the example writes it, or None where nothing is said."""
    kind = value_type.WhichOneof("value")
    inner = getattr(value_type, kind) if kind else None
    if kind in ("tensor_type", "sparse_tensor_type"):
        element = inner.elem_type
        text = f"sparse({element})" if kind == "sparse_tensor_type" else str(element)
        return text if element else None
    if kind == "map_type":
        value = short(inner.value_type)
        return value and f"map({inner.key_type},{value})"
    element = short(inner.elem_type) if kind else None
    return element and f"{'seq' if kind == 'sequence_type' else 'optional'}({element})"


def graphs(graph, place=""):
    """Every graph with its place, as the example names it."""
    yield place, graph
    for index, node in enumerate(graph.node):
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs
            for i, g in enumerate(inner):
                yield from graphs(g, f"{place}/{index}.{attribute.name}.{i}")


def bare(model):
    """A copy that says nothing of the types of inner values and outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for _, graph in graphs(copy.graph):
        del graph.value_info[:]
        for output in graph.output:
            output.ClearField("type")
    return copy


def expected_types(model, without):
    """(place, name) -> type: what onnx infers for the bare model; for the main graph's outputs, what the model declares."""
    inferred = onnx.shape_inference.infer_shapes(without)
    types = {}
    for place, graph in graphs(inferred.graph):
        for info in [*graph.value_info, *graph.output]:
            types[place, info.name] = short(info.type)
    types.update({("", o.name): short(o.type) for o in model.graph.output})
    return {key: ty for key, ty in types.items() if ty}


def mutation(model):
    """The model with one FP32 input of a node made FP16 against another of its type variable, and what the message must say."""
    constants = {t.name for t in model.graph.initializer}
    floats = {i.name for i in model.graph.input if short(i.type) == str(TensorProto.FLOAT)} - constants
    versions = {o.domain: o.version for o in model.opset_import}
    if model.functions:
        return None
    for node in model.graph.node:
        schema = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
        first = {}
        for name, parameter in zip(node.input, schema.inputs):
            if name not in floats or not any(c.type_param_str == parameter.type_str for c in schema.type_constraints):
                continue
            other = first.setdefault(parameter.type_str, name)
            if other != name:
                copy = onnx.ModelProto()
                copy.CopyFrom(model)
                for info in copy.graph.input:
                    if info.name == name:
                        info.type.tensor_type.elem_type = TensorProto.FLOAT16
                return copy, [node.op_type, name]
    return None


def run(command, paths):
    text = "".join(f"{path}\n" for path in paths)
    process = subprocess.run([*command, "--types"], input=text, capture_output=True, text=True, check=False)
    lines = process.stdout.splitlines()
    if process.returncode or len(lines) != len(paths):
        sys.exit(f"the example ended with {process.returncode} after {len(lines)} of {len(paths)} models:\n"
                 f"{process.stderr[-2000:]}")
    return [json.loads(line) for line in lines]


def differences(got, want):
    """Values whose type is not the wanted one."""
    for (place, name), ty in want.items():
        have = got.get(place, {}).get(name)
        if have != ty:
            yield f"'{name}' in graph '{place}' is {have}, expected {ty}"


def suite():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite divides by zero on purpose
        return [(case.name, case.model) for case in load_model_tests(kind="node")]


def save(models, folder, kind):
    paths = [Path(folder) / f"{i}-{kind}.onnx" for i in range(len(models))]
    for model, path in zip(models, paths):
        path.write_bytes(model.SerializeToString())
    return paths


def judge(models, command, folder):
    counts, problems = collections.Counter(), []
    protos = [model for _, model in models]
    results = run(command, save(protos, folder, "whole"))
    taken = []
    for (name, model), result in zip(models, results):
        error = result["error"]
        kind = "passed" if error is None else "older than opset 7" if OLD in error else "refused"
        counts[kind] += 1
        if kind == "passed":
            taken.append((name, model))
        elif kind == "refused":
            problems.append(f"{name}: {error}")
    without = [bare(model) for _, model in taken]
    for (name, model), stripped, result in zip(taken, without, run(command, save(without, folder, "bare"))):
        want = expected_types(model, stripped)
        wrong = [result["error"]] if result["error"] else list(differences(result["graphs"], want))
        counts["types compared"] += len(want)
        counts["types wrong"] += len(wrong)
        problems += [f"{name}, bare: {text}" for text in wrong]
    mutated = [(name, found) for name, model in taken if (found := mutation(model))]
    results = run(command, save([found[0] for _, found in mutated], folder, "mixed"))
    for (name, (_, words)), result in zip(mutated, results):
        error = result["error"] or ""
        missing = [word for word in [*words, "fp16", "fp32"] if word not in error]
        counts["mixtures refused" if not missing else "mixtures missed"] += 1
        if missing:
            problems.append(f"{name}, mixed: {', '.join(missing)} missing in: {error or 'no error'}")
    return counts, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", type=Path, help="these models instead of the suite")
    # The command may have a "--" of its own, which argparse would take away.
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, command = sys.argv[1:at], sys.argv[at + 1:]
    options = parser.parse_args(arguments)
    if not command:
        parser.error("give the command after --")
    models = [(p.name, onnx.load(p)) for p in options.models] if options.models else suite()
    with tempfile.TemporaryDirectory() as folder:
        counts, problems = judge(models, command, folder)
    print("\n".join(problems[:SHOWN]))
    if len(problems) > SHOWN:
        print(f"... and {len(problems) - SHOWN} more")
    print(f"{len(models)} models:", ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    sys.exit(1 if problems or not counts["passed"] else 0)


if __name__ == "__main__":
    main()
