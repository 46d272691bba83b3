"""Attention with keys and values in cells, as a ratio to exact attention: that of the library, and that of version 0.7.0.

As many heads as the models of the study `kv-cells` have, numbers of 8 bits, windows of 1024 tokens together.
"""

from dataclasses import replace

import numpy as np

from benchmarks import attention_0_7_0
from benchmarks.analog import verdict
from benchmarks.timing import ratio
from pimllm_lib import catalog
from pimllm_lib.analog.lm import layers
from pimllm_lib.analog.noise.attention import in_cells
from pimllm_lib.hardware import Devices, Readout

HEADS, GROUP, WIDTH, TOKENS = 2, 2, 64, 1024
BAR = replace(catalog.part("crossbar-256"), weight_bits=8)
CELLS = {
    "ideal cells": Devices(name="ideal"), "cells that vary by 0.1": Devices(name="varied", variation=0.1),
    "cells-wan-1d, with read noise": catalog.part("cells-wan-1d"),
}  # fmt: skip
READOUTS = {"ideal conversion": Readout(name="ideal"), "converters of 8 bits": catalog.part("readout-unit")}
#: Largest ratio wanted of ideal cells. Those of others are what drawing their numbers takes, which are as before, and a
#: product for each bit of both numbers where each sum is converted.
LARGEST = {"ideal cells": 12}


def heads(length):
    """Return queries, keys and values of a layer, of windows so long."""
    rng, windows = np.random.default_rng(0), TOKENS // length
    q = rng.standard_normal((windows, HEADS, GROUP, length, WIDTH), dtype=np.float32) * np.float32(WIDTH**-0.5)
    return q, *(rng.standard_normal((windows, HEADS, length, WIDTH), dtype=np.float32) for _ in range(2))


def over_exact(attend, parts, repeats):
    """Return the time of attention to these queries, keys and values over that of exact attention."""
    return ratio(lambda: attend(0, *parts, 0), lambda: layers.attend(0, *parts, 0), repeats)


def draw(*_):
    """Draw as many numbers as cells of keys and values that vary take, and do nothing else."""
    np.random.default_rng(0).standard_normal(4 * (BAR.weight_bits - 1) * TOKENS * HEADS * WIDTH, dtype=np.float32)


def report():
    """Yield one line for each measurement."""
    yield "attention in cells: tokens of a window, time over that of exact attention, of 0.7.0's beside it, target"
    for length in (128, 512):
        parts = heads(length)
        for cells, devices in CELLS.items():
            for conversion, readout in READOUTS.items():
                new = over_exact(in_cells(BAR, devices, readout), parts, 3)
                old = over_exact(attention_0_7_0.in_cells(BAR, devices, readout), parts, 1)
                words = verdict(new, LARGEST.get(cells))
                yield f"  {f'{cells}, {conversion}':<56}{length:>4}{new:7.1f}{old:8.1f}  {words}"
        yield f"  {'the numbers of cells that vary drawn, and no more':<56}{length:>4}{over_exact(draw, parts, 5):7.1f}"
