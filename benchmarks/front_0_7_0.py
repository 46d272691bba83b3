"""The front of version 0.7.0 as it was, which the one of `pimllm_lib.sweep.fronts` is timed and compared against."""

import numpy as np
from numpy.typing import NDArray


def front(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the indices, growing, of the points that no other point is at least as good as in all costs and better in one.

    costs: shape (points, objectives), less is better. Of equal points the first is kept. A point with NaN is never kept.
    """
    alive = np.flatnonzero(_undominated(costs))
    order = alive[np.lexsort(costs[alive].T[::-1])]  # by the first cost, then the second, ...: no later one dominates
    kept: list[NDArray[np.int64]] = []
    while order.size:
        rest = costs[order]
        block = _within(rest[:_BLOCK])
        kept.append(order[:_BLOCK][block])
        best, later = rest[:_BLOCK][block], rest[_BLOCK:]
        alive = np.ones(len(later), dtype=bool)
        for point in best:  # each pass is over those still alive alone
            index = np.flatnonzero(alive)
            alive[index[(later[index] >= point).all(axis=1)]] = False
        order = order[_BLOCK:][alive]
    found = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
    return np.sort(found)


#: Points compared with one another at once.
_BLOCK = 256


def _undominated(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points are worth a closer look: none that a few good ones dominate, none with NaN."""
    alive: NDArray[np.bool_] = np.logical_not(np.isnan(costs).any(axis=1))
    if len(costs) < _BLOCK or not alive.any():
        return alive
    low, high = costs[alive].min(axis=0), costs[alive].max(axis=0)
    scaled = (costs - low) / np.where(high > low, high - low, 1.0)
    for weights in np.random.default_rng(0).dirichlet(np.ones(costs.shape[1]), 24):
        best = costs[np.nanargmin(scaled @ weights)]
        alive &= ~((costs >= best).all(axis=1) & (costs > best).any(axis=1))
    return alive


def _within(block: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the front of a few sorted points: those that no earlier point is at least as good as everywhere."""
    worse = (block[None, :, :] >= block[:, None, :]).all(axis=2)  # [i, j]: i is at least as good as j
    return np.flatnonzero(~np.triu(worse, 1).any(axis=0))
