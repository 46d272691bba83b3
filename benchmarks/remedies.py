"""Remedies for long contexts: all designs of the search at once, beside what it takes to write their results down."""

import numpy as np

import pimllm_lib as pl
from benchmarks.timing import best, peak_bytes, ratio
from pimllm_chapters.long_context import designs


def report():
    """Yield one line for each measurement."""
    model = pl.catalog.models["llama-3-8b"]
    every = designs.space()
    points = every.changes.size

    def evaluated():
        ds = pl.evaluate(system=every.system, model=model, context_len=4096, conventions="full-system",
                         variables=["latency_s", "energy_j"])  # fmt: skip
        return ds.latency_s.broadcast_like(every.changes), ds.energy_j.broadcast_like(every.changes)

    def written():
        return np.full(points, 1.0), np.full(points, 2.0)

    seconds = best(evaluated)
    yield (
        f"{points} stacks of remedies (time and energy, whole machine) on one core: {seconds:.2f} s, "
        f"{points / seconds / 1e6:.1f} M/s, {ratio(evaluated, written):.0f} x the time to write as many results, "
        f"peak {peak_bytes(evaluated) / 2**20:.0f} MiB"
    )
