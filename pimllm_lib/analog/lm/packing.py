"""Few-bit weights: rounding to them, four to a byte as BitNet checkpoints hold them, and in words as MLX does."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.errors import BadInput, clip

#: Weights in a byte.
FOUR = 4
#: Smallest mean magnitude that master weights are divided by, as in training.
SMALLEST = 1e-5


def ternarise(weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Return master weights as -1, 0, 1 (int8, same shape) and the scale that a product with them is multiplied by.

    The scale is the mean magnitude. Source: Ma et al. 2024 (arXiv:2402.17764), equations 1 to 3.

    >>> ternarise(np.array([[0.9, -0.1], [-0.6, 0.4]], np.float32))
    (array([[ 1,  0],
           [-1,  1]], dtype=int8), 0.5)
    """
    scale = np.float32(max(float(np.mean(np.abs(weights), dtype=np.float64)), SMALLEST))
    return np.clip(np.rint(weights / scale), -1, 1).astype(np.int8), float(scale)


def pack(values: np.ndarray, what: str = "weights") -> np.ndarray:
    """Return ternary weights (fan_in, fan_out) as bytes (fan_out / 4, fan_in).

    Each is stored one higher, as 0, 1 or 2. Bits 2i and 2i + 1 hold the i-th quarter of the outputs, not every fourth one.
    Raises BadInput, naming `what`, for another value or a number of outputs that is no multiple of 4.

    >>> pack(np.array([[-1, 0, 1, 1]], np.int8)).tolist() == [[0b10_10_01_00]]
    True
    """
    rows = packed_rows(values.shape[1], what)
    if (odd := values[(values != 0) & (np.abs(values) != 1)]).size:
        raise BadInput(f"{what} holds {clip(odd[0])}; wanted -1, 0 and 1")
    codes = (values.T + 1).astype(np.uint8)
    packed = np.zeros((rows, values.shape[0]), np.uint8)
    for i in range(FOUR):
        packed |= codes[i * rows : (i + 1) * rows] << 2 * i
    return packed


def unpack(packed: np.ndarray, what: str = "weights") -> np.ndarray:
    """Return the ternary weights (fan_in, fan_out), int8, that bytes (fan_out / 4, fan_in) hold.

    Raises BadInput, naming `what`, for the code 3, which stands for no weight.

    >>> unpack(np.array([[0b10_10_01_00]], np.uint8)).tolist()
    [[-1, 0, 1, 1]]
    """
    if (packed & (packed >> 1) & 0b01_01_01_01).any():
        raise BadInput(f"{what} holds the code 3; wanted 0, 1 and 2 for -1, 0 and 1: wrong packing")
    rows = len(packed)
    values = np.empty((packed.shape[1], FOUR * rows), np.int8)
    for i in range(FOUR):
        values[:, i * rows : (i + 1) * rows] = ((packed >> 2 * i) & 3).T
    values -= 1
    return values


def packed_rows(outputs: int, what: str) -> int:
    """Return how many rows of bytes hold so many outputs. Raises BadInput unless they are a multiple of 4."""
    rows, rest = divmod(outputs, FOUR)
    if rest:
        raise BadInput(f"{what} has {outputs} outputs; wanted a multiple of {FOUR}, as many as a byte holds")
    return rows


def dequantise(words: np.ndarray, scales: np.ndarray, biases: np.ndarray, bits: int) -> np.ndarray:
    """Return the weights (outputs, fan_in), float32, of codes that MLX packed: scale x code + bias, by group of inputs.

    words: uint32 (outputs, fan_in x bits / 32), the first code in the lowest bits; scales, biases: (outputs, groups).
    Source: documentation of `mlx.core.quantize`, affine mode.

    >>> dequantise(np.array([[0b1001_00]], np.uint32), np.array([[2.0]]), np.array([[-2.0]]), 2)[0, :4].tolist()
    [-2.0, 0.0, 2.0, -2.0]
    """
    codes = (words[:, :, None] >> np.arange(0, 32, bits, dtype=np.uint32)) & np.uint32((1 << bits) - 1)
    parts = codes.astype(np.float32).reshape(*scales.shape, -1)
    parts *= scales[:, :, None]
    parts += biases[:, :, None]
    return parts.reshape(len(words), -1)
