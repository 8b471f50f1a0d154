"""Runs models on the CPU backend through the example `run_cases`, which speaks JSON lines."""

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Crashed(Exception):
    """The process died."""


class Runner:
    def __init__(self, program, folder, timeout=60):
        self.program, self.folder, self.timeout = str(program), Path(folder), timeout
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = None

    def run(self, model, inputs, threads=1, repeat=0):
        """The answer's outputs by name as arrays, lists or None; or the error as (code, message)."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL, text=True)
        values = {name: self.write(value, self.folder / f"input{i}") for i, (name, value) in enumerate(inputs.items())}
        case = {"model": str(model), "inputs": values, "output_folder": str(self.folder), "threads": threads,
                "repeat": repeat}
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Crashed(self.process.wait())
        answer = json.loads(line)
        if "error" in answer:
            return None, (answer["code"], answer["error"])
        return {name: self.read(value) for name, value in answer["outputs"].items()}, answer

    def write(self, value, path):
        if value is None:
            return {"optional": None}
        if isinstance(value, TensorProto):
            if value.data_type == TensorProto.STRING:
                return {"dims": list(value.dims), "strings": [s.decode() for s in value.string_data]}
            tensor = value
        elif isinstance(value, (list, tuple)):
            return {"sequence": [self.write(item, Path(f"{path}_{i}")) for i, item in enumerate(value)]}
        else:
            value = np.asarray(value)
            if value.dtype.kind in "OUS":
                return {"dims": list(value.shape), "strings": [str(s) for s in value.reshape(-1)]}
            tensor = numpy_helper.from_array(value)
        raw = tensor.raw_data
        if not raw:
            tensor = numpy_helper.from_array(numpy_helper.to_array(tensor))
            raw = tensor.raw_data
        file = Path(f"{path}.bin")
        file.write_bytes(raw)
        return {"dtype": tensor.data_type, "dims": list(tensor.dims), "file": str(file)}

    def read(self, value):
        if "file" in value:
            tensor = helper.make_tensor("", value["dtype"], value["dims"], Path(value["file"]).read_bytes(), raw=True)
            return numpy_helper.to_array(tensor)
        if "strings" in value:
            return np.array(value["strings"], dtype=object).reshape(value["dims"])
        if "sequence" in value:
            return [self.read(item) for item in value["sequence"]]
        return None if value["optional"] is None else self.read(value["optional"])


def input_names(model):
    """Names of the inputs that no initializer gives."""
    given = {i.name for i in model.graph.initializer}
    return [i.name for i in model.graph.input if i.name not in given]


def load(path):
    return onnx.load(str(path), load_external_data=False)
