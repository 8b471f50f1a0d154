#!/usr/bin/env python3
"""Judges published models end to end on real data: pages of text, speech, files, handwriting.

    python tests/python/real_data.py --mezzo target/release/mezzo --cache .cache/published

Each model answers in three ways: ONNX Runtime, Mezzo in FP32, and Mezzo on what `mezzo convert` made of it. All three
must be right about the data; FP32 numbers must be ONNX Runtime's, and FP16 must decide the same.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from digits import HELD_OUT, read_digits
from mezzo_cli import Mezzo
from real_magika import check_magika
from real_ocr import check_lines, check_page, check_reading, classify, recognise
from real_runs import WAYS, Ways, expect_fp32, only
from real_vad import Scripted, Stream, check_vad, probabilities_at_once, probabilities_by_chunk, probabilities_of_scripted
from speech import say
from verdicts import Failure, Verdicts, expect
from wheels import fetch

MAGIKA, SILERO, RAPIDOCR = "magika==1.0.3", "silero-vad==6.2.3", "rapidocr-onnxruntime==1.4.4"
SENTENCE = "Half precision keeps the answer."


def check_digits(ways):
    """judge.py holds the logits; this one counts."""
    images, labels = read_digits(HELD_OUT)
    logits = {way: only(ways.run(way, {"image": images})) for way in WAYS}
    right = {way: int((values.argmax(axis=1) == labels).sum()) for way, values in logits.items()}
    for way in WAYS:
        expect(right[way] >= 0.97 * len(labels), f"{way}: only {right[way]} of {len(labels)} are right")
        expect(abs(right[way] - right["onnxruntime"]) <= 1,
               f"{way}: {right[way]} are right, in ONNX Runtime {right['onnxruntime']}")
    worst = expect_fp32(logits["fp32"], logits["onnxruntime"], "logits")
    return (f"right of {len(labels)}: ONNX Runtime {right['onnxruntime']}, FP32 {right['fp32']}, FP16 {right['fp16']}; "
            f"FP32 off by {worst:.1e}")


def judge_all(mezzo, cache, work, verdicts):
    detector, classifier, recogniser = (Ways(path, mezzo, work) for path in fetch(
        RAPIDOCR, ["*_det_infer.onnx", "*_cls_infer.onnx", "*_rec_infer.onnx"], cache))
    verdicts.judge("rapidocr detector", "page of 2 lines", check_page, detector)
    verdicts.judge("rapidocr classifier", "its lines", check_lines, classifier, classify, detector)
    verdicts.judge("rapidocr recogniser", "its lines", check_lines, recogniser, recognise, detector)
    verdicts.judge("rapidocr, all three", "page", check_reading, detector, classifier, recogniser, False)
    verdicts.judge("rapidocr, all three", "lines upside down", check_reading, detector, classifier, recogniser, True)

    samples, rate = say(SENTENCE, cache)
    twin, whole, scripted = fetch(SILERO, ["silero_vad.onnx", "silero_vad_16k_sequence.onnx", "silero_vad.jit"], cache)
    branches, sequence = Ways(twin, mezzo, work), Ways(whole, mezzo, work)
    verdicts.judge("silero-vad, whole sequence", "speech, 16 kHz", check_vad, sequence, probabilities_at_once,
                   Stream(samples, rate, 16000))
    for wanted in (16000, 8000):
        verdicts.judge("silero-vad with If nodes", f"speech, {wanted // 1000} kHz", check_vad, branches,
                       probabilities_by_chunk, Stream(samples, rate, wanted))
        verdicts.judge("silero-vad's TorchScript archive", f"speech, {wanted // 1000} kHz", check_vad,
                       Scripted(scripted, branches, wanted), probabilities_of_scripted, Stream(samples, rate, wanted))

    model, config = fetch(MAGIKA, ["standard_v3_3/model.onnx", "standard_v3_3/config.min.json"], cache)
    verdicts.judge("magika", "files", check_magika, Ways(model, mezzo, work), config, samples, rate)
    verdicts.judge("digits", "handwriting", check_digits, Ways(HELD_OUT.with_name("digits.onnx"), mezzo, work))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mezzo", default="mezzo", help="the command to judge")
    parser.add_argument("--cache", type=Path, required=True, help="keep the downloaded models here")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory() as work:
        try:
            judge_all(Mezzo(arguments.mezzo), arguments.cache, Path(work), verdicts)
        except Failure as reason:  # of the synthesiser: without speech there is nothing to judge
            raise SystemExit(f"error: {reason}") from None
    return verdicts.close()


if __name__ == "__main__":
    sys.exit(main())
