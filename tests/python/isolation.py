"""Runs one function over many items in worker processes that may crash or hang without taking the run along."""

import multiprocessing
import time
from multiprocessing.connection import wait

CRASHED, TIMED_OUT = "the process crashed", "the process ran past its time limit"


class Broken:
    """What comes back for an item whose worker died."""

    def __init__(self, reason):
        self.reason = reason


class Worker:
    def __init__(self, context, function):
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()  # so that a dead worker reads as the end of the pipe
        self.item = self.deadline = None

    def give(self, index, item, timeout):
        self.item, self.deadline = index, time.monotonic() + timeout
        self.connection.send(item)

    def stop(self):
        self.process.kill()
        self.process.join()
        self.connection.close()


def serve(connection, function):
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        connection.send(function(item))


def isolated_map(function, items, workers=2, timeout=120):
    """The results in order. `function` and the items must be picklable; a lost item gives a Broken."""
    context = multiprocessing.get_context("spawn")  # a forked copy of a running inference library is not safe
    results = [None] * len(items)
    waiting = list(enumerate(items))[::-1]
    busy = []
    try:
        while waiting or any(worker.item is not None for worker in busy):
            while waiting and len(busy) < workers:
                busy.append(Worker(context, function))
            for worker in busy:
                if worker.item is None and waiting:
                    worker.give(*waiting.pop(), timeout)
            busy = [worker for worker in busy if collect(worker, results)]
            wait([worker.connection for worker in busy if worker.item is not None], timeout=1)
    finally:
        for worker in busy:
            worker.stop()
    return results


def collect(worker, results):
    """Take a worker's result if there is one; False when the worker is gone and has to be replaced."""
    if worker.item is None:
        return True
    try:
        if worker.connection.poll():
            results[worker.item] = worker.connection.recv()
            worker.item = None
            return True
        reason = TIMED_OUT if time.monotonic() > worker.deadline else None
    except (EOFError, OSError):
        reason = CRASHED
    if reason is None:
        return True
    results[worker.item] = Broken(reason)
    worker.stop()
    return False
