"""The drop along a bit line: every cell sees a little less voltage than the driver gives.

One column of cells hangs on a wire of resistance r from cell to cell, read at its foot by a virtual ground; rows are driven,
to the read voltage or to zero. Node i of the wire obeys

    G[i] (V[i] - v[i]) = (v[i] - v[i-1]) / r + (v[i] - v[i+1]) / r,        v below the foot = 0.

The current at the foot is linear in V, so the drop is a factor on each cell: with L the ladder's Laplacian and D = diag(G),
u = (L + D)^-1 L 1 and the current is sum(G u V). To first order in r,

    u[i] = 1 - r * sum_j G[j] (R - max(i, j)).

A tile that is not full has a bit line of as many cells as it has rows in use. Neglected: resistance of the word lines,
which couples columns, and rows that float while their input is zero.
"""

from __future__ import annotations

import numpy as np


def ladder(conductance: np.ndarray, wire_ohm: float) -> np.ndarray:
    """Return the factor u on each cell, solved exactly. conductance: (rows, cols) in siemens, the last row at the foot."""
    rows, load = len(conductance), conductance.astype(np.float64) * wire_ohm
    diagonal = load + 2.0
    diagonal[0] -= 1.0  # nothing above the topmost cell
    # Forward sweep of a tridiagonal matrix with -1 beside its diagonal and a source at the foot, all columns at once.
    ratio = np.empty_like(load)
    ratio[0] = 1.0 / diagonal[0]
    for i in range(1, rows):
        ratio[i] = 1.0 / (diagonal[i] - ratio[i - 1])
    factor = np.empty_like(load)
    factor[-1] = ratio[-1]
    for i in range(rows - 2, -1, -1):
        factor[i] = ratio[i] * factor[i + 1]
    return factor


def first_order(conductance: np.ndarray, wire_ohm: float) -> np.ndarray:
    """Return the factor u on each cell to first order in the wire's resistance, never below 0."""
    rows = len(conductance)
    height = np.arange(rows, 0, -1.0)[:, None]  # segments from a cell to the foot
    above = np.cumsum(conductance, axis=0, dtype=np.float64)  # cells at and above i share i's own path
    below = np.cumsum((conductance * height)[::-1], axis=0, dtype=np.float64)[::-1]
    below = np.concatenate([below[1:], np.zeros_like(below[:1])])
    return np.maximum(1.0 - wire_ohm * (height * above + below), 0.0)


def mean_square_loss(rows: int, conductance: float, wire_ohm: float) -> float:
    """Return the mean over rows of (1 - u)^2 to first order, for a column of equal conductance: 8/15 (r G R^2 / 2)^2.

    With the load of cell i being r G (R - i)(R + i + 1) / 2, whose square averages to that for many rows.
    """
    return 8 / 15 * (wire_ohm * conductance * rows**2 / 2) ** 2
