"""silero-vad on real speech: hush, a spoken sentence, then louder noise, as one stream whose state is fed back."""

import numpy as np

from judge import as_half
from real_runs import WAYS, expect_fp32
from speech import resample
from verdicts import expect

# Samples of a chunk and of the context that the model wants before it, by sampling rate (silero_vad/sequence_vad.py).
CHUNK = {16000: (512, 64), 8000: (256, 32)}
HUSH, NOISE, LINGER = 12, 16, 4  # chunks; the model lets speech end late, so the first few of the noise are not judged
LOUDNESS = {"hush": 1e-3, "noise": 0.03}  # the sentence reaches 0.75
SPEECH, SILENCE = 0.8, 0.2  # means; ONNX Runtime's are about 0.96 and 0.1
UNDECIDED = 0.05  # so near to 0.5 a chunk may fall to either side


class Stream:
    """Chunks with their context, [chunk][sample], and which of them are speech or silence."""

    def __init__(self, samples, rate, wanted):
        self.rate = wanted
        count, context = CHUNK[wanted]
        spoken = resample(samples, rate, wanted)
        spoken = np.pad(spoken, (0, -len(spoken) % count))
        rng = np.random.default_rng(0)
        hush = rng.normal(scale=LOUDNESS["hush"], size=HUSH * count)
        noise = rng.normal(scale=LOUDNESS["noise"], size=NOISE * count)
        chunks = np.concatenate([hush, spoken, noise]).astype(np.float32).reshape(-1, count)
        before = np.zeros((len(chunks), context), np.float32)
        before[1:] = chunks[:-1, -context:]
        self.chunks = np.concatenate([before, chunks], axis=1)
        words = len(spoken) // count
        self.speech = slice(HUSH, HUSH + words)
        self.silence = np.r_[:HUSH, HUSH + words + LINGER:len(chunks)]


def probabilities_by_chunk(ways, way, stream):
    """One run a chunk. Each way lives with its own state from beginning to end, so that errors may pile up."""
    state, found = np.zeros((2, 1, 128), np.float32), []
    for chunk in stream.chunks:
        outputs = ways.run(way, {"input": chunk[None], "state": state, "sr": np.array(stream.rate, np.int64)})
        state = outputs["stateN"].astype(np.float32)
        found.append(outputs["output"].item())
    return np.array(found)


def probabilities_at_once(ways, way, stream):
    state = np.zeros((1, 1, 128), np.float32)
    return ways.run(way, {"input": stream.chunks, "h": state, "c": state})["speech_probs"].astype(np.float64)


class Scripted:
    """The TorchScript archive of the same network, which keeps context and state itself: inputs and outputs of its model.
    ONNX Runtime answers with the ONNX twin."""

    def __init__(self, archive, twin, rate):
        self.twin, self.mezzo, self.work = twin, twin.mezzo, twin.work / f"jit{rate}"
        self.work.mkdir(parents=True, exist_ok=True)
        self.options = ["--input-shape", f"x=1x{CHUNK[rate][0]}:fp32", "--input-shape", f"sr={rate}"]
        self.archive, self.half = archive, self.work / "half.onnx"

    def run(self, way, inputs):
        if way == "fp32":
            return self.mezzo.run(self.archive, inputs, self.work, *self.options)
        if not self.half.exists():
            self.mezzo.convert(self.archive, self.half, *self.options)
        return self.mezzo.run(self.half, as_half(inputs), self.work)


def probabilities_of_scripted(scripted, way, stream):
    if way == "onnxruntime":
        return probabilities_by_chunk(scripted.twin, way, stream)
    count, context = CHUNK[stream.rate]
    state, found = {"_context": np.zeros((1, context), np.float32), "_state": np.zeros((2, 1, 128), np.float32)}, []
    for chunk in stream.chunks:
        fed = {f"state.{name}": array for name, array in state.items()}
        outputs = scripted.run(way, {"x": chunk[None, -count:], **fed})
        state = {name: outputs[f"state.{name}.next"].astype(np.float32) for name in state}
        found.append(outputs["output"].item())
    return np.array(found)


def check_vad(ways, probabilities, stream):
    found = {way: probabilities(ways, way, stream) for way in WAYS}
    want = found["onnxruntime"]
    means = {}
    for way, values in found.items():
        expect(np.isfinite(values).all(), f"{way}: probabilities are not finite")
        speech, silence = means[way] = values[stream.speech].mean(), values[stream.silence].mean()
        expect(speech > SPEECH, f"{way}: mean probability over speech is {speech:.2f}, not above {SPEECH}")
        expect(silence < SILENCE, f"{way}: mean probability over silence is {silence:.2f}, not below {SILENCE}")
    worst = expect_fp32(found["fp32"], want, "probabilities")
    clear = np.abs(want - 0.5) > UNDECIDED
    other = np.flatnonzero(clear & ((found["fp16"] > 0.5) != (want > 0.5)))
    expect(not len(other), f"FP16 decides otherwise in chunks {other.tolist()}: "
                           f"{found['fp16'][other].round(3).tolist()}, ONNX Runtime {want[other].round(3).tolist()}")
    half = np.abs(found["fp16"] - want).max()
    return (f"speech {means['fp32'][0]:.2f}, silence {means['fp32'][1]:.2f} (FP16 {means['fp16'][0]:.2f}, "
            f"{means['fp16'][1]:.2f}); FP32 off by {worst:.1e}; FP16 off by {half:.1e}, "
            f"same decision in {clear.sum()} of {len(want)} chunks, {(~clear).sum()} undecided")
