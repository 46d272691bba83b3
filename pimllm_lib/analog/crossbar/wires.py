"""The drop along the wires of an array: every cell sees a little less voltage than the driver gives.

*Bit lines.* One column of cells hangs on a wire of resistance r from cell to cell, read at its foot by a virtual ground;
rows are driven, to the read voltage or to zero. Node i of the wire obeys

    G[i] (V[i] - v[i]) = (v[i] - v[i-1]) / r + (v[i] - v[i+1]) / r,        v below the foot = 0.

The current at the foot is linear in V, so the drop is a factor on each cell: with L the ladder's Laplacian and D = diag(G),
u = (L + D)^-1 L 1 and the current is sum(G u V). To first order in r,

    u[i] = 1 - r * sum_j G[j] (R - max(i, j)).

*Word lines.* A row's driver stands before the first column, with a resistance q to its cell and from each cell to the next.
Bit lines then join the rows: their column j is an admittance S[j] = D - D (L + D)^-1 D between the nodes w[j] of the word
lines, and w[j] = T[j] w[j-1], from the far end on

    T[j] = (2 - T[j+1] + q S[j])^-1,        T of the last column = (1 + q S)^-1.

A foot carries (G u) . T[j] ... T[1] T[0] V: one matrix of inputs by outputs, in the place of the cells.

A tile that is not full has a bit line of as many cells as it has rows in use, a word line of as many as it has columns in
use. Neglected: drivers and grounds of a resistance of their own, and rows that float while their input is zero.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

#: Largest matrix that is inverted by LAPACK; products of halves are faster for larger ones.
_WHOLE = 64


def carried(conductance: np.ndarray, bit_ohm: float, word_ohm: float, *, drop: str = "ladder") -> np.ndarray:
    """Return the current at each foot for a volt on each row, (rows, cols) in amperes, with both kinds of wires.

    conductance: (rows, cols) in siemens, the last row at the feet, the first column at the drivers; drop: "ladder", which
    solves the network exactly, or "first-order".
    """
    if drop == "first-order":
        along = first_order(conductance[:, ::-1].T, word_ohm).T[:, ::-1]
        return np.asarray(conductance * np.maximum(first_order(conductance, bit_ohm) - (1 - along), 0.0))
    if not word_ohm:
        return np.asarray(conductance * ladder(conductance, bit_ohm))
    if not bit_ohm:  # a row by itself, which is a column seen from its driver
        return np.asarray(conductance * ladder(conductance[:, ::-1].T, word_ohm).T[:, ::-1])
    return _network(conductance.astype(np.float64), bit_ohm, word_ohm)


def _network(conductance: np.ndarray, bit_ohm: float, word_ohm: float) -> np.ndarray:
    """Return `carried` where both kinds of wires have a resistance, column by column from the far end on."""
    rows, cols = conductance.shape
    found = conductance * ladder(conductance, bit_ohm)
    beyond = np.eye(rows)  # at the far end no current goes on
    for col in range(cols - 1, -1, -1):
        here = conductance[:, col]
        system = _inverse_ladder(here * bit_ohm)
        system *= here[:, None] * (-bit_ohm * word_ohm * here)
        system -= beyond
        system[np.diag_indices(rows)] += word_ohm * here + 2
        beyond = _inverse(system)
        found[:, col:] = beyond @ found[:, col:]
    return np.asarray(found)


def _inverse_ladder(load: np.ndarray) -> np.ndarray:
    """Return (L + D)^-1 / r of one bit line, (rows, rows), for D = load / r.

    What a current into one node does to those above falls by a ratio from each to the next; logarithms keep it finite.
    """
    ratio = load + 2.0
    ratio[0] = 1 / (ratio[0] - 1.0)
    for i in range(1, len(load)):
        ratio[i] = 1 / (ratio[i] - ratio[i - 1])
    at = ratio.copy()
    for i in range(len(load) - 2, -1, -1):
        at[i] *= 1 + ratio[i] * at[i + 1]
    path = np.concatenate([[0.0], np.cumsum(np.log(ratio[:-1]))])
    below = (np.log(at) + path)[:, None] - path  # of the two triangles, the one that holds is the smaller
    return np.asarray(np.exp(np.minimum(below, below.T)))


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of a symmetric, positive definite matrix."""
    if (size := len(matrix)) <= _WHOLE:
        factor, _ = lapack.dpotrf(matrix)
        upper = np.triu(lapack.dpotri(factor)[0])
        return np.asarray(upper + np.triu(upper, 1).T)
    half, found = size // 2, np.empty_like(matrix)
    first = _inverse(matrix[:half, :half])
    across = first @ matrix[:half, half:]
    last = _inverse(matrix[half:, half:] - matrix[half:, :half] @ across)
    joint = across @ last
    found[:half, :half] = first + joint @ across.T
    found[:half, half:], found[half:, :half], found[half:, half:] = -joint, -joint.T, last
    return found


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


def mean_square_loss(bits: float, words: float = 0.0) -> float:
    """Return the mean over cells of the square of what wires take from each, to first order, all cells being equal.

    bits, words: r G R^2 / 2, the loss at the far end of a wire of R cells, for each kind of wire; cell i has lost
    r G (R - i)(R + i + 1) / 2, whose mean is 2/3 and whose mean square 8/15 of the far end's for many cells.
    """
    return 8 / 15 * (bits**2 + words**2) + 8 / 9 * bits * words
