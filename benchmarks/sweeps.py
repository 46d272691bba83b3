"""Sweeps: designs a second on one core and on two, and a Dask cluster on this machine where Dask is installed."""

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np

from benchmarks import front_0_7_0
from benchmarks.timing import ALL, all_cores, best, peak_bytes
from pimllm_chapters.design_space import compute
from pimllm_lib.sweep import points as sweep
from pimllm_lib.sweep.fronts import front
from pimllm_lib.sweep.pool import each, executor
from pimllm_lib.sweep.reduction import SENSES, Reduction


def evaluated(study, pool):
    """Evaluate every chunk of a study; return the seconds it took."""
    start = time.perf_counter()
    for _ in each(partial(sweep.compute, study), study.space.chunks(), pool):
        pass
    return time.perf_counter() - start


@contextmanager
def cluster(count=2):
    """Start a scheduler and so many workers on this machine; give the address, the workers and the scheduler."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, local = f"tcp://127.0.0.1:{port}", ["--host", "127.0.0.1", "--no-dashboard"]

    def start(what, *options):
        program = [sys.executable, "-m", f"distributed.cli.dask_{what}", *options, *local]
        return subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    scheduler = start("scheduler", "--port", str(port))
    workers = [start("worker", address, "--nthreads", "1", "--no-nanny") for _ in range(count)]
    try:
        yield address, workers, scheduler
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def report():
    """Yield one line for each measurement."""
    for thin in (2, 1):
        study = compute.study(compute.space(thin), "opt-6.7b", 1024)
        alone = evaluated(study, None)
        points = study.space.size
        yield (
            f"{points} full designs (time, energy, power, area; Pareto front) on one core: {alone:.2f} s, "
            f"{points / alone / 1e6:.2f} M/s"
        )
        yield from on_both(study, alone)
    chunk = next(study.space.chunks())
    yield f"peak for a chunk of {chunk.points} designs: {peak_bytes(partial(sweep.compute, study, chunk)) / 2**20:.0f} MiB"
    yield from fronts(study, chunk)


def fronts(study, chunk):
    """Yield the front of a chunk's points over that of version 0.7.0, and over evaluating them, which is the limit."""
    evaluate = partial(sweep.compute, replace(study, reduction=Reduction()), chunk)
    ds, point_s, asked = evaluate(), best(evaluate, 3) / chunk.points, study.reduction.objectives
    costs = np.stack([SENSES[sense] * ds[name].values.ravel() for name, sense in asked.items()], axis=1)
    for points in (40_000, 60_000):
        taken, before = (best(partial(found, costs[:points]), 3) for found in (front, front_0_7_0.front))
        yield (
            f"front of {points} points, {len(asked)} objectives: {1e3 * taken:.0f} ms, {before / taken:.1f} times as fast "
            f"as version 0.7.0, {taken / (points * point_s):.1f} x evaluating them"
        )


def on_both(study, alone):
    """Yield the same work in two processes and on a Dask cluster of two workers, their start not counted."""
    if len(ALL) < 2:
        return
    with all_cores():
        with executor(2) as pool:
            both, with_start = evaluated(study, pool), evaluated(study, pool)
        yield f"  in two processes: {with_start:.2f} s, {alone / with_start:.2f} x one core ({both:.2f} s with their start)"
        if find_spec("distributed"):
            with cluster() as (address, *_), executor(scheduler=address) as pool:
                evaluated(study, pool)
                dask = evaluated(study, pool)
            yield f"  on two Dask workers of this machine: {dask:.2f} s, {alone / dask:.2f} x one core"
