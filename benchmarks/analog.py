"""The analog engine: each way to a crossbar's product, as a ratio to numpy's float product of the same shapes.

4096 x 4096 ternary weights in 256-row tiles, 8-bit activations, one thread. Where numba counts, its results must be the
bits of those by numpy alone.
"""

import json
import os
import subprocess
from pathlib import Path

from pimllm_lib.core.paths import ROOT

#: What -> how it is called, and the largest ratio wanted for some numbers of tokens.
ROWS = {
    "folded": ("folded: cells vary by 0.1, conversion ideal", {1: 1.2, 128: 1.2}),
    "one pass": ("one pass of an 8-bit DAC, 8-bit ADC per tile", {1: 1.3, 128: 1.3}),
    "bits by numpy": ("bit by bit, ADC step 4, numpy alone", {1: 3, 128: 6}),
    "bits by numba": ("bit by bit, ADC step 4, numba", {1: 1, 128: 4}),
    "varied cells": ("bit by bit, ADC step 4, cells vary by 0.1", {}),
}
LARGEST_GIB = 2
#: The interpreter of an environment that has numba.
FAST = ROOT / ".venv-fast" / "bin" / "python"
#: One thread, which must be said before numpy loads.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def child(*what):
    """Return what a process of its own measures."""
    program = [FAST, "-m", "benchmarks.products", *what]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | ONE_THREAD)
    return json.loads(done.stdout.splitlines()[-1])


def verdict(value, largest):
    """Return the words for a target held, missed or absent."""
    if largest is None:
        return "no target"
    return f"<= {largest}  " + ("holds" if value <= largest else "does not hold")


def report():
    """Yield one line for each measurement."""
    rows = child("numpy") + child("numba")
    check(rows)
    yield "analog products 4096 x 4096: tokens, time over that of numpy's float32 matmul, target"
    for row in rows:
        words, targets = ROWS[row["what"]]
        words += f", {row['encoding']}" if row["encoding"] else ""
        yield f"  {words:<60}{row['tokens']:>4}{row['ratio']:7.2f}  {verdict(row['ratio'], targets.get(row['tokens']))}"
    yield from memory()


def check(rows):
    """Compare the bits of results: numba and numpy give the same."""
    found = {(row["what"], row["encoding"], row["tokens"]): row["digest"] for row in rows}
    for (what, *where), digest in found.items():
        if what == "bits by numba" and digest != found["bits by numpy", *where]:
            raise SystemExit(f"bit by bit, {where}: numba and numpy give different results")


def memory():
    """Yield the most memory of a layer of 4096 x 16384 at 1024 tokens, bit by bit, its float weights included."""
    if not Path("/proc/self/status").exists():
        yield "  peak memory of a layer is measured on Linux only"
        return
    for way, cells in (("numpy", "ideal"), ("numba", "ideal"), ("numpy", "varied")):
        gib = child(way, cells) / 2**30
        words = f"peak GiB of 4096 x 16384, 1024 tokens, {cells} cells, {way}"
        yield f"  {words:<64}{gib:7.2f}  {verdict(gib, LARGEST_GIB)}"
