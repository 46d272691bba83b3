"""Where tiles lie on the grid, and how many hops their results travel.

The matrices of a block take consecutive tiles in the order of their use. Each has an aggregator tile, where partial sums
are merged and from where the result goes to the next matrix. Source: the tile placement of MNSIM 2.0 (Zhu et al. 2023),
re-derived from its public output; checked against a brute-force search.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimllm_lib.core.errors import BadInput, Note

Counts = tuple[int, ...]
Tiles = NDArray[np.int64]
#: More tiles than this in one block are a mistake, and their places would not fit in memory.
MOST_TILES = 10**7


def hops(
    tiles: list[Any], *, grid_side: Any, tiles_per_bank: Any, walk: str, copies: Sequence[Any] = ()
) -> list[tuple[Any, Any]]:
    """Return for each matrix the hops to merge its partial sums and the hops to send its result to the next one.

    tiles: tiles of each matrix, in order; 0 leaves a matrix out. Numbers or arrays, evaluated once for each distinct
    combination. The last matrix sends nothing. copies: how many of each matrix there are, one unless given; neighbours with
    copies lie together, the first copy of each and then the second, and the farthest copy counts. A grid that is too small
    is taken as large as it must be, which a `Note` says with its hops. Raises BadInput for too many tiles to place.
    """
    _require_countable(tiles, copies or [1] * len(tiles))
    plain = all(np.all(np.asarray(n) == 1) for n in copies)
    columns = np.broadcast_arrays(*tiles, *(() if plain else copies), grid_side, tiles_per_bank)
    rows = np.stack([np.asarray(c, dtype=np.int64).ravel() for c in columns], axis=-1)
    distinct, where = np.unique(rows, axis=0, return_inverse=True)
    matrices, found = len(tiles), []
    for *sizes, side, bank in distinct.tolist():
        counts, of_each = tuple(sizes[:matrices]), tuple(sizes[matrices:]) or (1,) * matrices
        enough = _side(needed := sum(n * c for n, c in zip(counts, of_each, strict=True)), side, walk)
        found.append(_hops(counts, of_each, enough, bank, walk))
        if enough > side:
            far = max(merge + onward for merge, onward in found[-1])
            grid = f"the grid of {side} x {side} is taken as {enough} x {enough}"
            warnings.warn(f"a block needs {needed} tiles: {grid}, up to {far} hops for a result", Note, stacklevel=2)
    spread = np.array(found, float)[where.ravel()].reshape(*columns[0].shape, matrices, 2)
    return [(spread[..., i, 0], spread[..., i, 1]) for i in range(matrices)]


def _side(needed: int, side: int, walk: str) -> int:
    """Return the side of a grid that holds so many tiles: the given one where that does. Banks have no grid."""
    return side if walk == "banks" else max(side, int(np.ceil(np.sqrt(needed))))


def _require_countable(tiles: Sequence[Any], copies: Sequence[Any]) -> None:
    """Raise BadInput for more tiles than are placed; counted in float64, where 64-bit integers would wrap around."""
    needed = sum(np.asarray(n, dtype=float) * c for n, c in zip(tiles, copies, strict=True))
    if (most := np.max(needed)) > MOST_TILES:
        said = f"a block needs {most:.10g} tiles; wanted at most {MOST_TILES}, which are placed one by one"
        raise BadInput(said).at(needed > MOST_TILES, f"tiles of a block, of which at most {MOST_TILES} are placed")


@lru_cache(maxsize=100_000)
def _hops(counts: Counts, copies: Counts, side: int, bank: int, walk: str) -> tuple[tuple[int, int], ...]:
    """Return (merge, transfer) hops of each matrix, (0, 0) for one without tiles."""
    place = positions(sum(n * c for n, c in zip(counts, copies, strict=True)), side=side, bank=bank, walk=walk)
    owned = _shared_out(place, counts, copies)
    result, present = [(0, 0)] * len(counts), list(owned)
    for i, after in zip(present, [*present[1:], None], strict=True):
        targets = [] if after is None else owned[after]
        paired = len(targets) == len(owned[i])
        found = [_nearest(own, targets[e : e + 1] if paired else targets) for e, own in enumerate(owned[i])]
        result[i] = (max(merge for merge, _ in found), max(onward for _, onward in found))
    return tuple(result)


def _shared_out(place: Tiles, counts: Counts, copies: Counts) -> dict[int, list[Tiles]]:
    """Return the tiles of every copy of each matrix that has any: copy after copy where neighbours have as many."""
    owned: dict[int, list[Tiles]] = {i: [] for i, n in enumerate(counts) if n}
    start = 0
    for copies_here, run in groupby(owned, key=lambda i: copies[i]):
        members = list(run)
        for i in members * copies_here:
            owned[i].append(place[start : start + counts[i]])
            start += counts[i]
    return owned


def _nearest(own: Tiles, targets: list[Tiles]) -> tuple[int, int]:
    """Return the hops to merge and to send on, from the aggregator tile that makes their sum least: among equals the
    first in row-major order.
    """
    inside = farthest(own, own)
    onward = farthest(own, np.concatenate(targets)) if targets else np.zeros(len(own), dtype=np.int64)
    best = np.lexsort((own[:, 1], own[:, 0], inside + onward))[0]
    return int(inside[best]), int(onward[best])


def positions(n: int, *, side: int, bank: int, walk: str) -> Tiles:
    """Return row and column of the first n tiles, shape (n, 2).

    l-shell: shells around the corner, as published: shell s holds the tiles s^2 to (s+1)^2 - 1 and runs along one edge of
    the square and back along the other, in turns. row-major: row after row. banks: banks of `bank` tiles, each row-major
    in the most square block that holds it, the banks themselves on an l-shell without end.
    """
    index = np.arange(n)
    if walk == "row-major":
        return np.stack([index // side, index % side], axis=1)
    if walk == "l-shell":
        return _l_shell(index)
    width = int(np.ceil(np.sqrt(bank)))
    height = -(-bank // width)
    within = index % bank
    return _l_shell(index // bank) * (height, width) + np.stack([within // width, within % width], axis=1)


def _l_shell(index: Tiles) -> Tiles:
    shell = np.sqrt(index).astype(np.int64)
    step = index - shell**2
    a, b = np.minimum(step, shell), np.minimum(2 * shell - step, shell)
    odd = shell % 2 == 1
    return np.stack([np.where(odd, a, b), np.where(odd, b, a)], axis=1)


def farthest(origins: Tiles, targets: Tiles) -> Tiles:
    """Return for each origin the Manhattan distance to the farthest target.

    Along the diagonals u = row + col and v = row - col that distance is the largest of four differences.
    """
    u, v = origins.sum(1), origins[:, 0] - origins[:, 1]
    tu, tv = targets.sum(1), targets[:, 0] - targets[:, 1]
    reach = np.stack([u - tu.min(), tu.max() - u, v - tv.min(), tv.max() - v])
    return np.asarray(reach.max(axis=0))
