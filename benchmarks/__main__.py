"""Run every benchmark and print its lines."""

from benchmarks import grid, scalesim, startup, sweeps
from benchmarks.timing import pin

pin()
for benchmark in (grid, sweeps, startup, scalesim):
    for line in benchmark.report():
        print(line, flush=True)
