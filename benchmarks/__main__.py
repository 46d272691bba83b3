"""Run every benchmark and print its lines."""

from benchmarks import aihwkit, analog, attention, grid, released, remedies, scalesim, startup, studies, sweeps
from benchmarks.timing import pin

pin()
for benchmark in (released, studies, grid, sweeps, remedies, startup, scalesim, analog, attention, aihwkit):
    for line in benchmark.report():
        print(line, flush=True)
