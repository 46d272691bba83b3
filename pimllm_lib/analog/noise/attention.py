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

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import is_numpy_array

from pimllm_lib.analog.crossbar.cells import Programmed, program_each
from pimllm_lib.analog.crossbar.combined import combine
from pimllm_lib.analog.crossbar.readout import ACT_BITS, from_data
from pimllm_lib.analog.lm.arrays import beside, to_numpy
from pimllm_lib.analog.lm.layers import Attend, causal, quantised
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.hardware import Crossbar, Devices, Readout

#: Most bits of a key or value: those that the published machine computes attention with.
MOST_BITS = 8
#: Slices of the keys or values of one head and window in cells, lowest first, and the scale of each token (length, 1).
Held: TypeAlias = tuple[Sequence[Programmed], Any]
#: Queries for which the same keys and values are read.
STEP = 32


def in_cells(crossbar: Crossbar, devices: Devices, readout: Readout, *, seed: int = 0) -> Attend:
    """Return attention with keys and values of crossbar.weight_bits in such cells, drawn from a device seed.

    Raises BadInput for what `require_cacheable` refuses.
    """
    require_cacheable(crossbar, readout)
    bits, softmax_bits = int(crossbar.weight_bits), int(readout.softmax_bits)
    ternary, most = replace(crossbar, weight_bits=2), (1 << softmax_bits) - 1
    orders = [1 << order for order in range(bits - 1)]

    def written(whole: np.ndarray, place: str, window: str) -> list[list[Programmed]]:
        """Return the slices of each head's whole numbers (heads, k, m) in cells; every window is written to the same."""
        places = [f"{place.format(head)}.{order}" for head in range(len(whole)) for order in range(bits - 1)]
        found = program_each(
            slices(whole, bits).swapaxes(0, 1).reshape(-1, *whole.shape[1:]), crossbar=ternary, devices=devices,
            readout=readout, seed=seed, layers=[f"{each}{window}" for each in places], places=places,
        )  # fmt: skip
        return [found[at : at + bits - 1] for at in range(0, len(found), bits - 1)]

    def seen(q: np.ndarray, q_scale: np.ndarray, keys: Held, values: Held) -> Any:
        """Return weighted values (group, length, head_dim) of one head and window."""
        group, length, width = q.shape
        past = list(steps(group, length))
        parts = [(tokens, slice(None), until) for tokens, until in past]
        scores = combine(keys[0], orders, q.reshape(-1, width), act_bits=ACT_BITS, parts=parts)
        scores /= q_scale.reshape(-1, 1) * keys[1].T
        shares = causal(scores.reshape(group, length, length)).reshape(-1, length)
        shares /= values[1].T
        step = np.maximum(shares.max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / most
        shares /= step
        parts = [(tokens, until, slice(None)) for tokens, until in past]
        found = combine(values[0], orders, np.rint(shares, out=shares), act_bits=softmax_bits + 1, parts=parts)
        found *= step
        return found.reshape(q.shape)

    def attend(layer: int, q: Any, k: Any, v: Any, first: int) -> Any:
        if not is_numpy_array(q):  # cells are numpy's
            return beside(attend(layer, to_numpy(q), to_numpy(k), to_numpy(v), first), q)
        (keys, key_scale), (values, value_scale) = quantised(k, bits), quantised(v, bits)
        (asked, scale), found = quantised(q, ACT_BITS), np.empty_like(q)
        for window in range(len(k)):
            name = f".{first + window}"
            key_cells = written(keys[window].swapaxes(-1, -2), f"{layer}.{{}}.k", name)
            value_cells = written(values[window], f"{layer}.{{}}.v", name)
            for head in range(k.shape[1]):
                at = window, head
                held = (key_cells[head], key_scale[at]), (value_cells[head], value_scale[at])
                found[at] = seen(asked[at], scale[at], *held)
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


def steps(group: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Yield queries that are read at a time, of all (group x length), and the keys and values that they may see."""
    for start in range(0, group * length, length):
        for at in range(0, length, STEP):
            end = min(at + STEP, length)
            yield slice(start + at, start + end), slice(0, end)


def slices(whole: np.ndarray, bits: int) -> np.ndarray:
    """Return the bits of whole numbers' magnitudes, the lowest first, with the number's sign: -1, 0 or 1, int8."""
    number = np.ascontiguousarray(whole, dtype=np.int16)
    found = np.abs(number) >> np.arange(bits - 1, dtype=np.int16).reshape(-1, *[1] * whole.ndim)
    found &= 1
    found *= np.sign(number)
    return found.astype(np.int8)
