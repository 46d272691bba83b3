"""The full scale of a matrix's converters, from activations that are used for nothing else."""

from __future__ import annotations

import numpy as np

from pimllm_lib.analog.cells import Programmed
from pimllm_lib.analog.readout import pulses

#: Tokens of calibration whose sums are looked at; evenly spread over those given.
TOKENS = 256


def full_scale(on: Programmed, x: np.ndarray, *, act_bits: int = 8) -> float | None:
    """Return what a readout by "sigmas" or "quantile" makes of a matrix's sums, in on-cell currents; None for other ranges.

    x: whole activations (tokens, fan_in). The sums are those of every pass, tile and converted line; of lines read
    apart the larger counts. By sigmas: so many standard deviations beyond the mean's magnitude.
    """
    readout = on.readout
    if readout.range not in ("sigmas", "quantile"):
        return None
    some = x[np.linspace(0, len(x) - 1, min(TOKENS, len(x))).astype(int)].astype(np.int32)
    step = int(on.crossbar.dac.bits)
    stacked = np.concatenate(pulses(some, act_bits, step, readout.encoding)).astype(np.float32)
    rows = range(0, stacked.shape[1], on.crossbar.rows)
    found = []
    for line in on.lines:
        sums = np.concatenate(
            [stacked[:, r : r + on.crossbar.rows] @ line.weights[r : r + on.crossbar.rows] for r in rows]
        )
        if readout.range == "sigmas":
            found.append(abs(float(sums.mean())) + float(readout.sigmas * sums.std()))
        else:
            found.append(float(np.quantile(np.abs(sums), float(readout.quantile))))
    return max(found)
