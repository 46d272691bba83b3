"""The arithmetic of one decoder block; its projections and its attention may be on crossbars, norms are not.

Written for numpy, and through the array API the same on torch tensors. Scales are Python's floats: as float32 beside arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array

from pimllm_lib.analog.lm.arrays import beside, clipped, into, kept
from pimllm_lib.analog.lm.checkpoint import Block, Checkpoint, Matrix

#: What a matrix does to whole activations (tokens, fan_in), of which the first has the number given.
Product: TypeAlias = Callable[[Any, int], Any]
#: Layer and kind, such as "3.down", and its matrix -> what it does.
Prepare: TypeAlias = Callable[[str, Matrix], Product]
#: Number of the block, queries (windows, KV heads, group, length, head_dim), scaled, keys and values (windows, KV heads,
#: length, head_dim), number of the first window -> weighted values, shaped as the queries.
Attend: TypeAlias = Callable[[int, Any, Any, Any, int], Any]


def exact(_: str, matrix: Matrix) -> Product:
    """Return the exact product: whole activations times ternary weights, as float32 holds them.

    Where groups of inputs have scales, their products are scaled, and added in the order of the groups.
    """
    held, scales = kept(matrix.values.astype(np.float32)), np.asarray(matrix.scale)
    if scales.ndim == 0:
        return lambda x, first: x @ held(x)
    groups, by = len(scales), kept(scales)

    def product(x: Any, first: int) -> Any:
        weights, scale, xp = held(x), by(x), array_namespace(x)
        out, span = xp.zeros((x.shape[0], weights.shape[1]), dtype=xp.float32, device=device(x)), x.shape[1] // groups
        for number in range(groups):
            rows = slice(number * span, (number + 1) * span)
            out += scale[number, :] * (x[:, rows] @ weights[rows, :])
        return out

    return product


def zeroed(_: str, matrix: Matrix) -> Product:
    """Return the product of a crossbar that gives nothing: what a model says without it."""

    def product(x: Any, first: int) -> Any:
        xp = array_namespace(x)
        return xp.zeros((x.shape[0], matrix.values.shape[1]), dtype=xp.float32, device=device(x))

    return product


def attend(_: int, q: Any, k: Any, v: Any, first: int) -> Any:
    """Return exact causal attention, each key-value head for a group of query heads."""
    xp = array_namespace(q)
    return causal(q @ xp.permute_dims(k[:, :, None, ...], (0, 1, 2, 4, 3))) @ v[:, :, None, ...]


def causal(scores: Any) -> Any:
    """Return the softmax of scores (..., queries, keys) over the keys up to each query's own; overwrites them."""
    xp = array_namespace(scores)
    scores += beside(np.triu(np.full(scores.shape[-2:], -np.inf, dtype=np.float32), 1), scores)
    scores -= xp.max(scores, axis=-1, keepdims=True)
    scores = xp.exp(scores, **into(scores))
    scores /= xp.sum(scores, axis=-1, keepdims=True)
    return scores


def quantised(x: Any, bits: int) -> tuple[Any, Any]:
    """Return whole numbers of so many bits, float32 (..., n), and what each row was multiplied with, (..., 1)."""
    xp, largest = array_namespace(x), (1 << (bits - 1)) - 1
    scale = largest / clipped(xp.max(xp.abs(x), axis=-1, keepdims=True), 1e-5, None)
    whole = x * scale
    whole = xp.round(whole, **into(whole))
    return clipped(whole, -largest - 1, largest), scale


def project(matrices: list[Matrix], products: list[Product], x: Any, first: int, act_bits: int) -> list[Any]:
    """Return activations (tokens, fan_in) through several ternary matrices, quantised once."""
    whole, scale = quantised(x, act_bits)
    found = [product(whole, first) for product in products]
    for matrix, out in zip(matrices, found, strict=True):
        out *= (float(matrix.scale) if np.ndim(matrix.scale) == 0 else 1.0) / scale
    return found


@dataclass(frozen=True)
class Layer:
    """A block with what its matrices do, and what attends: queries, keys, values and first window -> weighted values."""

    checkpoint: Checkpoint
    block: Block
    products: dict[str, Product]
    attention: Callable[[Any, Any, Any, int], Any]

    def run(self, x: Any, turns: Any, first: int) -> Any:
        """Return the residual stream (windows, length, d_model) after the block; first: number of its first token."""
        h, by = self._norm("input", x), float(self.checkpoint.branch_scale)
        q, k, v = self._project(("q", "k", "v"), h, first)
        seen = self._attended(q, k, v, turns, first // x.shape[1])
        x = x + by * self._project(("o",), self._norm("attention", seen), first)[0]
        gate, up = self._project(("gate", "up"), self._norm("post", x), first)
        xp = array_namespace(x)
        active = clipped(gate, 0, None) ** 2 if self.checkpoint.activation == "relu2" else gate / (1 + xp.exp(-gate))
        return x + by * self._project(("down",), self._norm("ffn", active * up), first)[0]

    def _norm(self, name: str, x: Any) -> Any:
        gain = self.block.norms.get(name)
        return x if gain is None else norm(x, gain, self.checkpoint.eps)

    def _attended(self, q: Any, k: Any, v: Any, turns: Any, first: int) -> Any:
        """Return what is seen, (windows, length, heads x head_dim), by queries and keys turned to their positions."""
        (windows, length, _), width, xp = q.shape, int(self.checkpoint.decoder.head_dim), array_namespace(q)

        def swapped(a: Any, *shape: int) -> Any:
            return xp.permute_dims(xp.reshape(a, shape), (0, 2, 1, 3))

        q, k, v = (swapped(a, windows, length, -1, width) for a in (q, k, v))
        q, k = self._norm("query", q), self._norm("key", k)
        q, k = turned(q, turns) * width**-0.5, turned(k, turns)
        seen = self.attention(xp.reshape(q, (windows, k.shape[1], -1, length, width)), k, v, first)
        return xp.reshape(swapped(seen, windows, -1, length, width), (windows, length, -1))

    def _project(self, kinds: tuple[str, ...], x: Any, first: int) -> list[Any]:
        """Return one input through several matrices, quantised once."""
        xp = array_namespace(x)
        flat = xp.reshape(x, (-1, x.shape[-1]))
        matrices, products = [self.block.matrices[kind] for kind in kinds], [self.products[kind] for kind in kinds]
        if matrices[0].ternary:
            found = project(matrices, products, flat, first, self.checkpoint.act_bits)
        else:
            found = [product(flat, first) for product in products]
        return [xp.reshape(out, (*x.shape[:-1], -1)) for out in found]


def norm(x: Any, gain: np.ndarray, eps: float) -> Any:
    """Return x over the root of its mean square, times a gain."""
    xp = array_namespace(x)
    squares = np.einsum("...i,...i->...", x, x) if is_numpy_array(x) else xp.vecdot(x, x)
    out = x * (1 / xp.sqrt(squares[..., None] / x.shape[-1] + float(eps)))
    out *= beside(gain, x)
    return out


def turned(x: Any, turns: Any) -> Any:
    """Return queries or keys (..., length, head_dim) turned to their positions, of which halves are the coordinates."""
    half = x.shape[-1] // 2
    one, two, cos, sin = x[..., :half], x[..., half:], turns[0, ...], turns[1, ...]
    return array_namespace(x).concat([one * cos - two * sin, two * cos + one * sin], axis=-1)
