#!/usr/bin/env python3
"""Recomputes tools/tensorrt_slots.tsv and tools/tensorrt_enums.tsv from NVIDIA's headers, with a C++ compiler.

    tools/check_vtables.py [HEADERS]

HEADERS is what tools/fetch_tensorrt_headers.sh makes, build/tensorrt-headers: TensorRT 11.4 and TensorRT-RTX 1.3 to 1.7. For
each, a C++ program is compiled that tells the place of every method in its virtual table (in the Itanium C++ ABI a pointer to a
virtual function holds its offset) and the value of every enumerator. Destructors have no such pointers and are left out, and so
are families whose headers are not there. Exit code 1 if something differs; where headers or compiler (CXX) are missing it says
so and succeeds.
"""
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gen_vtables import rows, version

ROOT = Path(__file__).resolve().parent.parent
# Folder -> family and version.
HEADERS = {
    "TRT-Enterprise-11.4": ("11", "11.4"),
    "TRT-RTX-1.3": ("rtx1.3", "1.3"),
    "TRT-RTX-1.4": ("rtx1.3", "1.4"),
    "TRT-RTX-1.5": ("rtx1.5", "1.5"),
    "TRT-RTX-1.6": ("rtx1.5", "1.6"),
    "TRT-RTX-1.7": ("rtx1.5", "1.7"),
}
PARSER_CLASSES = {"IParser", "IParserError"}
ENUM_NAMES = {"ParserErrorCode": "nvonnxparser::ErrorCode", "OnnxParserFlag": "nvonnxparser::OnnxParserFlag",
              "ILoggerSeverity": "nvinfer1::ILogger::Severity"}
START = """#include <NvInfer.h>
#include <NvOnnxParser.h>
#include <cstdio>
#include <cstring>
using namespace nvinfer1;
using nvonnxparser::IParser; using nvonnxparser::IParserError;
template <class Method> long slot(Method method) {
    long words[2];
    static_assert(sizeof method == sizeof words, "the Itanium ABI");
    std::memcpy(words, &method, sizeof words);
    return (words[0] - 1) / static_cast<long>(sizeof(void*));
}
int main() {
"""


def in_force(found, at):
    """The row that holds in a version: the last that begins at or before it."""
    held = [row for row in found if version(row[0]) <= version(at)]
    return max(held, key=lambda row: version(row[0]), default=None)


def table(name, family, at):
    """(class or enumeration, method or enumerator) -> (value, signature) in one version."""
    found = {}
    for row in rows(name):
        if name == "tensorrt_slots.tsv":
            owner, of, member, value, start, signature = row
        else:
            (owner, of, member, value, start), signature = row, ""
        if of == family and "~" not in member:
            found.setdefault((owner, member), []).append((start, value, signature))
    held = {key: in_force(found[key], at) for key in found}
    return {key: row[1:] for key, row in held.items() if row and row[1] != "-"}


def statement(owner, member, signature):
    """A line of the C++ program that tells a method's slot. The signature tells overloads apart."""
    result, of, arguments, const = re.fullmatch(r"(.*?)(\w+)::\w+\((.*)\)( const)?", signature).groups()
    if owner in PARSER_CLASSES:
        result, arguments = (re.sub(r"\b(ErrorCode|OnnxParserFlag)\b", r"nvonnxparser::\1", t) for t in (result, arguments))
    where = owner if owner in PARSER_CLASSES else f"nvinfer1::{'apiv::' if owner.startswith('V') else ''}{owner}"
    # What a class has from its base has the base's type; a class is its own base too.
    holder = where if of == owner else f"nvinfer1::{of}"
    plain = f"{result} ({holder}::*)({arguments}){const or ''}"
    return (f'    std::printf("{owner}.{member}\\t%ld\\n", '
            f"slot(static_cast<{plain}>(&{where}::{member.split('(')[0]})));\n")


def source(slots, enums):
    """The program."""
    out = [START]
    out += [statement(owner, member, signature) for (owner, member), (_, signature) in slots.items()]
    for enum, enumerator in enums:
        name = ENUM_NAMES.get(enum, f"nvinfer1::{enum}")
        out.append(f'    std::printf("{enum}.{enumerator}\\t%d\\n", static_cast<int>({name}::{enumerator}));\n')
    return "".join(out) + "}\n"


def check(compiler, headers, folder, scratch):
    """What differs for one set of headers, and how much was compared."""
    family, at = HEADERS[folder]
    slots, enums = (table(name, family, at) for name in ("tensorrt_slots.tsv", "tensorrt_enums.tsv"))
    program, binary = scratch / f"{folder}.cpp", scratch / folder
    program.write_text(source(slots, enums))
    done = subprocess.run([compiler, "-std=c++17", "-O0", "-w", f"-isystem{headers / folder}", f"-isystem{headers}",
                           str(program), "-o", str(binary)], capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"{folder}: the headers do not have what the tables say:\n{done.stderr[:4000]}"], 0
    lines = subprocess.run([str(binary)], capture_output=True, text=True, check=True).stdout.splitlines()
    told = dict(line.split("\t") for line in lines)
    expected = {f"{owner}.{member}": value[0] for (owner, member), value in {**slots, **enums}.items()}
    wrong = [f"{folder}: {key} is {told.get(key)}, and the table says {value}"
             for key, value in expected.items() if told.get(key) != value]
    return wrong, len(expected)


def main():
    """Checks every set of headers that is there."""
    headers = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build/tensorrt-headers"
    compiler = os.environ.get("CXX") or shutil.which("clang++") or shutil.which("g++") or shutil.which("c++")
    present = [folder for folder in HEADERS if (headers / folder).is_dir()]
    if not compiler or not present or platform.system() != "Linux":
        print(f"SKIPPED TensorRT's tables: needs a C++ compiler (CXX) on Linux and the headers in {headers} "
              "(tools/fetch_tensorrt_headers.sh)")
        return
    wrong, compared = [], 0
    with tempfile.TemporaryDirectory() as scratch:
        for folder in present:
            found, count = check(compiler, headers, folder, Path(scratch))
            wrong += found
            compared += count
    print("\n".join(wrong) or f"TensorRT's tables: {compared} slots and enumerators of {len(present)} sets of headers are right")
    sys.exit(bool(wrong))


main()
