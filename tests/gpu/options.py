#!/usr/bin/env python3
"""The options of a build, each with the TensorRT at hand: taken, with right results, or refused where this version lacks it.

    python tests/gpu/options.py FOLDER --mezzo MEZZO --library TENSORRT --models FOLDER

Builds the digits' network with 32 fixed images and with any number of them. Prints a line for each test.
"""
import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "python"))
from agree import Placed, difference  # noqa: E402
from engines import SOURCES  # noqa: E402
from mezzo_cli import Mezzo, MezzoError  # noqa: E402

DIGITS = HERE.parent / "data" / "digits" / "digits.onnx"
# What TensorRT has from 8.6 on, and what TensorRT-RTX alone has.
LATER = [("--optimization-level", "3"), ("--hardware-compatibility", "ampere_plus"), ("--version-compatible",), ("--aux-streams", "2")]
OF_RTX = ("--compute-capability", "current")


class Options:
    def __init__(self, arguments):
        self.folder, self.library = arguments.folder, arguments.library
        self.folder.mkdir(parents=True, exist_ok=True)
        self.mezzo = Placed(Mezzo(arguments.mezzo), arguments.library)
        self.fixed = arguments.models / "digits32.onnx"
        self.cache = self.folder / "timing.cache"

    def build(self, name, *options, model=None, sources=SOURCES):
        """An engine, and the seconds it took."""
        engine = self.folder / f"{name}.engine"
        began = time.monotonic()
        self.mezzo.call("build", model or self.fixed, engine, "--backend", "tensorrt", "--tactic-sources", sources, *options)
        return engine, time.monotonic() - began

    def quick(self, name, *options, **more):
        return self.build(name, "--timing-cache", self.cache, *options, **more)

    def off(self, engine, batch=32, bound=2e-2):
        """How far the engine is from the CPU backend in FP32."""
        inputs = {"image": np.random.default_rng(batch).uniform(0, 1, (batch, 1, 8, 8)).astype(np.float32)}
        want = Mezzo(self.mezzo.program).run(DIGITS, inputs, self.folder / "cpu")
        held = self.mezzo.inspect(engine)["inputs"][0]["dtype"]
        got = self.mezzo.run(engine, {"image": inputs["image"].astype(np.float16 if held == "fp16" else np.float32)}, self.folder / "gpu")
        off = difference(got, want)
        assert off <= bound, f"off by {off}"
        return off

    def refused(self, text, function):
        try:
            function()
        except MezzoError as error:
            assert text in str(error), error
            return str(error)
        raise AssertionError(f"not refused: {text}")

    def test_timing_cache(self):
        """Written by the first build, used by the second, which is quicker, and whole after both."""
        self.cache.unlink(missing_ok=True)
        _, first = self.quick("first", "--precision", "fp16")
        size = self.cache.stat().st_size
        engine, second = self.quick("second", "--precision", "fp16")
        assert size > 100 and self.cache.stat().st_size >= size and second < first, (size, first, second)
        return f"{first:.1f} s, then {second:.1f} s; {size} bytes; off by {self.off(engine):.1e}"

    def test_profiles(self):
        engine, _ = self.quick("profiles", "--precision", "fp16", "--profile", "image=1x1x8x8:2x1x8x8:4x1x8x8", "--profile",
                                  "image=16x1x8x8:32x1x8x8:64x1x8x8", model=DIGITS)
        worst = max(self.off(engine, batch) for batch in (1, 4, 16, 64))
        return f"off by {worst:.1e} in both; " + self.refused("profile", lambda: self.off(engine, 8))

    def test_tactic_sources(self):
        for names in SOURCES.split(","):
            self.off(self.build(f"sources-{names}", sources=names)[0])
        return self.refused("cutlass", lambda: self.build("sources", sources="cutlass"))

    def test_later_options(self):
        """8.5 refuses them; later versions take those that are not TensorRT-RTX's alone."""
        version = self.mezzo.inspect(self.quick("plain")[0])["backend_version"]
        had = LATER if version.split(".")[:2] != ["8", "5"] else []
        said = []
        for option in had:
            try:
                said.append(f"{option[0]} taken, off by {self.off(self.quick('later', *option)[0]):.1e}")
            except (MezzoError, AssertionError) as reason:
                raise AssertionError(f"{version}, {' '.join(option)}: {reason}") from None
        for option in [*LATER, OF_RTX][len(had):]:
            said.append(self.refused(f"': TensorRT {version} ", lambda: self.quick("later", *option)).split(": ")[-1])
        return "; ".join(said)

    def test_plan(self):
        """Out as TensorRT's own tools read it, in again: the same bits."""
        plan = self.folder / "digits.plan"
        engine, _ = self.quick("out", "--save-plan", plan)
        again = self.folder / "again.engine"
        self.mezzo.call("build", plan, again, "--trust-plan", "--backend", "tensorrt")
        assert self.off(engine) == self.off(again)
        self.refused("TensorRT plan", lambda: self.mezzo.call("build", plan, again, "--backend", "tensorrt"))
        return f"{plan.stat().st_size} bytes"

    def test_build_cache(self):
        cache = self.folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        one, first = self.quick("cache1", "--cache", cache)
        two, second = self.quick("cache2", "--cache", cache)
        assert one.read_bytes() == two.read_bytes() and second < first
        return f"{first:.1f} s, then {second:.1f} s"

    def test_workspace(self):
        return f"off by {self.off(self.quick('workspace', '--workspace', '16M')[0]):.1e}"

    def test_scratch_folder(self):
        """Through files, as models above 2 GB go."""
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        off = self.off(self.quick("scratch", "--scratch-folder", scratch)[0])
        assert not os.listdir(scratch)
        return f"off by {off:.1e}"

    def test_verbosity(self):
        told = [len(self.mezzo.call("inspect", self.quick(f"v-{level}", "--verbosity", level)[0], "--layers"))
                for level in ("none", "layer_names", "detailed")]
        assert told[0] < told[1] < told[2], told
        return f"{told} characters of layers"

    def test_tf32(self):
        # About a tenth of a per cent with TF32, less than a millionth without.
        exact, coarse = (self.off(self.build(f"tf32-{on}", "--tf32", on)[0]) for on in ("false", "true"))
        assert exact < 1e-5, exact
        return f"off by {exact:.1e} without, {coarse:.1e} with"

    def test_require_fp16(self):
        engine, _ = self.quick("half", "--precision", "fp16", "--require-fp16")
        self.refused("FP16", lambda: self.quick("single", "--require-fp16"))
        return f"off by {self.off(engine):.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mezzo", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--models", type=Path, required=True)
    options = Options(parser.parse_args())
    failed = 0
    for name in [n for n in vars(Options) if n.startswith("test_")]:
        try:
            print(f"ok      {name[5:].replace('_', ' ')}: {getattr(options, name)()}", flush=True)
        except (MezzoError, AssertionError, KeyError, OSError) as reason:
            failed += 1
            print(f"FAILED  {name[5:].replace('_', ' ')}: {type(reason).__name__} {str(reason)[:1000]}", flush=True)
    print(f"{failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
