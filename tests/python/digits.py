"""Reads the held-out digits; the format is described in tests/data/digits/README.md."""

import struct
from pathlib import Path

import numpy as np

HELD_OUT = Path(__file__).parents[1] / "data" / "digits" / "digits_test.bin"


def read_digits(path):
    """Images as float32 [n,1,8,8] in 0..1, and labels."""
    content = path.read_bytes()
    magic, count, height, width = struct.unpack_from("<4s3I", content)
    pixels = count * height * width
    if magic != b"MZD1" or len(content) != 16 + pixels + count:
        raise ValueError(f"{path} is not a digits file")
    body = np.frombuffer(content, np.uint8, offset=16)
    return body[:pixels].reshape(count, 1, height, width).astype(np.float32) / 16, body[pixels:]


def handwriting(count, channels, height, width):
    """Lines of digits, enlarged to 40 pixels, ink -1 on paper 1: on noise the text detector answers zero everywhere."""
    digits, _ = read_digits(HELD_OUT)
    digits = digits.reshape(-1, 8, 8).repeat(5, axis=1).repeat(5, axis=2)
    page = np.ones((count, channels, height, width), np.float32)
    for index in range(count):
        line = np.concatenate(digits[index * 10:index * 10 + width // 40], axis=1)
        page[index, :, 4:44, :line.shape[1]] -= 2 * line
    return page
