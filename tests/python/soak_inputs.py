"""Values for the inputs that a model declares, as JSON that the example `soak_models` reads."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mutations import FLOATS, INTS

LARGEST = 1 << 16  # elements


def too_large(value):
    if isinstance(value, np.ndarray):
        return value.size > LARGEST
    return isinstance(value, TensorProto) and int(np.prod(value.dims)) > LARGEST


class Inputs:
    """Values for a model's declared inputs, as the example reads them."""

    def __init__(self, rng, data):
        self.rng, self.data, self.symbols = rng, data, {}
        self.numbers = np.random.default_rng(rng.getrandbits(63))

    def of(self, model):
        given = {i.name for i in model.graph.initializer}
        return {i.name: self.value(i.name, i.type) for i in model.graph.input if i.name not in given}

    def value(self, name, kind):
        which = kind.WhichOneof("value")
        own = self.data.get(name)
        if which == "sequence_type":
            if isinstance(own, (list, tuple)):
                return {"sequence": [encode(v) for v in own]}
            return {"sequence": [self.value("", kind.sequence_type.elem_type) for _ in range(self.rng.randrange(3))]}
        if which == "optional_type":
            inside = self.value(name, kind.optional_type.elem_type)
            return {"optional": None if self.rng.random() < 0.4 else inside}
        if which != "tensor_type":
            return encode(own) if isinstance(own, (np.ndarray, TensorProto)) else self.tensor(TensorProto.FLOAT, [2])
        return self.declared(own, kind.tensor_type)

    def declared(self, own, kind):
        if isinstance(own, np.ndarray):
            own = numpy_helper.from_array(own)
        dims = [self.dim(d) for d in kind.shape.dim] if kind.HasField("shape") else None
        if isinstance(own, TensorProto) and own.data_type == kind.elem_type and self.rng.random() < 0.9:
            if dims is None or len(dims) == len(own.dims) and all(
                    d.WhichOneof("value") == "dim_param" or not d.HasField("dim_value") or d.dim_value == n
                    for d, n in zip(kind.shape.dim, own.dims)):
                return encode(self.changed(own))
        if dims is None:
            dims = [self.rng.randrange(4) for _ in range(self.rng.randrange(4))]
        return self.tensor(kind.elem_type, dims)

    def changed(self, tensor):
        """The tensor, at times with some odd values."""
        if tensor.data_type == TensorProto.STRING or self.rng.random() < 0.7:
            return tensor
        x = numpy_helper.to_array(tensor).copy()
        if not x.size or x.dtype.kind not in "iuf":
            return tensor
        with np.errstate(all="ignore"):
            for _ in range(self.rng.randrange(1, 3)):
                at, odd = self.rng.randrange(x.size), FLOATS if x.dtype.kind == "f" else INTS
                x.reshape(-1)[at] = np.asarray(self.rng.choice(odd)).astype(x.dtype)
        return numpy_helper.from_array(x)

    def dim(self, d):
        if d.HasField("dim_value"):
            return d.dim_value
        size = self.rng.choice([0, 1, 1, 2, 2, 3, 4])
        size = 2**40 if size == 0 and self.rng.random() < 0.05 else size
        return self.symbols.setdefault(d.dim_param, size) if d.dim_param else size

    def tensor(self, kind, dims):
        size = 1
        for d in dims:
            size *= max(d, 0)
        if size > LARGEST:
            dims = [min(max(d, 0), 2**40 if 0 in dims else 2) for d in dims]  # it does not fit, which must be an error
        dims = [max(d, 0) for d in dims]
        if 0 in dims and self.rng.random() < 0.2:
            # No elements at all, and yet a size that no list can have.
            dims = [d and (self.rng.choice([d, 2**20, 2**40, 2**62]) if d > 1 else d) for d in dims]
        if kind == TensorProto.STRING:
            words = ["", "a", "b c", "\u00e9", "1.5", "nan"]
            return {"dims": dims, "strings": [self.rng.choice(words) for _ in range(int(np.prod(dims)))]}
        if 0 in dims:
            return {"dtype": kind, "dims": dims, "hex": ""}
        try:
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
        except KeyError:
            return {"dims": dims, "strings": []}
        with np.errstate(all="ignore"):
            if dtype.kind in "iu":
                x = self.numbers.integers(0, 6, dims)
                if x.size and self.rng.random() < 0.3:
                    x.flat[0] = self.rng.choice([-1, -100, 100, 2**31 - 1, 2**62, -(2**63)])
            else:
                x = np.asarray(self.numbers.standard_normal(dims))
                if x.size and self.rng.random() < 0.2:
                    x.flat[0] = self.rng.choice(FLOATS)
            return encode(numpy_helper.from_array(np.asarray(x).astype(dtype)))


def encode(value):
    if value is None:
        return {"optional": None}
    if isinstance(value, (list, tuple)):
        return {"sequence": [encode(v) for v in value]}
    tensor = value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value))
    if tensor.data_type == TensorProto.STRING:
        return {"dims": list(tensor.dims), "strings": [s.decode(errors="replace") for s in tensor.string_data]}
    if not tensor.raw_data:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor))
    return {"dtype": tensor.data_type, "dims": list(tensor.dims), "hex": tensor.raw_data.hex()}
