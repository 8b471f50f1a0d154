"""Collects verdicts, prints them as a table and closes with the totals."""

import time

from mezzo_cli import MezzoError


class Failure(Exception):
    """The thing judged is wrong."""


class Skip(Exception):
    """It cannot be judged here, for a reason that is not Mezzo's."""


def expect(condition, message):
    if not condition:
        raise Failure(message)


class Verdicts:
    def __init__(self):
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def judge(self, subject, what, check, *arguments):
        """Run one check. Any exception is a failure of this check alone; the others still run."""
        start = time.monotonic()
        try:
            verdict, detail = "passed", check(*arguments)
        except Skip as reason:
            verdict, detail = "skipped", str(reason)
        except (Failure, MezzoError) as reason:
            verdict, detail = "failed", str(reason)
        except Exception as reason:  # from the checker or the runtime: their exceptions have no common base
            verdict, detail = "failed", f"{type(reason).__name__}: {str(reason).strip()}"
        self.counts[verdict] += 1
        mark = {"passed": "ok  ", "failed": "FAIL", "skipped": "skip"}[verdict]
        first = ((detail or "").splitlines() or [""])[0][:400]
        print(f"{mark}  {subject:30} {what:18} {time.monotonic() - start:5.1f} s  {first}", flush=True)

    def close(self):
        """Print the totals; the exit status is zero only if something passed and nothing failed."""
        print("{passed} passed, {failed} failed, {skipped} skipped".format(**self.counts))
        return 1 if self.counts["failed"] or not self.counts["passed"] else 0
