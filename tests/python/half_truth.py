#!/usr/bin/env python3
"""Proves that FP16 on the CPU backend is true: operators read halves widened, compute in FP32 and round once.

    python tests/python/half_truth.py --mezzo target/release/mezzo --run-cases target/debug/examples/run_cases
           [--fixtures build/fixtures] [--digits tests/data/digits] [--published build/published] [--zoo build/zoo]
           [--only TEXT]

Nodes: each FP16 node, of whole models and of the ONNX node suite, is evaluated from what it really read, in FP32 or
FP64 and not rounded (node_truth.py). Each half that it wrote is within half a step of that, plus the noise of FP32.
Whole models: against a twin in FP32 that rounds every tensor to half (rounded_twin.py), in ONNX Runtime. A step is the
distance of neighbouring halves at a value, a unit 2^-11 of an output's largest value. Exit code 0 if all hold.
"""

import argparse
import sys
from pathlib import Path

from half_controls import judge_controls
from half_models import fetched, fixtures, judge_layers, judge_whole, zoo
from half_node_cases import judge_suite
from mezzo_cli import Mezzo
from rounded_twin import prove_rounding
from verdicts import Verdicts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mezzo", default="mezzo", help="the command to judge")
    parser.add_argument("--run-cases", type=Path, help="the built examples/run_cases.rs: the node suite is judged too")
    parser.add_argument("--fixtures", type=Path, help="the folder that make_models.py filled")
    parser.add_argument("--digits", type=Path, default=Path("tests/data/digits"), help="the folder of digits.onnx")
    parser.add_argument("--published", type=Path, help="the cache folder of published.py")
    parser.add_argument("--zoo", type=Path, help="the folder that make_zoo.py filled; by hand, it takes minutes")
    parser.add_argument("--only", metavar="TEXT", default="", help="models and cases whose name contains this")
    arguments = parser.parse_args()
    mezzo, verdicts = Mezzo(arguments.mezzo), Verdicts()
    verdicts.judge("controls", "twin", prove_rounding)
    verdicts.judge("controls", "nodes", judge_controls)
    subjects = [*(fixtures(arguments.fixtures, arguments.digits) if arguments.fixtures else []),
                *(fetched(arguments.published) if arguments.published else []),
                *(zoo(arguments.zoo) if arguments.zoo else [])]
    for subject in subjects:
        if arguments.only in subject.name:
            verdicts.judge(subject.name, "nodes", judge_layers, subject, mezzo)
            verdicts.judge(subject.name, "whole", judge_whole, subject, mezzo, False)
            verdicts.judge(subject.name, "whole --keep-io", judge_whole, subject, mezzo, True)
    if arguments.run_cases:
        verdicts.judge("node suite", "nodes", judge_suite, mezzo, arguments.run_cases, arguments.only)
    return verdicts.close()


if __name__ == "__main__":
    sys.exit(main())
