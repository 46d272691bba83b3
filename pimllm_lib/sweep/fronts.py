"""The Pareto front of many points: a few good ones first, then ranks in place of costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Shape (objectives, points): costs, or their ranks.
Columns = NDArray[Any]
#: Points compared with one another at once; directions in which good ones are looked for; points whose losers go at once.
_BLOCK, _DIRECTIONS, _STEP = 256, 96, 16


def front(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the indices, growing, of the points that no other point is at least as good as in all costs and better in one.

    costs: shape (points, objectives), less is better, read fastest where it is a transposed array of rows. Of equal points
    the first is kept. A point with NaN is never kept.
    """
    alive, columns = _undominated(np.ascontiguousarray(costs.T))  # each pass reads one objective after the other
    if not alive.size:
        return alive
    ranks: Columns = np.stack([np.unique(column, return_inverse=True)[1] for column in columns])
    # Along their sum no later one dominates an earlier one, and of equal ones the first comes first.
    order = np.argsort(ranks.sum(axis=0), kind="stable")
    ranks = ranks.astype(np.uint16 if alive.size < 1 << 16 else np.uint32).take(order, axis=1)
    kept: list[NDArray[np.int64]] = []
    while order.size:
        block = _within(ranks[:, :_BLOCK])
        kept.append(order[:_BLOCK][block])
        best, order, ranks = ranks[:, block], order[_BLOCK:], ranks[:, _BLOCK:]
        for start in range(0, best.shape[1], _STEP):  # each pass is over those still alive alone
            left = np.ones(order.size, dtype=bool)
            for point in best[:, start : start + _STEP].T:
                left &= _better(ranks, point)
            order, ranks = _only(left, order, ranks)
    return np.sort(alive[np.concatenate(kept)])


def _undominated(columns: Columns) -> tuple[NDArray[np.int64], Columns]:
    """Return the points, and their costs, that are worth a closer look: no NaN, and none that a few good ones dominate."""
    alive, columns = _only(np.logical_not(np.isnan(columns).any(axis=0)), np.arange(columns.shape[1]), columns)
    if alive.size < _BLOCK:
        return alive, columns
    low, high = columns.min(axis=1), columns.max(axis=1)
    with np.errstate(all="ignore"):  # of infinite costs: then any point is looked at, which is as right
        scale = np.where(high > low, high - low, 1.0)
        for weights in np.random.default_rng(0).dirichlet(np.ones(len(columns)), _DIRECTIONS):
            place = int(np.argmin((weights / scale) @ columns))
            best = columns[:, place]
            left = _better(columns, best)
            left[_first(columns[:, : place + 1], best)] = True
            alive, columns = _only(left, alive, columns)
    return alive, columns


def _better(columns: Columns, point: Columns) -> NDArray[np.bool_]:
    """Return which points cost less than one in some objective."""
    better: NDArray[np.bool_] = columns[0] < point[0]
    for column, cost in zip(columns[1:], point[1:], strict=True):
        better |= column < cost
    return better


def _first(columns: Columns, point: Columns) -> int:
    """Return the first of the points that equal one."""
    equal = np.flatnonzero(columns[0] == point[0])
    for column, cost in zip(columns[1:], point[1:], strict=True):
        equal = equal[column[equal] == cost]
    return int(equal[0])


def _only(which: NDArray[np.bool_], names: NDArray[np.int64], columns: Columns) -> tuple[NDArray[np.int64], Columns]:
    """Return some of the points, with their columns still contiguous."""
    if which.all():
        return names, columns
    places = np.flatnonzero(which)
    return names[places], columns.take(places, axis=1)


def _within(block: Columns) -> NDArray[np.int64]:
    """Return the front of a few sorted points: those that no earlier point is at least as good as everywhere."""
    worse = np.ones((block.shape[1],) * 2, dtype=bool)  # [i, j]: i is at least as good as j
    for column in block:
        worse &= column >= column[:, None]
    return np.flatnonzero(~np.triu(worse, 1).any(axis=0))
