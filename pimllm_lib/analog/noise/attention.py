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
from dataclasses import dataclass, replace

import numpy as np

from pimllm_lib.analog.crossbar.cells import program
from pimllm_lib.analog.crossbar.product import multiply
from pimllm_lib.analog.crossbar.readout import ACT_BITS
from pimllm_lib.analog.lm.language import Attend, causal, quantised
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.hardware import Crossbar, Devices, Readout

#: Most bits of a key or value: those that the published machine computes attention with.
MOST_BITS = 8


def in_cells(crossbar: Crossbar, devices: Devices, readout: Readout, *, seed: int = 0) -> Attend:
    """Return attention with keys and values of crossbar.weight_bits in such cells, drawn from a device seed.

    Raises BadInput for what `require_cacheable` refuses.
    """
    require_cacheable(crossbar, readout)
    cells = _Cells(crossbar, devices, readout, seed)

    def attend(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, first: int) -> np.ndarray:
        found = np.empty_like(q)
        for window, head in np.ndindex(k.shape[:2]):
            where = (f"{layer}.{head}", f".{first + window}")
            found[window, head] = cells.attend(q[window, head], k[window, head], v[window, head], where)
        return found

    return attend


def require_cacheable(crossbar: Crossbar, readout: Readout) -> None:
    """Raise BadInput for keys and values that one-bit cells in pairs do not hold, and a range that no data set."""
    bits = crossbar.weight_bits
    if crossbar.polarity != 2 or crossbar.cell.bits != 1:
        raise BadInput(
            f"{crossbar.name} has cells of {clip(crossbar.cell.bits)} bits and polarity {clip(crossbar.polarity)}; "
            "wanted 1 and 2 to hold keys and values: a slice of one bit in a differential pair"
        )
    if not 2 <= bits <= MOST_BITS or bits % 1:
        raise BadInput(f"keys and values have {clip(bits)} bits; wanted 2 to {MOST_BITS}, the sign among them")
    if readout.range in ("sigmas", "quantile"):
        raise BadInput(
            f"{readout.name} has the range {readout.range!r}, which comes from data; wanted ideal, fixed or worst-case: "
            "crossbars of keys and values are written anew with every text"
        )


@dataclass(frozen=True)
class _Cells:
    crossbar: Crossbar
    devices: Devices
    readout: Readout
    seed: int

    def attend(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, where: tuple[str, str]) -> np.ndarray:
        """Return weighted values (group, length, head_dim) of one head and window; where: both of their names."""
        bits, (group, length, width) = int(self.crossbar.weight_bits), q.shape
        (keys, key_scale), (values, value_scale) = quantised(k, bits), quantised(v, bits)
        asked, scale = quantised(q.reshape(-1, width), ACT_BITS)
        scores = self.read(asked, keys.T, "k", where, ACT_BITS) / (scale * key_scale.T)
        shares = causal(scores.reshape(group, length, length)).reshape(-1, length) / value_scale.T
        most = (1 << int(self.readout.softmax_bits)) - 1
        step = np.maximum(shares.max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / most
        applied = np.rint(shares / step)
        seen = self.read(applied, values, "v", where, int(self.readout.softmax_bits) + 1)
        return np.asarray((seen * step).reshape(q.shape))

    def read(self, x: np.ndarray, whole: np.ndarray, kind: str, where: tuple[str, str], act_bits: int) -> np.ndarray:
        """Return inputs (n, k) times whole numbers (k, m) in cells, slice by slice. Every window is written to the same
        cells.
        """
        out = np.zeros((len(x), whole.shape[1]), dtype=np.float32)
        for place, part in enumerate(slices(whole, int(self.crossbar.weight_bits))):
            cells = f"{where[0]}.{kind}.{place}"
            on = program(
                part, crossbar=replace(self.crossbar, weight_bits=2), devices=self.devices, readout=self.readout,
                seed=self.seed, layer=cells + where[1], place=cells,
            )  # fmt: skip
            out += np.float32(1 << place) * multiply(on, x, act_bits=act_bits)
        return out


def slices(whole: np.ndarray, bits: int) -> Iterator[np.ndarray]:
    """Yield the bits of whole numbers' magnitudes, the lowest first, each with the number's sign: -1, 0 or 1, int8.

    Times 1, 2, 4, ... they add up to the numbers.
    """
    magnitude, sign = np.abs(whole).astype(np.int16), np.sign(whole).astype(np.int8)
    for place in range(bits - 1):
        yield ((magnitude >> place) & 1).astype(np.int8) * sign
