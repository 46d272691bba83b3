"""Writing keys and values into memory cells: how much, how long, at what energy, and how long the cells last.

Every token leaves a column of keys and a row of values in the crossbars of each head. A slot is the place of one token.
Cells differ: the cycles one survives follow a Weibull distribution whose median is the technology's endurance.
"""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.errors import unknown
from pimllm_lib.core.parts import Value, ceil_div

#: How slots are given to tokens.
ALLOCATIONS = ("in-place", "ring", "levelled")


def numbers(kv_heads: Value, head_dim: Value, blocks: Value) -> Value:
    """Return the numbers that a token leaves: a key and a value in every head of every block."""
    return 2 * kv_heads * head_dim * blocks


def write_time(
    cells: Value, parallel: Value, *, pulses: Value, pulse_s: Value, verify_s: Value, erase_s: Value = 0.0,
    erased: Value = 1,
) -> Value:  # fmt: skip
    """Return the time to write a line of cells in one crossbar, so many at once, each pulse followed by a verifying
    read, and its part of erasing `erased` lines together, in seconds.
    """
    return ceil_div(cells, parallel) * pulses * (pulse_s + verify_s) + erase_s / erased


def write_energy(
    cells: Value, *, pulses: Value, pulse_j: Value, verify_j: Value = 0.0, erase_j: Value = 0.0, beside: Value = 0.0,
    half_select_j: Value = 0.0,
) -> Value:  # fmt: skip
    """Return the energy to write cells, in joules.

    verify_j: energy of sensing a cell after a pulse; beside: cells that share a pulsed line with each and are not written.
    """
    return cells * (pulses * (pulse_j + verify_j + beside * half_select_j) + erase_j)


def refresh(cells: Value, lines: Value, *, line_s: Value, cell_j: Value, retention_s: Value) -> dict[str, Value]:
    """Return the power (W) of writing cells again once every retention time, and the share of time a crossbar is busy
    with it: lines of it, one after another. Both are 0 where cells keep what they hold.
    """
    return {"power_w": cells * cell_j / retention_s, "share": lines * line_s / retention_s}


def slot_writes(
    allocation: str, capacity: Value, *, conversation: Value, spare: Value = 0.0, gap: Value = 100.0
) -> dict[str, Value]:
    """Return the writes that the busiest slots get for each token written, how many these slots are, and their share of
    all.

    capacity: slots; conversation: tokens from one empty cache to the next. "in-place": a token lies at its position, so that
    every conversation begins at slot 0; those longer than there are slots go round. "ring": the next token takes the next
    slot, across conversations. "levelled": the ring turns through `spare` times as many more slots, and one token in
    `gap` is moved. Raises UnknownName for another allocation. Source of levelling by one move in so many writes:
    Start-Gap (Qureshi et al. 2009).

    Neglected: that conversations which go round end at different slots; over many of them this evens out.
    """
    if allocation not in ALLOCATIONS:
        raise unknown("allocation", allocation, ALLOCATIONS)
    if allocation == "in-place":
        reached = np.minimum(conversation, capacity)
        return {"writes": 1 / reached, "slots": reached, "share": reached / capacity}
    levelled = allocation == "levelled"
    slots = capacity * (1 + spare) if levelled else capacity
    return {"writes": (1 + 1 / gap if levelled else 1.0) / slots, "slots": slots, "share": 1.0 + 0.0 * slots}


def first_failure(endurance: Value, shape: Value, cells: Value) -> Value:
    """Return the cycles at which the first of so many cells has failed with a chance of one half.

    The least of N Weibull lives is Weibull with the same shape: endurance N^(-1 / shape).
    """
    return endurance * cells ** (-1 / shape)


def failed_share(endurance: Value, shape: Value, share: Value) -> Value:
    """Return the cycles after which a share of the cells has failed, on average; infinite for a share of 1 or more.

    1 - 2^-((n / endurance)^shape) = share, since half have failed at the endurance.
    """
    left = np.maximum(1.0 - np.asarray(share, dtype=float), 0.0)
    with np.errstate(divide="ignore"):
        return endurance * (-np.log2(left)) ** (1 / shape)
