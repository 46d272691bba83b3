"""Run every benchmark and print its lines."""

from benchmarks import grid, scalesim, startup
from benchmarks.timing import pin

pin()
for benchmark in (grid, startup, scalesim):
    for line in benchmark.report():
        print(line, flush=True)
