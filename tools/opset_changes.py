#!/usr/bin/env python3
"""Lists the operators of ai.onnx whose form changes between adjacent versions, from 8 on, by the onnx package's schemas.

    python tools/opset_changes.py            prints the list
    python tools/opset_changes.py --check    holds docs/opset.md and the upgrade's adapters against it

Listed are attributes that come, go or get another default, inputs and outputs that come or go, types that are no longer
taken, and withdrawn operators. More types alone and other words in the documentation are not.
"""

import re
import sys
from pathlib import Path

from onnx import defs, helper

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"\| (\d+) \| (\w+) \| (.*?) \| (.*?) \|$")
ADAPTER = re.compile(r"^\s*\(\s*(\d+),\s*((?:\"\w+\"\s*\|?\s*)+),?\s*\) => (\w+)::", re.MULTILINE)


def default(attribute):
    value = attribute.default_value
    return helper.get_attribute_value(value) if value and value.type else None


def changes(old, new):
    if new.deprecated:
        yield "withdrawn"
        return
    for name in sorted(old.attributes.keys() | new.attributes.keys()):
        if name not in new.attributes:
            yield f"-{name}"
        elif name not in old.attributes:
            yield f"+{name}"
        elif default(old.attributes[name]) != default(new.attributes[name]):
            yield f"{name}: other default"
    for kind, before, after in (("input", old.inputs, new.inputs), ("output", old.outputs, new.outputs)):
        for i, parameter in enumerate(after[len(before):], len(before)):
            yield f"+{kind} {i} {parameter.name}"
        if len(before) > len(after):
            yield f"-{len(before) - len(after)} {kind}s"
        for i, (b, a) in enumerate(zip(before, after)):
            if set(b.types) - set(a.types):
                yield f"{kind} {i}: fewer types"
            elif b.option != a.option:
                yield f"{kind} {i}: optional or not"


def rows():
    """Version, operator and changes."""
    versions = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, []).append(schema)
    found = {}
    for name, schemas in versions.items():
        schemas.sort(key=lambda s: s.since_version)
        for old, new in zip(schemas, schemas[1:]):
            if new.since_version > 7 and (text := ", ".join(changes(old, new))):
                found[new.since_version, name] = text
    return dict(sorted(found.items()))


def check(found):
    documented = {(int(m[1]), m[2]): (m[3], m[4]) for line in (ROOT / "docs/opset.md").read_text().splitlines()
                  if (m := ROW.match(line))}
    source = (ROOT / "src/model/upgrade/adapters.rs").read_text()
    adapters = {(int(m[1]), op): m[3] for m in ADAPTER.finditer(source) for op in re.findall(r"\w+", m[2])}
    for key, text in found.items():
        if key not in documented:
            yield f"docs/opset.md lacks {key}: {text}"
        elif documented[key][0] != text:
            yield f"docs/opset.md says of {key} '{documented[key][0]}', the schemas '{text}'"
    for key in documented.keys() - found.keys():
        yield f"docs/opset.md has {key}, in which the schemas see no change"
    for key, (_, what) in documented.items():
        if what.startswith("**") != (key in adapters):
            yield f"docs/opset.md and adapters.rs disagree on whether {key} has an adapter"
    for key in adapters.keys() - documented.keys():
        yield f"docs/opset.md lacks the adapter of {key}"


def main():
    found = rows()
    if sys.argv[1:] == ["--check"]:
        problems = list(check(found))
        print("\n".join(problems) or f"{len(found)} changes are documented")
        sys.exit(1 if problems else 0)
    for (version, name), text in found.items():
        print(f"| {version} | {name} | {text} |")


if __name__ == "__main__":
    main()
