"""Runs models through the example `soak_models`, within limits of memory and time."""

import json
import resource
import select
import subprocess
import tempfile
import time

MEMORY_LIMIT = 64 << 20  # what the engine is told
ADDRESS_SPACE = 1 << 30  # what the process gets: allocations beyond it fail, and end it
CANCEL_MS, HANG_SECONDS = 2000, 10
BAD_CODES = ("Internal", "Panic")


class Runner:
    """The example program, which is started again when it dies."""

    def __init__(self, program):
        self.program, self.process = str(program), None
        self.stderr = tempfile.TemporaryFile()

    def run(self, case):
        """The answer, or {"died": why}."""
        if self.process is None:
            self.stderr.seek(0)
            self.stderr.truncate()
            self.process = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=self.stderr, preexec_fn=limit_memory)
        self.process.stdin.write(json.dumps(case).encode() + b"\n")
        self.process.stdin.flush()
        start, line = time.monotonic(), b""
        while not line.endswith(b"\n"):
            left = start + HANG_SECONDS - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return self.gone(f"no answer within {HANG_SECONDS} s")
            piece = self.process.stdout.read1(1 << 20)
            if not piece:
                return self.gone(f"ended with {self.process.wait()}")
            line += piece
        return json.loads(line)

    def gone(self, why):
        self.stop()
        self.stderr.seek(0)
        return {"died": f"{why} {self.stderr.read()[:300].decode(errors='replace')}"}

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
