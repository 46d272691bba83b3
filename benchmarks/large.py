"""Sweeps of 10^8 and 10^9 designs as anyone runs them: time, memory, bytes on disk, killed on the way, the same bytes again.

`python -m benchmarks.large 8 FOLDER` runs 10^8 designs twice: in two processes that are killed and go on, and without a stop
on four Dask workers of this machine where Dask is installed, else in two processes. 9 runs 10^9. `make bench` runs neither.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from benchmarks.sweeps import cluster
from benchmarks.timing import child_cpu
from pimllm_chapters.design_space import compute
from pimllm_lib.studies import study_file
from pimllm_lib.sweep.stretches import cut

#: Power of ten of the designs -> clocks of the array, and shares of a tile that stay awake. Chapter 15 has 4 and 2.
FINER = {8: (17, 4), 9: (35, 20)}


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


def killed(command, chunks, most):
    """Run a command and kill all its processes once so many of its files are there."""
    with subprocess.Popen(command, start_new_session=True) as process:
        while process.poll() is None and len(list(chunks.glob("*.nc"))) < most:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)


def told(what, run, folder):
    """Run something and return what it took."""
    start = time.perf_counter()
    cpu = child_cpu(run)
    wall, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    sizes = [path.stat().st_size / 2**20 for path in folder.rglob("*.nc")]
    spent = f"{wall:.0f} s, {cpu:.0f} s of CPU, at most {peak:.0f} MiB a process"
    return f"{what}: {spent}, {sum(sizes):.1f} MiB in {len(sizes)} files"


def report(power, into):
    """Yield a line for each run of a study of so many designs, and whether their results have the same bytes."""
    file = into / f"large-{power}.yaml"
    file.write_text(json.dumps(study(power)))
    command = [str(Path(sys.executable).with_name("pimllm")), "sweep", str(file), "--into"]
    stopped, whole = into / "stopped", into / "whole"
    plan = study_file.read(file)
    stretches = len(cut(plan.space, plan.reduction))
    yield f"{plan.space.size} designs in {plan.space.count} chunks, {stretches} files"
    on = [*command, str(stopped), "--jobs", "2"]
    yield told("  killed on the way", lambda: killed(on, stopped / "chunks", 0.4 * stretches), stopped)
    yield told("  and gone on with", lambda: subprocess.run(on, check=True, capture_output=True), stopped)
    with cluster(4) if find_spec("distributed") else nullcontext([None]) as (address, *_):
        who = ["--scheduler", address] if address else ["--jobs", "2"]
        on = [*command, str(whole), *who]
        yield told(f"  without a stop, {who[0]}", lambda: subprocess.run(on, check=True, capture_output=True), whole)
    same = len({sha256((place / f"large-{power}.nc").read_bytes()).digest() for place in (stopped, whole)}) == 1
    yield f"  the same bytes: {same}"


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for line in report(int(sys.argv[1]), folder):
        print(line, flush=True)
