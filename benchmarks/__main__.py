"""Run every benchmark and print its lines; the book, and sweeps of 10^8 and 10^9 designs, come last and take an hour."""

from benchmarks import (
    aihwkit,
    analog,
    attention,
    book,
    grid,
    large,
    released,
    remedies,
    scalesim,
    startup,
    studies,
    sweeps,
)
from benchmarks.timing import pin

pin()
for benchmark in (
    released,
    studies,
    grid,
    sweeps,
    remedies,
    startup,
    scalesim,
    analog,
    attention,
    aihwkit,
    book,
    large,
):
    for line in benchmark.report():
        print(line, flush=True)
