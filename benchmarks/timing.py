"""How everything here is timed: best of a few repeats, on one core where the system lets us choose."""

import os
import resource
import time
import tracemalloc
from contextlib import contextmanager

#: All cores of this machine, before anybody chose one.
ALL = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}


def pin():
    """Keep to one core, so that 'on one core' is true."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@contextmanager
def all_cores():
    """Let what runs here use every core again, for as long."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, ALL)
    try:
        yield
    finally:
        os.sched_setaffinity(0, pinned)


def best(work, repeats=5):
    """Return the shortest wall time of a call, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def ratio(work, base, repeats=5):
    """Return the shortest wall time of a call over that of another, taken in turns: machines drift within a run."""
    times = [(best(work, 1), best(base, 1)) for _ in range(repeats)]
    return min(t for t, _ in times) / min(t for _, t in times)


def peak_bytes(work):
    """Return the most memory a call had allocated at once, numpy's arrays included."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def child_cpu(run):
    """Return the CPU seconds of the child processes that a call waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
