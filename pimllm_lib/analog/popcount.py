"""Whole sums by counting bits: weights and pulses as bits, 64 to a word, and a table for the converter.

With numba (the extra `fast`) for any number of tokens; with numpy alone where there are few. Only for ideal cells and
pulses of one bit; any converter will do, since its whole curve is a table over the possible sums.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

#: Without numba, counting pays up to so many tokens; beyond, two passes in one float product are faster.
FEW = 4
WORD = 64
#: Outputs of a block: counters, words and table together stay in the nearest cache.
OUTPUTS = 512


def pays(tokens: int) -> bool:
    """Return whether counting bits is the fastest way for so many tokens here."""
    return tokens <= FEW or find_spec("numba") is not None


def words(on: np.ndarray, rows: int) -> np.ndarray:
    """Return booleans (..., fan_in) as bits, (..., tiles, words): each tile of `rows` starts a word, rests are 0."""
    tiles, per_tile = -(-on.shape[-1] // rows), -(-rows // WORD)
    padded = np.zeros((*on.shape[:-1], tiles * rows), dtype=bool)
    padded[..., : on.shape[-1]] = on
    grid = np.zeros((*on.shape[:-1], tiles, per_tile * WORD), dtype=bool)
    grid[..., :rows] = padded.reshape(*on.shape[:-1], tiles, rows)
    return np.packbits(grid, axis=-1, bitorder="little").view(np.uint64)


def masks(weights: np.ndarray, rows: int, *, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return where a one among the pulses adds to a sum and where it takes from it, as words (tiles, words, fan_out).

    weights: -1, 0, 1, (fan_in, fan_out); signed: pulses are of both signs, and the words of the negative ones come second.
    """
    up, down = (words(on.T, rows).transpose(1, 2, 0) for on in (weights > 0, weights < 0))
    sides = ((up, down), (down, up)) if signed else ((up,), (down,))
    adds, takes = (np.ascontiguousarray(np.concatenate(side, axis=1)) for side in sides)
    return adds, takes


def product(
    passes: list[np.ndarray], held: tuple[np.ndarray, np.ndarray], rows: int, table: np.ndarray, weights: list[float]
) -> np.ndarray:
    """Return the sum over passes and tiles of weight times table[sum]: float32 (tokens, fan_out).

    passes: pulses, (tokens, fan_in) each, of -1, 0, 1 where `held` is signed; table: what is read for each sum, the
    middle one for 0.
    """
    ones = np.stack([words(p > 0, rows) for p in passes], axis=1)  # (tokens, passes, tiles, words)
    if held[0].shape[1] > ones.shape[-1]:
        ones = np.concatenate([ones, np.stack([words(p < 0, rows) for p in passes], axis=1)], axis=-1)
    count = _compiled() if find_spec("numba") is not None else _counted
    out: np.ndarray = count(ones, *held, table.astype(np.float32), np.asarray(weights, dtype=np.float32))
    return out


def _counted(
    ones: np.ndarray, adds: np.ndarray, takes: np.ndarray, table: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Count by numpy, tile by tile."""
    out = np.zeros((len(ones), adds.shape[2]), dtype=np.float32)
    for token in range(len(ones)):
        for tile in range(adds.shape[0]):
            at = ones[token, :, tile].T[:, :, None]  # (words, passes, 1)
            sums = np.bitwise_count(at & adds[tile, :, None]).sum(axis=0, dtype=np.int32)
            sums -= np.bitwise_count(at & takes[tile, :, None]).sum(axis=0, dtype=np.int32)
            out[token] += weights @ table[sums + len(table) // 2]
    return out


@cache
def _compiled() -> Any:  # noqa: C901 - loops that a compiler is to see whole
    """Return the same as `_counted` in machine code: outputs side by side, so that a processor counts several at once."""
    numba, extending = import_module("numba"), import_module("numba.extending")

    @extending.intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def bits(_context: Any, word: Any) -> Any:
        return word(word), lambda _, builder, __, arguments: builder.ctpop(arguments[0])

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def add(word: Any, adds: Any, takes: Any, sums: Any) -> None:
        for j in range(len(adds)):
            sums[j] += np.int64(bits(word & adds[j])) - np.int64(bits(word & takes[j]))

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def count(ones: Any, adds: Any, takes: Any, table: Any, weights: Any) -> Any:
        tokens, passes, tiles, per_tile = ones.shape
        outputs = adds.shape[2]
        out = np.zeros((tokens, outputs), dtype=np.float32)
        sums = np.empty(OUTPUTS, dtype=np.int64)
        for left in range(0, outputs, OUTPUTS):
            right = min(left + OUTPUTS, outputs)
            for tile, token, one in np.ndindex(tiles, tokens, passes):
                sums[:] = len(table) // 2
                for at in range(per_tile):
                    add(ones[token, one, tile, at], adds[tile, at, left:right], takes[tile, at, left:right], sums)
                for j in range(right - left):
                    out[token, left + j] += weights[one] * table[sums[j]]
        return out

    return count
