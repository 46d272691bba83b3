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


def masks(weights: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where weights (fan_in, fan_out) are positive and where negative, each as words (tiles, words, fan_out)."""
    up, down = (np.ascontiguousarray(words(on.T, rows).transpose(1, 2, 0)) for on in (weights > 0, weights < 0))
    return up, down


def product(
    passes: list[np.ndarray], held: tuple[np.ndarray, np.ndarray], rows: int, table: np.ndarray, weights: list[float]
) -> np.ndarray:
    """Return the sum over passes and tiles of weight times table[sum]: float32 (tokens, fan_out).

    passes: pulses of -1, 0, 1, (tokens, fan_in) each; table: what is read for each sum, the middle one for 0.
    """
    plus = np.stack([words(p > 0, rows) for p in passes], axis=1)  # (tokens, passes, tiles, words)
    signed = any(p.min() < 0 for p in passes)
    minus = np.stack([words(p < 0, rows) for p in passes], axis=1) if signed else plus[:0]
    count = _compiled() if find_spec("numba") is not None else _counted
    out: np.ndarray = count(plus, minus, *held, table.astype(np.float32), np.asarray(weights, dtype=np.float32))
    return out


def _counted(
    plus: np.ndarray, minus: np.ndarray, up: np.ndarray, down: np.ndarray, table: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Count by numpy, tile by tile: (words, passes, outputs). One sign twice adds one, two signs take one away."""
    out = np.zeros((len(plus), up.shape[2]), dtype=np.float32)
    for token in range(len(plus)):
        for tile in range(up.shape[0]):
            p, u, d = plus[token, :, tile].T[:, :, None], up[tile, :, None], down[tile, :, None]
            more, less = p & u, p & d
            if len(minus):
                m = minus[token, :, tile].T[:, :, None]
                more, less = more | (m & d), less | (m & u)
            sums = np.bitwise_count(more).sum(axis=0, dtype=np.int32)
            sums -= np.bitwise_count(less).sum(axis=0, dtype=np.int32)
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
    def add(p: Any, up: Any, down: Any, sums: Any) -> None:
        for j in range(len(up)):
            sums[j] += np.int64(bits(p & up[j])) - np.int64(bits(p & down[j]))

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def add_signed(p: Any, m: Any, up: Any, down: Any, sums: Any) -> None:
        for j in range(len(up)):
            more, less = (p & up[j]) | (m & down[j]), (p & down[j]) | (m & up[j])
            sums[j] += np.int64(bits(more)) - np.int64(bits(less))

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def read(sums: Any, table: Any, weight: Any, row: Any) -> None:
        for j in range(len(row)):
            row[j] += weight * table[np.uint64(sums[j])]

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def count(plus: Any, minus: Any, up: Any, down: Any, table: Any, weights: Any) -> Any:
        tokens, passes, tiles, per_tile = plus.shape
        outputs = up.shape[2]
        out = np.zeros((tokens, outputs), dtype=np.float32)
        sums = np.empty(OUTPUTS, dtype=np.int64)
        for left in range(0, outputs, OUTPUTS):
            right = min(left + OUTPUTS, outputs)
            for tile, token, one in np.ndindex(tiles, tokens, passes):
                sums[:] = len(table) // 2
                for at in range(per_tile):
                    u, d = up[tile, at, left:right], down[tile, at, left:right]
                    if len(minus) > 0:
                        add_signed(plus[token, one, tile, at], minus[token, one, tile, at], u, d, sums)
                    else:
                        add(plus[token, one, tile, at], u, d, sums)
                read(sums[: right - left], table, weights[one], out[token, left:right])
        return out

    return count
