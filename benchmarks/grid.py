"""Grids: a million designs at once, the published grid warm, and what plain numpy and the memory would do."""

from dataclasses import replace

import numpy as np

import pimllm_lib as pl
from benchmarks.timing import best, peak_bytes

SEVEN = ["gpt2-355m", "gpt2-774m", "gpt2-1.5b", "opt-1.3b", "opt-2.7b", "llama-7b", "opt-6.7b"]
TWELVE = [*SEVEN, "gpt2-124m", "opt-350m", "opt-13b", "opt-30b", "llama-13b"]
CONTEXTS = [128, 256, 512, 1024, 2048, 4096]
TPU = pl.catalog.systems["tpu-llm"]


ROWS, COLS = np.arange(1, 33), np.arange(2, 130)


def designs(contexts):
    """Return the call that evaluates 32 rows x 128 columns x contexts x 7 models, and its number of points."""
    array = replace(TPU.array, rows=pl.axis(array_rows=ROWS), cols=pl.axis(array_cols=COLS))
    args = {"system": replace(TPU, array=array), "model": SEVEN, "context_len": np.arange(128, 128 + contexts)}
    return lambda: pl.evaluate(**args, variables=["cycles", "latency_s"]), ROWS.size * COLS.size * contexts * 7


def plain_numpy(contexts):
    """Return the same cycles and latencies written out in numpy for one shape of the loop, without any library."""
    models = [pl.catalog.models[name] for name in SEVEN]
    d, ff, layers, heads, hd = (
        np.array([getattr(m, f) for m in models], float)[:, None, None, None]
        for f in ("d_model", "d_ff", "n_layers", "n_heads", "head_dim")
    )
    gated = np.array([m.gated for m in models], float)[:, None, None, None]
    context = np.arange(128, 128 + contexts, dtype=float)[None, :, None, None]
    r, c = ROWS[None, None, :, None].astype(float), COLS[None, None, None, :].astype(float)

    def gemv(k, n):
        return np.ceil(n / c) * (k + r + c - 2) - 1

    def work():
        fixed = layers * (4 * gemv(d, d) + (1 + gated) * gemv(d, ff) + gemv(ff, d))
        cycles = fixed + (layers * heads) * (gemv(hd, context) + gemv(context, hd))
        return cycles, cycles * 1e-8

    return work


def memory_limit(points):
    """Return the call that does nothing but write the two results of that many points."""

    def work():
        return np.ones(points), np.ones(points)

    return work


def report():
    """Yield one line for each measurement."""
    for contexts in (35, 350):
        work, points = designs(contexts)
        seconds, numpy_s, write_s = (best(f, 5) for f in (work, plain_numpy(contexts), memory_limit(points)))
        yield (
            f"{points / 1e6:.1f} M designs, cycles and latency: {points / seconds / 1e6:.0f} M/s, "
            f"{seconds / numpy_s:.1f} x plain numpy, {seconds / write_s:.1f} x writing the results, "
            f"peak {peak_bytes(work) / points:.0f} bytes a point"
        )
    for systems, models in ((["tpu-llm"], SEVEN), (["tpu-llm", "pim-llm"], TWELVE)):
        args = {"system": systems, "model": models, "context_len": CONTEXTS, "conventions": "as-published"}
        cells = len(systems) * len(models) * len(CONTEXTS)
        for detail in ("total", "op", "component"):
            warm = best(lambda args=args, detail=detail: pl.evaluate(detail=detail, **args), 20)
            yield (
                f"{len(systems)} systems x {len(models)} models x 6 contexts, detail={detail}: {warm * 1e3:.1f} ms warm, "
                f"{warm / cells * 1e6:.0f} us a cell"
            )
    one = best(lambda: pl.evaluate(system="tpu-llm", model="opt-6.7b", context_len=128), 20)
    yield f"a single point: {one * 1e3:.1f} ms (LLM-Viewer, made for one point, was seen to need about 0.1 ms)"
