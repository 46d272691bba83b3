"""Attention with keys and values in analog cells: written once, token by token, and read by every later query.

A key or value is rounded to a whole number of the crossbar's weight_bits, with a digital scale for each token and head. Its
magnitude is cut into slices of one bit, each in crossbars of its own; a slice holds -1, 0 and 1, so what `product`
computes of ternary matrices holds for it. Scores are queries times the crossbars of keys, a column a token. The softmax is
digital. What it gives, times the scales of the values, is rounded to `Readout.softmax_bits` and applied to the
crossbars of values, a row a token; rows of later tokens stay off.

Neglected: cells of several bits, the time between the writing of one token and of the next, and what writing does to
cells beside those written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pimllm_lib.analog.crossbar.cells import program_each
from pimllm_lib.analog.crossbar.product import Part, combine
from pimllm_lib.analog.crossbar.readout import ACT_BITS, from_data
from pimllm_lib.analog.lm.layers import Attend, causal, quantised
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.hardware import Crossbar, Devices, Readout

#: Most bits of a key or value: those that the published machine computes attention with.
MOST_BITS = 8
#: Queries for which the same keys and values are read.
STEP = 32


def in_cells(crossbar: Crossbar, devices: Devices, readout: Readout, *, seed: int = 0) -> Attend:
    """Return attention with keys and values of crossbar.weight_bits in such cells, drawn from a device seed.

    Raises BadInput for what `require_cacheable` refuses.
    """
    require_cacheable(crossbar, readout)
    bits, softmax_bits = int(crossbar.weight_bits), int(readout.softmax_bits)
    ternary, most = replace(crossbar, weight_bits=2), (1 << softmax_bits) - 1

    def read(
        x: np.ndarray, whole: np.ndarray, place: str, window: str, act_bits: int, parts: list[Part]
    ) -> np.ndarray:
        """Return inputs (n, k) times whole numbers (k, m), slice by slice; every window is written to the same cells."""
        places = [f"{place}.{order}" for order in range(bits - 1)]
        ons = program_each(
            np.stack(list(slices(whole, bits))), crossbar=ternary, devices=devices, readout=readout, seed=seed,
            layers=[f"{each}{window}" for each in places], places=places,
        )  # fmt: skip
        return combine(ons, [1 << order for order in range(bits - 1)], x, act_bits=act_bits, parts=parts)

    def seen(q: np.ndarray, k: np.ndarray, v: np.ndarray, head: str, window: str) -> np.ndarray:
        """Return weighted values (group, length, head_dim) of one head and window."""
        group, length, width = q.shape
        past = [(slice(g * length + at, g * length + end), slice(0, end)) for g in range(group) for at, end in steps(length)]
        (keys, key_scale), (values, value_scale) = quantised(k, bits), quantised(v, bits)
        asked, scale = quantised(q.reshape(-1, width), ACT_BITS)
        scores = read(asked, keys.T, f"{head}.k", window, ACT_BITS, [(now, slice(None), seen) for now, seen in past])
        scores /= scale * key_scale.T
        shares = causal(scores.reshape(group, length, length)).reshape(-1, length)
        shares /= value_scale.T
        step = np.maximum(shares.max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / most
        shares /= step
        applied = np.rint(shares, out=shares)
        found = read(applied, values, f"{head}.v", window, softmax_bits + 1, [(now, seen, slice(None)) for now, seen in past])
        found *= step
        return np.asarray(found.reshape(q.shape))

    def attend(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, first: int) -> np.ndarray:
        found = np.empty_like(q)
        for at in np.ndindex(k.shape[:2]):
            found[at] = seen(q[at], k[at], v[at], f"{layer}.{at[1]}", f".{first + at[0]}")
        return found

    return attend


def require_cacheable(crossbar: Crossbar, readout: Readout) -> None:
    """Raise BadInput for keys and values that one-bit cells in pairs do not hold, and a range that no data set."""
    bits, cell_bits, polarity = crossbar.weight_bits, crossbar.cell.bits, crossbar.polarity
    if polarity != 2 or cell_bits != 1:
        what = f"{crossbar.name} has cells of {clip(cell_bits)} bits and polarity {clip(polarity)}"
        raise BadInput(f"{what}; wanted 1 and 2 to hold keys and values: a slice of one bit in a differential pair")
    if not 2 <= bits <= MOST_BITS or bits % 1:
        raise BadInput(f"keys and values have {clip(bits)} bits; wanted 2 to {MOST_BITS}, the sign among them")
    if from_data(readout):
        why = "crossbars of keys and values are written anew with every text"
        what = f"{readout.name} has the range {readout.range!r}, which comes from data"
        raise BadInput(f"{what}; wanted ideal, fixed or worst-case: {why}")


def steps(length: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of queries that are read at a time, so that keys and values after them are left out."""
    return ((at, min(at + STEP, length)) for at in range(0, length, STEP))


def slices(whole: np.ndarray, bits: int) -> Iterator[np.ndarray]:
    """Yield the bits of whole numbers' magnitudes, the lowest first, with the number's sign: -1, 0 or 1, int8."""
    magnitude, sign = np.abs(whole).astype(np.int16), np.sign(whole).astype(np.int8)
    for place in range(bits - 1):
        yield ((magnitude >> place) & 1).astype(np.int8) * sign
