"""Reads the held-out digits; the format is described in tests/data/digits/README.md."""

import struct

import numpy as np


def read_digits(path):
    """Images as float32 [n,1,8,8] in 0..1, and labels."""
    content = path.read_bytes()
    magic, count, height, width = struct.unpack_from("<4s3I", content)
    pixels = count * height * width
    if magic != b"MZD1" or len(content) != 16 + pixels + count:
        raise ValueError(f"{path} is not a digits file")
    body = np.frombuffer(content, np.uint8, offset=16)
    return body[:pixels].reshape(count, 1, height, width).astype(np.float32) / 16, body[pixels:]
