"""Weights as GGUF files pack them: blocks of whole numbers with a scale, unpacked by numpy, many blocks at a time.

Layouts are those of the reference code in ggml (ggml-quants.c), microsoft/BitNet (ggml-bitnet-mad.cpp) and
PrismML-Eng/llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Digit n of a byte that holds ternary digits as a fraction of 256, less one: row n.
_TRITS = np.array([[(byte * 3**n % 256 * 3 >> 8) - 1 for byte in range(256)] for n in range(5)], np.int8)
#: Weights of a block of I2_S: four runs of 32, one for each pair of bits, the highest first.
RUN = 32


def whole(name: str, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole numbers (blocks, weights), int8, and the scales (blocks,), float32, of packed blocks (blocks, bytes).

    Whole numbers of a scale that is zero are zero, and scales are not negative: their sign is that of the numbers.
    """
    unpack, last = _WHOLE[name]
    scales = (raw[:, -2:] if last else raw[:, :2]).copy().view("<f2").astype(np.float32)[:, 0]
    values = unpack(raw[:, :-2] if last else raw[:, 2:])
    with np.errstate(invalid="ignore"):  # a scale that is no number is refused where it is read
        if (turned := np.sign(scales).astype(np.int8) < 1).any():
            values[turned] *= np.sign(scales[turned]).astype(np.int8)[:, None]
    return values, np.abs(scales)


def pairs(raw: np.ndarray, *, run: int = 1, high: bool = False) -> np.ndarray:
    """Return the numbers -1 to 2, int8 (blocks, 4 x bytes), that pairs of bits hold, the lowest first or the `high` ones.

    run: bytes whose first pairs come before all their second ones.
    """
    bits = np.arange(6, -2, -2) if high else np.arange(0, 8, 2)
    out = np.empty((len(raw), raw.shape[1] // run, 4, run), np.int8)
    for i, shift in enumerate(bits.tolist()):
        out[:, :, i] = ((raw >> shift) & 3).reshape(len(raw), -1, run)
    out -= 1
    return out.reshape(len(raw), -1)


def _bits(raw: np.ndarray) -> np.ndarray:
    """Return -1 and 1 for bits, the lowest first."""
    return np.asarray(np.unpackbits(raw, axis=1, bitorder="little").view(np.int8) * np.int8(2) - np.int8(1))


def _trits(raw: np.ndarray) -> np.ndarray:
    """Return -1, 0 and 1 for ternary digits: five in a byte, and four in each of the last ones, one in twelve.

    Bytes come in runs of 32, 16 and 8, as many as fit; the first digits of a run come before all its second ones.
    """
    size = raw.shape[1]
    fives = size * 12 // 13
    out, at, start = np.empty((len(raw), 4 * size + fives), np.int8), 0, 0
    while start < size:
        run = next((run for run in (32, 16, 8) if run <= fives - start), size - start)
        for n in range(5 if start < fives else 4):
            out[:, at : at + run] = _TRITS[n][raw[:, start : start + run]]
            at += run
        start += run
    return out


def _run_pairs(raw: np.ndarray) -> np.ndarray:
    return pairs(raw, run=RUN)


#: Type -> what unpacks its blocks, and whether their scale comes last.
_WHOLE: dict[str, tuple[Callable[[np.ndarray], np.ndarray], bool]] = {
    "Q1_0": (_bits, False), "Q2_0": (pairs, False), "PQ2_0": (pairs, False), "TQ2_0": (_run_pairs, True),
    "TQ1_0": (_trits, True), "PTQ1_0": (_trits, True),
}  # fmt: skip
WHOLE = frozenset(_WHOLE)


def floats(name: str, raw: np.ndarray) -> np.ndarray:
    """Return the numbers (blocks, weights), float32, of packed blocks (blocks, bytes) of any type that is read."""
    if name in _WHOLE:
        values, scales = whole(name, raw)
        return np.asarray(values * scales[:, None])
    return _FLOATS[name](raw)


def _plain(form: str) -> Callable[[np.ndarray], np.ndarray]:
    return lambda raw: np.ascontiguousarray(raw).view(form).astype(np.float32)


def _bf16(raw: np.ndarray) -> np.ndarray:
    return (np.ascontiguousarray(raw).view("<u2").astype(np.uint32) << 16).view(np.float32)


def _half(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def _q8_0(raw: np.ndarray) -> np.ndarray:
    return np.asarray(raw[:, 2:].view(np.int8) * _half(raw[:, :2]))


def _q6_k(raw: np.ndarray) -> np.ndarray:
    """Two halves of 128 weights: four low bits, two high ones, a scale for each 16, one for all of them."""
    low, high = (
        raw[:, :128].reshape(-1, 2, 1, 64) >> np.array([[0], [4]], np.uint8),
        raw[:, 128:192].reshape(-1, 2, 1, 32),
    )
    top = (high >> np.array([[0], [2], [4], [6]], np.uint8)) & 3
    values = ((low & 15).reshape(-1, 2, 4, 32) | top << 4).astype(np.int8).reshape(-1, 16, 16) - np.int8(32)
    scales = _half(raw[:, 208:]) * raw[:, 192:208].view(np.int8)
    return np.asarray(values * scales[:, :, None]).reshape(-1, 256)


def _q4_k(raw: np.ndarray) -> np.ndarray:
    """Eight runs of 32 weights, each with six bits of scale and of what is taken off."""
    packed, (scale, least) = raw[:, 4:16], (_half(raw[:, :2]), _half(raw[:, 2:4]))
    one, two, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([one & 63, (rest & 15) | (one >> 6 << 4)], axis=1) * scale
    leasts = np.concatenate([two & 63, (rest >> 4) | (two >> 6 << 4)], axis=1) * least
    values = ((raw[:, 16:].reshape(-1, 4, 1, 32) >> np.array([[0], [4]], np.uint8)) & 15).reshape(-1, 8, 32)
    return np.asarray(values * scales[:, :, None] - leasts[:, :, None]).reshape(-1, 256)


_FLOATS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "F32": _plain("<f4"), "F16": _plain("<f2"), "BF16": _bf16, "Q8_0": _q8_0, "Q6_K": _q6_k, "Q4_K": _q4_k,
}  # fmt: skip
READ = WHOLE | _FLOATS.keys()
