"""Weights of two or three values, -s, 0 and s, found by looking: s may change from group to group of a matrix's inputs.

So files store them whose format says nothing of it: TriLM's float16 has a scale for each of the processors that trained it,
along outputs in some matrices and along inputs in others (Kaushal et al. 2024, arXiv:2407.12327), other models one for
each 128 inputs.
"""

from __future__ import annotations

import numpy as np

#: Fewest inputs that share a scale: with fewer, any two or three numbers would do.
SHARED = 16


def group_of(values: np.ndarray) -> int | None:
    """Return how many inputs share a scale in weights (outputs, fan_in), float32: as many as can; None where none do."""
    fan_in = values.shape[1]
    groups = (fan_in // count for count in range(1, fan_in // SHARED + 1) if fan_in % count == 0)
    return next((group for group in groups if split(values, group) is not None), None)


def split(values: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return -1, 0, 1, int8 (outputs, fan_in), and scales (outputs, fan_in / group) of float32 weights; None where not so.

    A group of zeros alone has the scale 0.

    >>> split(np.array([[0.5, -0.5, 0, 2.0]], np.float32), 2)
    (array([[ 1, -1,  0,  1]], dtype=int8), array([[0.5, 2. ]], dtype=float32))
    """
    parts = values.reshape(len(values), -1, group)
    scales = np.maximum(parts.max(axis=2), -parts.min(axis=2))
    signs = np.sign(parts).astype(np.int8)
    if not np.array_equal(signs * scales[:, :, None], parts):
        return None
    return signs.reshape(values.shape), scales


def joined(scales: np.ndarray) -> float | np.ndarray:
    """Return scales (outputs, groups) as (groups, outputs), in one group where they do not change along the inputs, and as
    one number where all are equal; those of zeros alone are like any other.
    """
    largest = np.float32(scales.max() or 1)
    own = scales.max(axis=1, keepdims=True)
    own[own == 0] = largest
    scales = np.where(scales == 0, own, scales)
    if (scales == own).all():
        return float(largest) if (own == largest).all() else np.ascontiguousarray(own.T)
    return np.ascontiguousarray(scales.T)
