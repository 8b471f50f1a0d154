#!/usr/bin/env python3
"""Makes stand-ins for the CUDA libraries that TensorRT 8's plugin library asks for when it is loaded.

    tools/tensorrt_standins.py build/tensorrt-8.5 [FOLDER]

libnvonnxparser.so.8 needs libnvinfer_plugin.so.8, which needs libcublas.so.11, libcublasLt.so.11 and libcudnn.so.8 only to be
loaded: the parser calls none of them. Where the real ones are missing, the stand-ins have the names and symbol versions that
the linker asks for, and every function fails. Plugins do not work with them, nor do TensorRT's tactics from cuBLAS and cuDNN.

The libraries go to FOLDER (the library's own folder if none is given, where TensorRT looks). Needs a C compiler (CC) and readelf.
A library that is already there is kept.
"""
import os
import re
import subprocess
import sys
from pathlib import Path

NEEDED = ["libcublas.so.11", "libcublasLt.so.11", "libcudnn.so.8"]


def asked_for(library):
    """Symbols with versions that a library takes from the needed ones: library name -> names."""
    text = subprocess.run(["readelf", "--dyn-syms", "--wide", str(library)], check=True, capture_output=True, text=True).stdout
    found = {name: set() for name in NEEDED}
    for symbol, version in re.findall(r"UND (\S+)@(\S+)", text):
        if version in found:
            found[version].add(symbol)
        elif version.split("_")[0] in ("libcublas", "libcublasLt", "libcudnn"):
            sys.exit(f"{library.name} asks for {symbol} in the unknown version {version}")
    return found


def make(folder, name, symbols):
    """One stand-in: each function gives 1, which is "not initialized" for all of these libraries."""
    source, script, target = (folder / f".{name}{end}" for end in (".c", ".map", ".tmp"))
    source.write_text("".join(f"int {s}(void) {{ return 1; }}\n" for s in sorted(symbols)) or "int mezzo_standin;\n")
    script.write_text(f"{name} {{ global: *; }};\n")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-w", "-o", str(target), str(source),
                    f"-Wl,-soname,{name}", f"-Wl,--version-script,{script}"], check=True)
    target.rename(folder / name)
    source.unlink()
    script.unlink()


def main():
    """Makes those that are not there."""
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    library = Path(sys.argv[1]) / "libnvinfer_plugin.so.8"
    folder = Path(sys.argv[-1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, symbols in asked_for(library).items():
        if not (folder / name).exists():
            make(folder, name, symbols)
            print(f"{folder / name}: a stand-in with {len(symbols)} functions")


main()
