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
VARIED, READ = Devices(name="varied", variation=0.1), catalog.part("cells-wan-1d")
IDEAL, UNIT = Readout(name="ideal"), catalog.part("readout-unit")
#: What -> devices, readout, and the largest ratio wanted. Drawing read noise, which stays as it was, takes most of the last.
CASES = {
    "ideal cells, ideal conversion": (Devices(name="ideal"), IDEAL, 12),
    "ideal cells, converters of 8 bits": (Devices(name="ideal"), UNIT, 12),
    "cells vary by 0.1, ideal conversion": (VARIED, IDEAL, None),
    "cells vary by 0.1, converters of 8 bits": (VARIED, UNIT, None),
    "cells of cells-wan-1d, ideal conversion": (READ, IDEAL, None),
    "cells of cells-wan-1d, converters of 8 bits": (READ, UNIT, None),
}


def heads(length):
    """Return queries, keys and values of a layer, of windows so long."""
    rng, windows = np.random.default_rng(0), TOKENS // length
    q = rng.standard_normal((windows, HEADS, GROUP, length, WIDTH), dtype=np.float32) * np.float32(WIDTH**-0.5)
    return q, *(rng.standard_normal((windows, HEADS, length, WIDTH), dtype=np.float32) for _ in range(2))


def report():
    """Yield one line for each measurement."""
    yield "attention in cells: tokens of a window, time over that of exact attention; of 0.7.0; target"
    for length in (128, 512):
        parts = heads(length)

        def exact(parts=parts):
            layers.attend(0, *parts, 0)

        for what, (devices, readout, largest) in CASES.items():
            new, old = (
                ratio(lambda attend=made(BAR, devices, readout): attend(0, *parts, 0), exact, repeats)
                for made, repeats in ((in_cells, 3), (attention_0_7_0.in_cells, 1))
            )
            yield f"  {what:<60}{length:>4}{new:7.1f}{old:8.1f}  {verdict(new, largest)}"
        cells, rng = 4 * (BAR.weight_bits - 1) * TOKENS * HEADS * WIDTH, np.random.default_rng(0)
        drawn = ratio(lambda: rng.standard_normal(cells, dtype=np.float32), exact)
        yield f"  {'the numbers of varied cells, drawn and not used':<60}{length:>4}{drawn:7.1f}"
