#!/usr/bin/env python3
"""DLPack with PyTorch on a GPU: torch's tensors become an engine's inputs, the engine's outputs torch's tensors, without a copy.

    python tests/gpu/dlpack_torch.py LIBMEZZO ENGINE TENSORRT

ENGINE takes one input; it is run by the C interface through ctypes and compared with itself on a copy of the same numbers.
"""
import ctypes
import sys

import torch

P = ctypes.c_void_p
python = ctypes.pythonapi
python.PyCapsule_New.restype, python.PyCapsule_New.argtypes = ctypes.py_object, [P, ctypes.c_char_p, P]
python.PyCapsule_GetPointer.restype, python.PyCapsule_GetPointer.argtypes = P, [ctypes.py_object, ctypes.c_char_p]
python.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
NAME, USED = b"dltensor_versioned", b"used_dltensor_versioned"


class Library:
    """Calls that raise what they report."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.mezzo_error_message.restype = ctypes.c_char_p

    def call(self, name, *arguments):
        function = getattr(self.library, name)
        function.restype = P
        error = function(*arguments)
        if error:
            text = self.library.mezzo_error_message(P(error)).decode()
            raise RuntimeError(f"{name}: {text}")

    def make(self, name, *arguments):
        handle = P()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle

    def get(self, name, *arguments, result=P):
        function = getattr(self.library, name)
        function.restype = result
        return function(*arguments)

    def take(self, tensor):
        """A value over torch's memory; the capsule is used up."""
        capsule = tensor.__dlpack__(max_version=(1, 0))
        value = self.make("mezzo_value_from_dlpack", P(python.PyCapsule_GetPointer(capsule, NAME)), None, None)
        python.PyCapsule_SetName(capsule, USED)
        return value

    def give(self, value):
        """Torch's tensor over a value's memory."""
        pointer = self.make("mezzo_value_to_dlpack", value, None, None)
        return torch.from_dlpack(Capsule(python.PyCapsule_New(pointer, NAME, None)))


class Capsule:
    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack__(self, **_):
        return self.capsule

    def __dlpack_device__(self):
        return (2, 0)


def main():
    mezzo = Library(sys.argv[1])
    options = P(mezzo.get("mezzo_engine_options_new"))
    mezzo.call("mezzo_engine_options_set", options, b"tensorrt.library", sys.argv[3].encode())
    engine = mezzo.make("mezzo_engine_load_file", None, sys.argv[2].encode(), options)
    name = mezzo.get("mezzo_io_name", P(mezzo.get("mezzo_engine_input", engine, ctypes.c_size_t(0))), result=ctypes.c_char_p)
    result = mezzo.get("mezzo_io_name", P(mezzo.get("mezzo_engine_output", engine, ctypes.c_size_t(0))), result=ctypes.c_char_p)
    stream = torch.cuda.Stream()
    borrowed = mezzo.make("mezzo_stream_from_cuda", ctypes.c_size_t(0), P(stream.cuda_stream))
    context = mezzo.make("mezzo_context_new", engine)
    torch.manual_seed(0)
    for batch in (32, 5, 450):
        with torch.cuda.stream(stream):
            images = torch.rand(batch, 1, 8, 8, device="cuda", dtype=torch.float16)
            value = mezzo.take(images)
            mezzo.call("mezzo_context_bind", context, name, value)
            mezzo.call("mezzo_context_enqueue", context, borrowed)
            out = mezzo.make("mezzo_context_output", context, result)
            logits = mezzo.give(out)
            # Torch goes on with the same memory on the same stream.
            doubled = logits * 2
        stream.synchronize()
        assert logits.data_ptr() == mezzo.get("mezzo_value_data", out) and logits.shape == (batch, 10), logits.shape
        home = mezzo.make("mezzo_context_new", engine)
        host = mezzo.take(images.cpu())
        mezzo.call("mezzo_context_bind", home, name, host)
        mezzo.call("mezzo_context_run", home, None)
        want = mezzo.make("mezzo_context_output", home, result)
        copy = (ctypes.c_uint16 * (batch * 10))()
        mezzo.call("mezzo_value_copy_out", want, copy, ctypes.c_size_t(batch * 20))
        want_bits = torch.frombuffer(bytearray(copy), dtype=torch.float16).reshape(batch, 10)
        assert torch.equal(logits.cpu(), want_bits) and torch.equal(doubled.cpu(), want_bits * 2), f"batch {batch} differs"
        assert want_bits.abs().max() > 0.1
        for handle in (value, host, out, want):
            mezzo.get("mezzo_value_free", handle, result=None)
        mezzo.get("mezzo_context_free", home, result=None)
        # Torch's tensor lives on after our handles are gone.
        assert torch.equal(logits.cpu(), want_bits)
    print("ok: torch's memory as input, the engine's as torch's, batches 32, 5 and 450, bit for bit")


if __name__ == "__main__":
    main()
