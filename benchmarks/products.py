"""One set of products in a process of its own: python -m benchmarks.products SET prints a JSON list.

SET is numpy, which forbids numba, or numba; or one of them and the cells, ideal or varied, of a large layer, of which the
memory is measured. `benchmarks.analog` starts it with one thread.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.timing import ratio
from pimllm_lib import catalog
from pimllm_lib.analog.crossbar import popcount
from pimllm_lib.analog.crossbar.cells import program
from pimllm_lib.analog.crossbar.product import multiply
from pimllm_lib.hardware import Devices, Readout

SHAPE, LARGE = (4096, 4096), (4096, 16384)
#: Tokens -> how often to time: what is short is timed more often.
TOKENS = {1: 25, 128: 5}
MANY = 1024
ENCODINGS = ("twos-complement", "sign-magnitude")
CELLS = {"ideal": Devices(name="ideal"), "varied": Devices(name="varied", variation=0.1)}
BAR = catalog.part("crossbar-256")
ONE_PASS = replace(BAR, dac=replace(BAR.dac, bits=8))
#: One step of 41 holds every sum drawn here; an odd one lets none lie between two codes.
STEP_4, STEP_41 = (Readout(name=f"step {lsb}", range="fixed", lsb=lsb) for lsb in (4.0, 41.0))


def drawn(shape, tokens):
    """Return ternary weights (fan_in, fan_out) and whole activations (tokens, fan_in) of 8 bits."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-1, 2, shape).astype(np.int8)
    return weights, rng.integers(-127, 128, (tokens, shape[0])).astype(np.float32)


def by_bit(weights, cells):
    """Yield encodings and weights programmed for activations that come bit by bit."""
    for encoding in ENCODINGS:
        readout = replace(STEP_4, encoding=encoding)
        yield encoding, program(weights, crossbar=BAR, devices=CELLS[cells], readout=readout)


def cases(name, weights):
    """Yield what a set measures, its encoding where that matters, and the programmed matrix."""
    if name == "numba":  # counts bits of ideal cells, and no more
        yield from (("bits by numba", *case) for case in by_bit(weights, "ideal"))
        return
    yield "folded", "", program(weights, crossbar=BAR, devices=CELLS["varied"], readout=Readout(name="ideal"))
    yield "one pass", "", program(weights, crossbar=ONE_PASS, devices=CELLS["ideal"], readout=STEP_41)
    yield from (("bits by numpy", *case) for case in by_bit(weights, "ideal"))
    yield from (("varied cells", *case) for case in by_bit(weights, "varied"))


def products(name):
    """Return a row for each case and number of tokens; digest tells whether two ways give the same result."""
    weights, x = drawn(SHAPE, max(TOKENS))
    plain, rows = weights.astype(np.float32), []
    for what, encoding, on in cases(name, weights):
        for tokens, repeats in TOKENS.items():
            some = x[:tokens]
            digest = hashlib.sha256(multiply(on, some).tobytes()).hexdigest()  # compiles, too
            times = ratio(lambda on=on, some=some: multiply(on, some), lambda some=some: some @ plain, repeats)
            row = {"what": what, "encoding": encoding, "tokens": tokens, "ratio": times, "digest": digest}
            rows.append(row)
    return rows


def memory(cells):
    """Return the most memory this process has had, bytes, after a large layer, bit by bit.

    The kernel's own mark: ru_maxrss starts from that of the process that started this one.
    """
    weights, x = drawn(LARGE, MANY)
    multiply(program(weights, crossbar=BAR, devices=CELLS[cells], readout=STEP_4), x)
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    name, *cells = sys.argv[1:]
    if name == "numpy":
        sys.modules["numba"] = None  # as if it were not installed
    assert (popcount.find_spec("numba") is not None) == (name == "numba")
    print(json.dumps(memory(*cells) if cells else products(name)))
