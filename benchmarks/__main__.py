"""Run every benchmark and print its lines; the book, and sweeps of 10^8 and 10^9 designs, come last and take an hour."""

from importlib import import_module

from benchmarks.timing import pin

NAMES = (
    "released", "studies", "grid", "sweeps", "remedies", "startup", "scalesim", "analog", "attention", "aihwkit",
    "book", "large",
)  # fmt: skip

benchmarks = [import_module(f"benchmarks.{name}") for name in NAMES]
pin()
for benchmark in benchmarks:
    for line in benchmark.report():
        print(line, flush=True)
