"""Calls the `mezzo` command. A failed call is an exception that carries the command's one line of error."""

import json
import re
import subprocess

import numpy as np

TIMEOUT_SECONDS = 300


class MezzoError(Exception):
    pass


class Mezzo:
    def __init__(self, program="mezzo"):
        self.program = str(program)

    def call(self, *arguments):
        command = [self.program, *map(str, arguments)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise MezzoError(f"{arguments[0]} took more than {TIMEOUT_SECONDS} s") from None
        if done.returncode < 0:
            raise MezzoError(f"{arguments[0]} was killed by signal {-done.returncode}")
        if done.returncode != 0:
            # "panicked" would be a defect even where an error is expected, so it has to stay visible.
            lines = done.stderr.strip().splitlines() or ["(nothing on stderr)"]
            message = next((line for line in lines if "panicked" in line), lines[-1])
            raise MezzoError(f"{arguments[0]} exited with {done.returncode}: {message}")
        return done.stdout

    def inspect(self, model):
        return json.loads(self.call("inspect", model, "--json"))

    def convert(self, source, target, *options):
        self.call("convert", source, target, *options)

    def run(self, model, inputs, folder, *options):
        """Outputs by name, as `mezzo run` leaves them in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        arguments = list(options)
        for index, (name, array) in enumerate(inputs.items()):
            path = folder / f"in_{index}.npy"
            np.save(path, array)
            arguments += ["--input", f"{name}={path}"]
        results = folder / "out"
        results.mkdir(exist_ok=True)
        for old in results.glob("*.npy"):
            old.unlink()
        self.call("run", model, *arguments, "--output-dir", results)
        return {path.stem: np.load(path) for path in results.glob("*.npy")}


def file_stem(output_name):
    """The name under which `mezzo run` writes an output."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", output_name)
