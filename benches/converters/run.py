#!/usr/bin/env python3
"""Mezzo's converter beside its peers: the same files, the same run. CPU seconds, peak memory, casts, size.

    python benches/converters/run.py [--mezzo target/release/mezzo] [--work build/bench] [--only gpt_1.4GB] [--limit 120]

Peers that are not installed are said to be missing (onnxconverter-common and nvidia-modelopt[onnx] by pip; ONNX Runtime's
float16 comes with onnxruntime). CPU seconds are user plus system time of the converting process and its children; peak
memory is the process's largest resident set (mapped pages included), as the kernel counts it. A tool that takes more
than --limit CPU seconds is stopped and said to be so. About 8 GB of disk and of memory are needed for the large models.
"""

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

import onnx

import models
import peers

HERE = Path(__file__).resolve().parent


def measure(command, limit):
    """CPU seconds, peak memory in bytes, and None or why it failed."""
    def cap():
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 10))

    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=cap)
    errors = process.stderr.read().decode(errors="replace").strip().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    failure = None
    if process.returncode < 0:
        failure = f"stopped after {cpu:.0f} s" if cpu >= 0.9 * limit else f"killed by signal {-process.returncode}"
    elif process.returncode > 0:
        failure = errors[-1][:90] if errors else f"exit {process.returncode}"
    return cpu, usage.ru_maxrss * 1024, failure


def facts(path):
    """Casts and stored bytes of a result, external data included."""
    model = onnx.load(path, load_external_data=False)
    casts = sum(node.op_type == "Cast" for node in model.graph.node)
    external = Path(f"{path}.data")
    return casts, path.stat().st_size + (external.stat().st_size if external.exists() else 0)


def tools(arguments):
    yield "mezzo", lambda source, target: [arguments.mezzo, "convert", source, target, "--keep-io"]
    for name in peers.TOOLS:
        yield name, lambda source, target, name=name: [sys.executable, str(HERE / "peers.py"), name, source, target]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mezzo", default="target/release/mezzo")
    parser.add_argument("--work", type=Path, default=Path("build/bench"))
    parser.add_argument("--only", action="append")
    parser.add_argument("--tool", action="append", help="measure these tools only")
    parser.add_argument("--limit", type=int, default=120, metavar="CPU_SECONDS")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(f"{'model':<12} {'tool':<22} {'CPU s':>8} {'peak MB':>8} {'casts':>6} {'size':>6}  (size: of the FP32 files)")
    for name in arguments.only or models.MODELS:
        source = arguments.work / f"{name}.onnx"
        if not source.exists():
            models.save(models.MODELS[name](), source)
        _, before = facts(source)
        for tool, command in tools(arguments):
            if arguments.tool and tool not in arguments.tool:
                continue
            target = arguments.work / f"{name}.{tool.split()[0]}.fp16.onnx"
            Path(f"{target}.data").unlink(missing_ok=True)
            cpu, peak, failure = measure(command(str(source), str(target)), arguments.limit)
            if failure:
                print(f"{name:<12} {tool:<22} {cpu:8.2f} {peak / 1e6:8.0f}  {failure}", flush=True)
                continue
            casts, size = facts(target)
            print(f"{name:<12} {tool:<22} {cpu:8.2f} {peak / 1e6:8.0f} {casts:6} {size / before:6.2f}", flush=True)
            for leftover in (target, Path(f"{target}.data")):
                leftover.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
