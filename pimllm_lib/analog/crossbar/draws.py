"""Random numbers keyed by what they are for: seed, layer, purpose and place, never by the order in which they are drawn.

A generator is numpy's SFC64, seeded by its `SeedSequence`. Where many are wanted at once, their states are mixed
side by side, by the algorithm of that class, which numpy keeps as it is: https://numpy.org/neps/nep-0019-rng-policy.html
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

#: Constants of `SeedSequence`: words of its pool, and how each step multiplies.
_POOL, _SHIFT = 4, np.uint32(16)
_START, _TIMES, _START_OUT, _TIMES_OUT = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
_LEFT, _RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
#: Words of 32 bits that SFC64 takes.
_WORDS = 6


def generator(seed: int, layer: str, purpose: str, *where: int) -> np.random.Generator:
    """Return a generator of its own for one purpose at one place."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, _named(layer, purpose), *where])))


def generators(
    seed: int, layers: Sequence[str], purpose: str, where: Sequence[tuple[int, ...]]
) -> list[np.random.Generator]:
    """Return the `generator` of each layer at each place: all places of the first layer, then those of the next.

    where: places, all of as many whole numbers of 32 bits.
    """
    names = [_named(layer, purpose) for layer in layers]
    places = np.array(where, dtype=np.int64).reshape(len(where), -1)
    if len(names) * len(places) < _POOL or seed >> 32 or min(names) >> 32 == 0 or places.max(initial=0) >> 32:
        return [generator(seed, layer, purpose, *at) for layer in layers for at in where]
    entropy = np.empty((3 + places.shape[1], len(names), len(places)), dtype=np.uint32)
    entropy[0] = seed
    entropy[1] = np.array([name & 0xFFFFFFFF for name in names])[:, None]
    entropy[2] = np.array([name >> 32 for name in names])[:, None]
    entropy[3:] = places.T[:, None]
    states = _states(entropy.reshape(len(entropy), -1))
    return [np.random.Generator(np.random.SFC64(_Mixed(state))) for state in states]  # type: ignore[arg-type]


def _named(layer: str, purpose: str) -> int:
    return int.from_bytes(sha256(f"{layer}/{purpose}".encode()).digest()[:8], "little")


class _Mixed(ISeedSequence):
    """A seed sequence whose words are known."""

    def __init__(self, words: np.ndarray) -> None:
        self.words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> np.ndarray:
        """Return the words that SFC64 asks for."""
        return self.words


def _states(entropy: np.ndarray) -> np.ndarray:
    """Return what `SeedSequence(column).generate_state(3, uint64)` does of each column of words (words, n), (n, 3)."""
    pool, extra = np.zeros((_POOL, entropy.shape[1]), dtype=np.uint32), entropy[_POOL:]
    pool[: len(entropy)] = entropy[:_POOL]
    first, *steps = _steps(_START, _TIMES, (_POOL, *[_POOL - 1] * _POOL, *[_POOL] * len(extra)))
    pool = _hashed(pool, first)
    for source in range(_POOL):
        others = [lane for lane in range(_POOL) if lane != source]
        pool[others] = _mixed(pool[others], pool[source], steps[source])
    for words, step in zip(extra, steps[_POOL:], strict=True):
        pool = _mixed(pool, words, step)
    (last,) = _steps(_START_OUT, _TIMES_OUT, (_WORDS,))
    out = _hashed(np.resize(pool, (_WORDS, pool.shape[1])), last)
    return np.ascontiguousarray(out.T, dtype="<u4").view("<u8").astype(np.uint64, copy=False)


def _hashed(value: np.ndarray, step: np.ndarray) -> np.ndarray:
    value = np.asarray((value ^ step[0]) * step[1])
    return np.asarray(value ^ (value >> _SHIFT))


def _mixed(into: np.ndarray, value: np.ndarray, step: np.ndarray) -> np.ndarray:
    value = np.asarray(_LEFT * into - _RIGHT * _hashed(value, step), dtype=np.uint32)
    return np.asarray(value ^ (value >> _SHIFT))


@lru_cache
def _steps(start: int, times: int, lanes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Return what each step combines its lanes with, (2, lanes, 1): a constant before and after it is multiplied."""
    known = [start]
    for _ in range(sum(lanes)):
        known.append(known[-1] * times & 0xFFFFFFFF)
    pairs = np.array([known[:-1], known[1:]], dtype=np.uint32)[:, :, None]
    return tuple(np.split(pairs, np.cumsum(lanes)[:-1], axis=1))
