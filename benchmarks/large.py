"""Sweeps of 10^8 and 10^9 designs as anyone runs them: time, memory, bytes on disk, killed on the way, the same bytes again.

Each runs twice: in two processes that are killed and go on, and without a stop on four Dask workers of this machine where
Dask is installed, else in two processes. Version 0.7.0 runs for a minute. `python -m benchmarks.large 8` runs 10^8 alone.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.released import VERSION, environment, released
from benchmarks.sweeps import cluster
from benchmarks.timing import all_cores, best, child_cpu
from pimllm_chapters.design_space import compute
from pimllm_lib.studies import study_file
from pimllm_lib.sweep import points
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.stretches import cut

#: Power of ten of the designs -> clocks of the array, and shares of a tile that stay awake. Chapter 15 has 4 and 2.
FINER = {8: (17, 4), 9: (35, 20)}
#: Seconds that version 0.7.0 is watched for.
MINUTE = 60


def study(power):
    """Return the study of chapter 15 with two of its axes finer, as a YAML file has it: JSON is YAML."""
    rates, shares = FINER[power]
    axes = {"walk": {"fields": ["system.pim.walk"], "values": ["banks"]}}
    for axis in compute.space().axes:
        rows = [row[0] if len(row) == 1 else list(row) for row in axis.rows]
        axes[axis.name] = {"fields": list(axis.fields), "values": rows, "labels": list(axis.labels)}
    fields = {name: axes[name]["fields"] for name in ("array_rate_hz", "power_gating")}
    axes["array_rate_hz"] = {"fields": fields["array_rate_hz"], "low": 1e8, "high": 8e8, "law": "log", "points": rates}
    axes["power_gating"] = {"fields": fields["power_gating"], "low": 0.05, "high": 1.0, "points": shares}
    return {
        "name": f"large-{power}", "axes": axes, "metrics": list(compute.OBJECTIVES),
        "reduce": {"kind": "pareto", "objectives": compute.OBJECTIVES},
    }  # fmt: skip


def killed(command, enough, **options):
    """Run a command and kill all its processes once it has done enough."""
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        while process.poll() is None and not enough():
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)


def told(what, run, folder):
    """Run something and return what it took, and its wall time in seconds."""
    start = time.perf_counter()
    cpu = child_cpu(run)
    wall, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    sizes = [path.stat().st_size / 2**20 for path in folder.rglob("*.nc")]
    spent = f"{wall:.0f} s, {cpu:.0f} s of CPU, at most {peak:.0f} MiB a process"
    return f"{what}: {spent}, {sum(sizes):.1f} MiB in {len(sizes)} files", wall


def expected(file, space, into):
    """Return the seconds that version 0.7.0 needs in two processes, going by a minute of it; its last merge not counted."""
    if not released(into):
        return float("nan")
    done_by = np.cumsum([chunk.points for chunk in replace(space, chunk=1 << 16).chunks()])  # as it cuts them
    command = [sys.executable, "-m", "pimllm_lib", "sweep", str(file), "--into", "out", "--jobs", "2"]
    seen = []

    def enough():
        done = len(list(into.glob("out/chunks/*.nc")))
        if done:
            seen.append((time.perf_counter(), done_by[done - 1]))
        return done and seen[-1][0] - seen[0][0] > MINUTE

    killed(command, enough, cwd=into, env=environment(into), stderr=subprocess.DEVNULL)
    (start, first), (end, last) = seen[0], seen[-1]
    return (end - start) / (last - first) * space.size


def report():
    """Yield lines for each number of designs, from a process of its own: the peak is that of all its children so far."""
    for power in FINER:
        with all_cores():
            measured = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.large", str(power)], stdout=subprocess.PIPE, text=True
            )
        with measured:
            yield from (line.rstrip() for line in measured.stdout)
        if measured.returncode:
            raise subprocess.CalledProcessError(measured.returncode, measured.args)


def runs(power, into):
    """Yield a line for each run of a study of so many designs, and whether their results have the same bytes."""
    file = into / f"large-{power}.yaml"
    file.write_text(json.dumps(study(power)))
    command = [str(Path(sys.executable).with_name("pimllm")), "sweep", str(file), "--into"]
    stopped, whole = into / "stopped", into / "whole"
    plan = study_file.read(file)
    stretches = len(cut(plan.space, plan.reduction))
    all_points = replace(plan.work.args[0], reduction=Reduction())
    chunk = next(plan.space.chunks())
    alone = best(partial(points.compute, all_points, chunk)) / chunk.points * plan.space.size
    yield f"{plan.space.size} designs in {plan.space.count} chunks, {stretches} files; evaluated alone, {alone:.0f} s of CPU"
    on = [*command, str(stopped), "--jobs", "2"]
    run = partial(subprocess.run, check=True, capture_output=True)

    def enough():
        return len(list((stopped / "chunks").glob("*.nc"))) >= 0.4 * stretches

    yield told("  killed on the way", partial(killed, on, enough), stopped)[0]
    yield told("  and gone on with", partial(run, on), stopped)[0]
    with cluster(4) if find_spec("distributed") else nullcontext([None]) as (address, *_):
        who = ["--scheduler", address] if address else ["--jobs", "2"]
        line, wall = told(f"  without a stop, {who[0]}", partial(run, [*command, str(whole), *who]), whole)
    same = len({sha256((place / f"large-{power}.nc").read_bytes()).digest() for place in (stopped, whole)}) == 1
    yield f"{line}; the same bytes: {same}"
    before = expected(file, plan.space, into / "old")
    yield f"  version {VERSION} would take {before:.0f} s, going by a minute of it: {before / wall:.1f} times as long"


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        for line in runs(int(sys.argv[1]), Path(place)):
            print(line, flush=True)
