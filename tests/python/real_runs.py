"""One model in three ways: ONNX Runtime in FP32 (the truth), Mezzo in FP32, and Mezzo on its own FP16 conversion."""

from judge import FP32_TOLERANCE, as_half, difference, session
from mezzo_cli import file_stem
from verdicts import expect

WAYS = ("onnxruntime", "fp32", "fp16")


class Ways:
    def __init__(self, path, mezzo, work):
        self.path, self.mezzo = path, mezzo
        self.work = work / path.stem
        self.work.mkdir(parents=True, exist_ok=True)
        self.half = self.work / "half.onnx"
        self.session = session(path)

    def run(self, way, inputs):
        """Outputs by the names of `mezzo run`'s files, whichever way computed them."""
        if way == "onnxruntime":
            names = [output.name for output in self.session.get_outputs()]
            return {file_stem(name): array for name, array in zip(names, self.session.run(names, inputs))}
        if way == "fp32":
            return self.mezzo.run(self.path, inputs, self.work)
        if not self.half.exists():
            self.mezzo.convert(self.path, self.half)  # inputs and outputs too: what is fed back is rounded each time
        return self.mezzo.run(self.half, as_half(inputs), self.work)


def only(outputs):
    """The array of a model with one output, as float32."""
    (array,) = outputs.values()
    return array.astype("float32")


def expect_fp32(got, expected, what):
    worst = difference({what: got}, {what: expected})
    expect(worst <= FP32_TOLERANCE, f"{what}: FP32 differs from ONNX Runtime by {worst:.1e} of the maximum, "
                                    f"at most {FP32_TOLERANCE:.0e} is allowed")
    return worst
