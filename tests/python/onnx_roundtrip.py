"""Loads and saves every model of the onnx backend suite by the example `onnx_roundtrip`, and compares.

    python tests/python/onnx_roundtrip.py PATH_TO_EXAMPLE [MODEL.onnx ...]

Equal means: the same protobuf message, once tensor data is raw in both and fields that are present but empty are absent
in both; and onnx.checker takes the result wherever it took the original. The result is loaded and saved again and must
not change by a byte.
"""

import collections
import filecmp
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy
import onnx
import onnx.backend.test.loader
from onnx import numpy_helper

SHOWN = 20


def normalise(message):
    """Tensor data becomes raw; empty strings, default locations and sizes of -1 (unknown) become absent."""
    if isinstance(message, onnx.TensorProto):
        if message.data_location == onnx.TensorProto.DEFAULT:
            message.ClearField("data_location")
        if message.data_type != onnx.TensorProto.STRING:
            normalise_tensor(message)
    if isinstance(message, onnx.TensorShapeProto.Dimension) and message.dim_value < 0:
        message.ClearField("dim_value")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                normalise(item)
        elif not field.is_repeated and field.type == field.TYPE_STRING and value == "":
            message.ClearField(field.name)
    if isinstance(message, onnx.ValueInfoProto) and message.HasField("type") and not message.type.ListFields():
        message.ClearField("type")


def normalise_tensor(tensor):
    if not tensor.HasField("raw_data") or not tensor.raw_data:
        dims = list(tensor.dims)
        count = int(numpy.prod(dims, dtype=numpy.int64)) if dims else 1
        six_bits = tensor.data_type in (27, 28)
        packed = {21: 2, 22: 2, 23: 2, 25: 4, 26: 4}.get(tensor.data_type)
        if count == 0:
            raw = b""
        elif packed:
            raw = bytes(v & 0xFF for v in tensor.int32_data)
        elif six_bits:
            bits = sum((v & 63) << (6 * i) for i, v in enumerate(tensor.int32_data))
            raw = bits.to_bytes((6 * count + 7) // 8, "little")
        else:
            raw = numpy_helper.to_array(tensor).tobytes()
        for name in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            tensor.ClearField(name)
        tensor.raw_data = raw


def loads_in_checker(path):
    try:
        onnx.checker.check_model(str(path))
    except Exception as e:  # noqa: BLE001 - whatever the checker says
        return str(e)
    return None


def compare(original, saved):
    bare = onnx.load(str(saved), load_external_data=False)
    if bare.SerializeToString(deterministic=True) != pathlib.Path(saved).read_bytes():
        return "the bytes are not those that protobuf writes"
    a, b = onnx.load(str(original)), onnx.load(str(saved))
    normalise(a)
    normalise(b)
    if a != b:
        return "the models differ"
    before, after = loads_in_checker(original), loads_in_checker(saved)
    if before is None and after is not None:
        return f"the checker refuses the result: {after}"
    return None


def run(example, pairs, options=()):
    text = "".join(f"{a}\t{b}\n" for a, b in pairs)
    process = subprocess.run([example, *options], input=text, capture_output=True, text=True, check=False)
    lines = process.stdout.splitlines()
    if process.returncode or len(lines) != len(pairs):
        sys.exit(f"the example ended with {process.returncode} after {len(lines)} models:\n{process.stderr[-2000:]}")
    return lines


def suite(folder):
    """The models that the suite ships as files, and those of its node cases, which it makes in memory."""
    data = pathlib.Path(onnx.backend.test.loader.DATA_DIR)
    paths = sorted(str(p) for p in data.rglob("*.onnx"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = onnx.backend.test.loader.load_model_tests(kind="node")
    for i, case in enumerate(cases):
        path = pathlib.Path(folder) / f"{case.name}-{i}.onnx"
        path.write_bytes(case.model.SerializeToString())
        paths.append(str(path))
    return paths


def main():
    example, *models = sys.argv[1:]
    counts = collections.Counter()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        models = models or suite(folder)
        out = [f"{folder}/{i}.onnx" for i in range(len(models))]
        again = [f"{folder}/{i}-again.onnx" for i in range(len(models))]
        external = [f"{folder}/{i}-external.onnx" for i in range(len(models))]
        first = run(example, list(zip(models, out)))
        for i, line in enumerate(first):
            if line != "ok" and "oldest that is read is 7" in line:
                counts["older than opset 7"] += 1
            elif line != "ok":
                counts["refused"] += 1
                problems.append(f"{models[i]}: {line}")
        done = [i for i, line in enumerate(first) if line == "ok"]
        second = run(example, [(out[i], again[i]) for i in done])
        third = run(example, [(out[i], external[i]) for i in done], ["--external"])
        for i, line, line_external in zip(done, second, third):
            if line == "ok" and not filecmp.cmp(out[i], again[i], shallow=False):
                line = "saved again, the bytes differ"
            if line == "ok":
                line = compare(models[i], out[i]) or "ok"
            if line == "ok" and line_external != "ok":
                line = f"with external data: {line_external}"
            if line == "ok":
                line = compare(models[i], external[i]) or "ok"
                line = line if line == "ok" else f"with external data: {line}"
            counts["same" if line == "ok" else "different"] += 1
            if line != "ok":
                problems.append(f"{models[i]}: {line}")
    print("\n".join(problems[:SHOWN]))
    if len(problems) > SHOWN:
        print(f"... and {len(problems) - SHOWN} more")
    print(f"{len(models)} models:", ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    sys.exit(1 if counts["different"] else 0)


if __name__ == "__main__":
    main()
