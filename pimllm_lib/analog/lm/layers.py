"""The arithmetic of one decoder block on numpy; its projections and its attention may be on crossbars, norms are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pimllm_lib.analog.lm.checkpoint import Block, Checkpoint, Matrix

#: What a matrix does to whole activations (tokens, fan_in), of which the first has the number given.
Product: TypeAlias = Callable[[np.ndarray, int], np.ndarray]
#: Layer and kind, such as "3.down", and its matrix -> what it does.
Prepare: TypeAlias = Callable[[str, Matrix], Product]
#: Number of the block, queries (windows, KV heads, group, length, head_dim), scaled, keys and values (windows, KV heads,
#: length, head_dim), number of the first window -> weighted values, shaped as the queries.
Attend: TypeAlias = Callable[[int, np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def exact(_: str, matrix: Matrix) -> Product:
    """Return the exact product: whole activations times ternary weights, as float32 holds them.

    Where groups of inputs have scales, their products are scaled, and added in the order of the groups.
    """
    weights, scales = matrix.values.astype(np.float32), np.asarray(matrix.scale)
    if scales.ndim == 0:
        return lambda x, first: np.asarray(x @ weights)
    parts = weights.reshape(len(scales), -1, weights.shape[1])

    def product(x: np.ndarray, first: int) -> np.ndarray:
        out = np.zeros((len(x), weights.shape[1]), dtype=np.float32)
        for number, part in enumerate(parts):
            out += scales[number] * (x[:, number * len(part) : (number + 1) * len(part)] @ part)
        return out

    return product


def zeroed(_: str, matrix: Matrix) -> Product:
    """Return the product of a crossbar that gives nothing: what a model says without it."""
    return lambda x, first: np.zeros((len(x), matrix.values.shape[1]), dtype=np.float32)


def attend(_: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, first: int) -> np.ndarray:
    """Return exact causal attention, each key-value head for a group of query heads."""
    return np.asarray(causal(q @ k[:, :, None].transpose(0, 1, 2, 4, 3)) @ v[:, :, None])


def causal(scores: np.ndarray) -> np.ndarray:
    """Return the softmax of scores (..., queries, keys) over the keys up to each query's own; overwrites them."""
    scores += np.triu(np.full(scores.shape[-2:], -np.inf, dtype=np.float32), 1)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def quantised(x: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return whole numbers of so many bits, float32 (..., n), and what each row was multiplied with, (..., 1)."""
    largest = (1 << (bits - 1)) - 1
    scale = largest / np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-5)
    whole = x * scale
    np.clip(np.rint(whole, out=whole), -largest - 1, largest, out=whole)
    return whole, scale


def project(
    matrices: list[Matrix], products: list[Product], x: np.ndarray, first: int, act_bits: int
) -> list[np.ndarray]:
    """Return activations (tokens, fan_in) through several ternary matrices, quantised once."""
    whole, scale = quantised(x, act_bits)
    found = [product(whole, first) for product in products]
    for matrix, out in zip(matrices, found, strict=True):
        out *= (np.float32(matrix.scale) if np.ndim(matrix.scale) == 0 else np.float32(1)) / scale
    return found


@dataclass(frozen=True)
class Layer:
    """A block with what its matrices do, and what attends: queries, keys, values and first window -> weighted values."""

    checkpoint: Checkpoint
    block: Block
    products: dict[str, Product]
    attention: Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]

    def run(self, x: np.ndarray, turns: np.ndarray, first: int) -> np.ndarray:
        """Return the residual stream (windows, length, d_model) after the block; first: number of its first token."""
        h, by = self._norm("input", x), np.float32(self.checkpoint.branch_scale)
        q, k, v = self._project(("q", "k", "v"), h, first)
        seen = self._attended(q, k, v, turns, first // x.shape[1])
        x = x + by * self._project(("o",), self._norm("attention", seen), first)[0]
        gate, up = self._project(("gate", "up"), self._norm("post", x), first)
        active = np.maximum(gate, 0) ** 2 if self.checkpoint.activation == "relu2" else gate / (1 + np.exp(-gate))
        return np.asarray(x + by * self._project(("down",), self._norm("ffn", active * up), first)[0])

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        gain = self.block.norms.get(name)
        return x if gain is None else norm(x, gain, self.checkpoint.eps)

    def _attended(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, turns: np.ndarray, first: int) -> np.ndarray:
        """Return what is seen, (windows, length, heads x head_dim), by queries and keys turned to their positions."""
        (windows, length, _), width = q.shape, self.checkpoint.decoder.head_dim
        q, k, v = (a.reshape(windows, length, -1, width).transpose(0, 2, 1, 3) for a in (q, k, v))
        q, k = self._norm("query", q), self._norm("key", k)
        q, k = turned(q, turns) * np.float32(width**-0.5), turned(k, turns)
        seen = self.attention(q.reshape(windows, k.shape[1], -1, length, width), k, v, first)
        return seen.reshape(windows, -1, length, width).transpose(0, 2, 1, 3).reshape(windows, length, -1)

    def _project(self, kinds: tuple[str, ...], x: np.ndarray, first: int) -> list[np.ndarray]:
        """Return one input through several matrices, quantised once."""
        flat = x.reshape(-1, x.shape[-1])
        if not self.block.matrices[kinds[0]].ternary:
            return [self.products[kind](flat, first).reshape(*x.shape[:-1], -1) for kind in kinds]
        matrices, products = [self.block.matrices[kind] for kind in kinds], [self.products[kind] for kind in kinds]
        found = project(matrices, products, flat, first, self.checkpoint.act_bits)
        return [out.reshape(*x.shape[:-1], -1) for out in found]


def norm(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    """Return x over the root of its mean square, times a gain."""
    mean_square = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    out = x * (1 / np.sqrt(mean_square + np.float32(eps)))
    out *= gain
    return np.asarray(out)


def turned(x: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Return queries or keys (..., length, head_dim) turned to their positions, of which halves are the coordinates."""
    one, two = np.split(x, 2, axis=-1)
    cos, sin = turns
    return np.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1)
