"""Counting bits in machine code: imported where numba is installed, and only there.

It is compiled once a machine, into a folder of ours in the user's cache and never beside the library; where that folder
cannot be written, once a process.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic
from platformdirs import user_cache_path

from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput

#: Outputs of a block: counters, words and table together stay in the nearest cache.
OUTPUTS = 512


def kept(function: Any) -> Any:
    """Return a function of numba's that is taken from the user's cache, if this text was compiled for this processor."""
    before = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = str(files.require_folder(user_cache_path("pimllm") / "kernels"))
        function.enable_caching()
    except (BadInput, RuntimeError):  # no such folder, or a user without a home
        pass
    finally:
        numba.config.CACHE_DIR = before  # functions of others are kept where they were
    return function


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def bits(_context: Any, word: Any) -> Any:
    """Return how many bits of a word are set."""
    return word(word), lambda _, builder, __, arguments: builder.ctpop(arguments[0])


@numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def add(p: Any, up: Any, down: Any, sums: Any) -> None:
    """Add what pulses of one sign give to the sums of all outputs."""
    for j in range(len(up)):
        sums[j] += np.int64(bits(p & up[j])) - np.int64(bits(p & down[j]))


@numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_signed(p: Any, m: Any, up: Any, down: Any, sums: Any) -> None:
    """Add what pulses of both signs give to the sums of all outputs."""
    for j in range(len(up)):
        more, less = (p & up[j]) | (m & down[j]), (p & down[j]) | (m & up[j])
        sums[j] += np.int64(bits(more)) - np.int64(bits(less))


@numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def read(sums: Any, table: Any, weight: Any, row: Any) -> None:
    """Add what is read for the sums."""
    for j in range(len(row)):
        row[j] += weight * table[np.uint64(sums[j])]


@kept
@numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def count(plus: Any, minus: Any, up: Any, down: Any, table: Any, weights: Any) -> Any:
    """Return the same as `popcount._counted`: outputs side by side, so that a processor counts several at once."""
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
