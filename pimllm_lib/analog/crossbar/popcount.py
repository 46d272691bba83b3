"""Whole sums by counting bits: weights and pulses as bits, 64 to a word, and a table for the converter.

With numba (the extra `fast`) for any number of tokens; with numpy alone where there are few. Only for ideal cells and
pulses of one bit; any converter will do, since its whole curve is a table over the possible sums.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import numpy as np

#: Without numba, counting pays up to so many tokens; beyond, two passes in one float product are faster.
FEW = 4
WORD = 64


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
    fast = find_spec("numba") is not None
    count = import_module("pimllm_lib.analog.crossbar.popcount_numba").count if fast else _counted
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
