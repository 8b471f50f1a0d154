"""magika names the types of real files, from the bytes at their beginnings and ends."""

import gzip
import io
import json
import struct
import sys
import wave
import zipfile
import zlib
from pathlib import Path

import numpy as np

from real_runs import WAYS, expect_fp32, only
from verdicts import expect

REPOSITORY = Path(__file__).parents[2]


def make_png():
    """A grey ramp, written by hand."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(96)) for y in range(96))  # 0: the row is not filtered
    header = struct.pack(">IIBBBBB", 96, 96, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def make_zip(*paths):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.writestr(path.name, path.read_bytes())
    return buffer.getvalue()


def make_wav(samples, rate):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def make_html(path):
    lines = "\n".join(f"<li><code>{line.strip()}</code></li>" for line in path.read_text().splitlines()[:40] if line)
    head = f"<!DOCTYPE html>\n<html><head><title>{path.name}</title></head>"
    return f"{head}\n<body><ul>\n{lines}\n</ul></body></html>\n".encode()


def make_files(samples, rate, config):
    """Content by the label that it should get: files of the repository and of this machine, and some made here."""
    source, header = REPOSITORY / "tests/python/judge.py", REPOSITORY / "include/mezzo/mezzo.h"
    files = {
        "python": source.read_bytes(),
        "rust": (REPOSITORY / "src/lib.rs").read_bytes(),
        "c": header.read_bytes(),
        "markdown": (REPOSITORY / "docs/cli.md").read_bytes(),
        "onnx": (REPOSITORY / "tests/data/digits/digits.onnx").read_bytes(),
        "json": json.dumps(config, indent=2).encode(),
        "html": make_html(header),
        "png": make_png(),
        "zip": make_zip(source, header),
        "gzip": gzip.compress(source.read_bytes(), mtime=0),
        "wav": make_wav(samples, rate),
    }
    if sys.platform == "linux":
        files["elf"] = Path(sys.executable).read_bytes()
    return files


def features(content, config):
    """magika's recipe: a block at each end, without outer white space, cut or padded to its number of bytes."""
    block, padding = config["block_size"], config["padding_token"]
    tokens = np.full(config["beg_size"] + config["end_size"], padding, np.int32)
    beginning = content[:block].lstrip()[:config["beg_size"]]
    end = content[-block:].rstrip()[-config["end_size"]:]
    tokens[:len(beginning)] = list(beginning)
    tokens[len(tokens) - len(end):] = list(end)
    return tokens


def check_magika(ways, config_path, samples, rate):
    config = json.loads(config_path.read_text())
    files = make_files(samples, rate, config)
    batch = {"bytes": np.stack([features(content, config) for content in files.values()])}
    scores = {way: only(ways.run(way, batch)) for way in WAYS}
    labels = np.array(config["target_labels_space"])
    named = {way: labels[values.argmax(axis=1)].tolist() for way, values in scores.items()}
    for way in WAYS:
        wrong = [f"{label} is named {name}" for label, name in zip(files, named[way]) if label != name]
        expect(not wrong, f"{way}: {', '.join(wrong)}")
    worst = expect_fp32(scores["fp32"], scores["onnxruntime"], "scores")
    half = np.abs(scores["fp16"] - scores["onnxruntime"]).max()
    return (f"{', '.join(files)}; scores from {scores['fp32'].max(axis=1).min():.2f}; FP32 off by {worst:.1e}; "
            f"FP16 off by {half:.1e}, all {len(files)} the same")
