"""The full scale of a matrix's converters, from activations that are used for nothing else."""

from __future__ import annotations

import numpy as np

from pimllm_lib.analog.crossbar.cells import Programmed, spans
from pimllm_lib.analog.crossbar.readout import coding, from_data, largest_sum, pulses, require_held

#: Tokens of calibration whose sums are looked at; evenly spread over those given.
TOKENS = 256
#: Bins of the histogram that a quantile is read from.
BINS = 1 << 14


def full_scale(on: Programmed, x: np.ndarray, *, act_bits: int = 8) -> float | None:
    """Return what a readout by "sigmas" or "quantile" makes of a matrix's sums, in on-cell currents; None for other ranges.

    x: whole activations (tokens, fan_in). The sums are those of every pass, tile and converted line; of lines read
    apart the larger counts. By sigmas: so many standard deviations beyond the mean's magnitude. By quantile: that share of
    magnitudes is within, to a part in `BINS` of the largest possible sum.
    """
    if not from_data(on.readout):
        return None
    require_held(x, act_bits, on.readout.encoding)
    some = x[np.linspace(0, len(x) - 1, min(TOKENS, len(x))).astype(int)].astype(np.int32)
    stacked = np.concatenate(pulses(some, *coding(on.crossbar, on.readout, act_bits))).astype(np.float32)
    return max(_reach(on, line.weights, stacked, act_bits) for line in on.lines)


def _reach(on: Programmed, weights: np.ndarray, stacked: np.ndarray, act_bits: int) -> float:
    """Return the full scale of one line, tile by tile, so that the sums of one are held at a time."""
    count, total, squares = 0, 0.0, 0.0
    bins, top = np.zeros(BINS, dtype=np.int64), 1.5 * largest_sum(on, act_bits)
    for rows in spans(stacked.shape[1], min(on.crossbar.rows, on.span), None if on.scales is None else on.span):
        sums = stacked[:, rows] @ weights[rows]
        count, total = count + sums.size, total + float(sums.sum(dtype=np.float64))
        squares += float(np.square(sums, dtype=np.float64).sum())
        bins += np.histogram(np.abs(sums), bins=BINS, range=(0.0, top))[0]
    if on.readout.range == "sigmas":
        mean = total / count
        return abs(mean) + float(on.readout.sigmas * np.sqrt(squares / count - mean**2))
    within = np.cumsum(bins) / count
    return top * float(np.searchsorted(within, min(float(on.readout.quantile), within[-1])) + 1) / BINS
