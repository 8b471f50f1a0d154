#!/usr/bin/env python3
"""Writes src/model/schema/table.txt: what types every operator of every version takes and gives.

    python tools/gen_schemas.py            writes the table from the installed onnx package
    python tools/gen_schemas.py --check    exits with 1 if the committed table is not in step with it

The table is text, one line an operator version; `src/model/schema/mod.rs` reads it and describes it.
"""

import sys
from pathlib import Path

import onnx
from onnx import TensorProto, defs

TABLE = Path(__file__).resolve().parent.parent / "src/model/schema/table.txt"
# Element type names as schemas write them, by the number that tensors use.
NUMBERS = {name.lower(): number for name, number in TensorProto.DataType.items() if number}
# Where each kind of type starts in a set of 128 bits; the element type's number is added.
TENSOR, SEQUENCE, OPTIONAL, OPTIONAL_SEQUENCE = 0, 32, 64, 96
# Element number 0 is free, and stands for what has no element number.
MAP, SEQUENCE_OF_MAP, SPARSE = 0, 32, 64


def bit(text):
    if text.startswith("seq(map("):
        return SEQUENCE_OF_MAP
    if text.startswith("map("):
        return MAP
    if text.startswith("sparse_tensor("):
        return SPARSE
    for prefix, base in (
        ("optional(seq(tensor(", OPTIONAL_SEQUENCE),
        ("optional(tensor(", OPTIONAL),
        ("seq(tensor(", SEQUENCE),
        ("tensor(", TENSOR),
    ):
        if text.startswith(prefix):
            element = text[len(prefix):].rstrip(")")
            return base + NUMBERS[element]
    raise SystemExit(f"gen_schemas.py: the type '{text}' is of a kind that the table does not know")


class Sets:
    def __init__(self):
        self.numbers = {}

    def number(self, types):
        value = 0
        for text in types:
            value |= 1 << bit(text)
        return self.numbers.setdefault(value, len(self.numbers))


def option(parameter):
    kind = defs.OpSchema.FormalParameterOption
    if parameter.option == kind.Optional:
        return "?"
    if parameter.option == kind.Variadic:
        return f"{'*' if parameter.is_homogeneous else '+'}{parameter.min_arity}"
    return ""


def parameters(values, variables, sets):
    parts = []
    for p in values:
        if p.type_str in variables:
            kind = f"v{variables[p.type_str]}"
        else:
            kind = f"s{sets.number([p.type_str])}"
        parts.append(f"{p.name}:{kind}{option(p)}")
    return ",".join(parts)


def line(schema, sets):
    variables = {c.type_param_str: i for i, c in enumerate(schema.type_constraints)}
    flags = ("d" if schema.deprecated else "") + (
        "f" if schema.has_function or schema.has_context_dependent_function else ""
    )
    constraints = ",".join(
        f"{c.type_param_str}:{sets.number(c.allowed_type_strs)}" for c in schema.type_constraints
    )
    fields = [
        schema.name,
        str(schema.since_version),
        flags,
        parameters(schema.inputs, variables, sets),
        parameters(schema.outputs, variables, sets),
        constraints,
    ]
    return "|".join(fields)


def table():
    sets = Sets()
    schemas = sorted(defs.get_all_schemas_with_history(), key=lambda s: (s.domain, s.name, s.since_version))
    lines, domain = [], None
    for schema in schemas:
        if schema.domain != domain:
            domain = schema.domain
            lines.append(f"@{domain}")
        lines.append(line(schema, sets))
    head = [f"# operator schemas of onnx {onnx.__version__}, written by tools/gen_schemas.py"]
    head += [f"={value:x}" for value in sets.numbers]
    return "\n".join(head + lines) + "\n"


def main():
    new = table()
    if "--check" in sys.argv[1:]:
        if not TABLE.exists() or TABLE.read_text() != new:
            sys.exit(f"gen_schemas.py: {TABLE.name} is not what onnx {onnx.__version__} gives: run tools/gen_schemas.py")
        print(f"{TABLE.name} is in step with onnx {onnx.__version__}")
        return
    TABLE.write_text(new)
    print(f"wrote {len(new)} bytes")


if __name__ == "__main__":
    main()
