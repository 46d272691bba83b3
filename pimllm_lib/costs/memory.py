"""Traffic of a product to off-chip memory, the time and energy of moving it, and the rate it allows.

Operands come in whole and stay on the chip as long as they fit. The order of folds is that of the array's timing model,
columns outside and rows inside, so an operand is reloaded only where a later fold needs it again and it did not fit.
Neglected: rows and banks of the memory, and partial sums that outgrow the chip.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pimllm_lib.core.parts import Value, ceil_div


def dram_words(
    m: Value, k: Value, n: Value, *, rows: Value, cols: Value, dataflow: str = "os", inputs_held: Value = np.inf,
    weights_held: Value = np.inf,
) -> dict[str, Value]:  # fmt: skip
    """Return the words of one product moved between off-chip memory and an empty SRAM.

    inputs_held, weights_held: words the SRAM holds of each. inputs, weights: words read; results: words written;
    reloaded: those among the reads that were read before. A word that is used has come in once:
    inputs + weights = m k + k n + reloaded.
    """
    input_passes, weight_passes = _passes(m, k, n, rows, cols, dataflow, inputs_held, weights_held)
    inputs, weights = m * k * input_passes, k * n * weight_passes
    return {"inputs": inputs, "weights": weights, "results": m * n, "reloaded": inputs + weights - m * k - k * n}


def _passes(
    m: Value, k: Value, n: Value, rows: Value, cols: Value, dataflow: Any, inputs_held: Value, weights_held: Value
) -> tuple[Value, Value]:
    """Return how often inputs and weights come in: once, or once for each fold that needs them again.

    Over an axis of dataflows, each its own.
    """
    column = np.minimum(n, cols)
    spilled_inputs = m * k > inputs_held
    by_flow = {
        "os": (1 + spilled_inputs * (ceil_div(n, cols) - 1), 1 + (k * column > weights_held) * (ceil_div(m, rows) - 1)),
        "ws": (1 + spilled_inputs * (ceil_div(n, cols) - 1), 1),
        "is": (1, 1 + (k * n > weights_held) * (ceil_div(m, cols) - 1)),
    }
    if isinstance(dataflow, str):
        return by_flow[dataflow]
    chosen = [sum((dataflow == name) * passes[i] for name, passes in by_flow.items()) for i in (0, 1)]
    return chosen[0], chosen[1]


def sram_bits(
    words: dict[str, Value], results: Value, *, input_bits: Value, weight_bits: Value, sum_bits: Value
) -> Value:
    """Return the bits moved between SRAM and array for the words of `systolic.sram_words`.

    results: words of the final result; whatever is written beyond them is a partial sum.
    """
    partial = words["results"] - results + words["partial_sums"]
    return (words["inputs"] + results) * input_bits + words["weights"] * weight_bits + partial * sum_bits


def stall(transfer_s: Value, compute_s: Value) -> Value:
    """Return the wait for a transfer that a double buffer hides behind computing: what is left of it."""
    return np.maximum(0.0, transfer_s - compute_s)


def roofline(macs: Value, traffic_bytes: Value, *, peak_macs_per_s: Value, bandwidth_bps: Value) -> Value:
    """Return the rate in MAC/s that compute and off-chip memory allow: the lower of the two bounds."""
    return np.minimum(peak_macs_per_s, macs / (traffic_bytes * 8) * bandwidth_bps)
