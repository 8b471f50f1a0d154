"""One converter, one file, one process: `python peers.py TOOL IN OUT`. The benchmark starts a process per measurement, so
that peak memory is that tool's alone. Each peer is used as its own documentation says for a large model."""

import sys


def onnxconverter_common(source, target):
    import onnx
    from onnxconverter_common import float16

    model = float16.convert_float_to_float16_model_path(source, keep_io_types=True)
    save(onnx, model, target)


def onnxruntime_float16(source, target):
    import onnx
    from onnxruntime.transformers import float16

    model = float16.convert_float_to_float16(onnx.load(source), keep_io_types=True)
    save(onnx, model, target)


def autocast(source, target):
    import onnx
    from modelopt.onnx.autocast import convert_to_mixed_precision

    model = convert_to_mixed_precision(onnx_path=source, low_precision_type="fp16", keep_io_types=True)
    save(onnx, model, target)


def save(onnx, model, target):
    if model.ByteSize() > 1_900_000_000:
        onnx.save(model, target, save_as_external_data=True, location=target.rsplit("/", 1)[-1] + ".data")
    else:
        onnx.save(model, target)


TOOLS = {
    "onnxconverter-common": onnxconverter_common,
    "onnxruntime float16": onnxruntime_float16,
    "modelopt autocast": autocast,
}

if __name__ == "__main__":
    TOOLS[sys.argv[1]](sys.argv[2], sys.argv[3])
