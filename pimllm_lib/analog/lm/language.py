"""Run a BitNet-style decoder on numpy, its projections and its attention on crossbars or exact. Norms and head stay digital.

Layer by layer over all of the text, so a model of which only one block fits into memory runs too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

import numpy as np

from pimllm_lib.analog.lm.checkpoint import Block, Checkpoint, Matrix
from pimllm_lib.analog.lm.rotary import rotation
from pimllm_lib.core.errors import BadInput

T = TypeVar("T")
#: What a matrix does to whole activations (tokens, fan_in), of which the first has the number given.
Product: TypeAlias = Callable[[np.ndarray, int], np.ndarray]
#: Layer and kind, such as "3.down", and its matrix -> what it does.
Prepare: TypeAlias = Callable[[str, Matrix], Product]
#: Number of the block, queries (windows, KV heads, group, length, head_dim), scaled, keys and values (windows, KV heads,
#: length, head_dim), number of the first window -> weighted values, shaped as the queries.
Attend: TypeAlias = Callable[[int, np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
#: Tokens of a chunk, as many as a cache holds: activations of one are held at a time, beside the residual stream of all.
CHUNK = 1024
#: Roundings that a sum of some hundred terms is off by.
NUDGE = 16


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


def logits(checkpoint: Checkpoint, tokens: np.ndarray, prepare: Prepare = exact) -> np.ndarray:
    """Return logits (windows, length, vocabulary), float32, of tokens (windows, length)."""
    flat = _flat(hidden(checkpoint, tokens, prepare))
    parts = [
        np.concatenate([scores(at) for at in _steps(flat, matrix)])
        for _, matrix, scores in _head(checkpoint, flat, prepare)
    ]
    return np.concatenate(parts, axis=1).reshape(*tokens.shape, -1)


def losses(
    checkpoint: Checkpoint, tokens: np.ndarray, prepare: Prepare = exact, *, header: int = 0, attention: Attend = attend,
    nudged: bool = False,
) -> np.ndarray:  # fmt: skip
    """Return the negative log-likelihood in nats of each token given those before, (windows, predicted).

    header: tokens at the start of each window that are given; the first token always is. nudged: see `hidden`.
    """
    start = max(header, 1)
    flat = _flat(hidden(checkpoint, tokens, prepare, attention, nudged)[:, start - 1 : -1])
    targets = tokens[:, start:].reshape(-1)
    largest, total, chosen = (np.full(len(flat), fill, np.float64) for fill in (-np.inf, 0, 0))
    for first, matrix, scores in _head(checkpoint, flat, prepare):
        for at in _steps(flat, matrix):
            found, wanted = scores(at), targets[at] - first
            here = (wanted >= 0) & (wanted < found.shape[1])
            chosen[at][here] = found[here, wanted[here]]
            top = np.maximum(largest[at], found.max(axis=1))
            found -= top.astype(np.float32)[:, None]
            added = np.exp(found, out=found).sum(axis=1, dtype=np.float64)
            total[at], largest[at] = total[at] * np.exp(largest[at] - top) + added, top
    return np.asarray(np.log(total) - (chosen - largest).astype(np.float32)).reshape(len(tokens), -1)


def _flat(stream: np.ndarray) -> np.ndarray:
    return stream.reshape(-1, stream.shape[-1])


def _steps(flat: np.ndarray, matrix: Matrix) -> Iterator[slice]:
    """Yield tokens whose outputs are held at a time."""
    step = max((1 << 24) // matrix.values.shape[1], 1)
    return (slice(at, min(at + step, len(flat))) for at in range(0, len(flat), step))


def _head(
    checkpoint: Checkpoint, flat: np.ndarray, prepare: Prepare
) -> Iterator[tuple[int, Matrix, Callable[[slice], np.ndarray]]]:
    """Yield first token, weights and scores of each part of the head: a ternary one is a projection, named by its part."""
    flat = flat if checkpoint.head_scale == 1 else flat * np.float32(checkpoint.head_scale)
    for number, (first, matrix) in enumerate(checkpoint.head()):
        product = prepare(f"head.{number}", matrix) if matrix.ternary else None

        def scores(at: slice, matrix: Matrix = matrix, product: Product | None = product) -> np.ndarray:
            if product is None:
                return np.asarray(flat[at] @ matrix.values)
            return project([matrix], [product], flat[at], at.start, checkpoint.act_bits)[0]

        yield first, matrix, scores


def project(
    matrices: list[Matrix], products: list[Product], x: np.ndarray, first: int, act_bits: int
) -> list[np.ndarray]:
    """Return activations (tokens, fan_in) through several ternary matrices, quantised once."""
    whole, scale = quantised(x, act_bits)
    found = [product(whole, first) for product in products]
    for matrix, out in zip(matrices, found, strict=True):
        out *= (np.float32(matrix.scale) if np.ndim(matrix.scale) == 0 else np.float32(1)) / scale
    return found


def hidden(
    checkpoint: Checkpoint, tokens: np.ndarray, prepare: Prepare = exact, attention: Attend = attend,
    nudged: bool = False,
) -> np.ndarray:  # fmt: skip
    """Return the normed residual stream after the last block, float32 (windows, length, d_model).

    nudged: with embeddings off by up to `NUDGE` roundings of float32, which turns roundings of activations later on, as
    sums in another order do: what moves then, moves on another processor too.

    Raises BadInput for tokens outside the vocabulary and outputs that are not finite.
    """
    vocabulary, (windows, length) = checkpoint.decoder.vocab_size, tokens.shape
    got = int(tokens.min() if tokens.min() < 0 else tokens.max())
    if not 0 <= got < vocabulary:
        raise BadInput(f"a token is {got}; wanted 0 to {vocabulary - 1}, the vocabulary of {checkpoint.name}")
    stream = checkpoint.embedding(tokens)
    if checkpoint.embedding_scale != 1:
        stream *= np.float32(checkpoint.embedding_scale)
    if nudged:
        drawn = np.random.default_rng(0).integers(-NUDGE, NUDGE + 1, stream.shape, dtype=np.int8)
        stream = stream * (1 + np.finfo(np.float32).eps * drawn)
    turns = rotation(checkpoint.rotary, length, int(checkpoint.decoder.head_dim))
    step = max(CHUNK // length, 1)
    for index in range(checkpoint.decoder.n_layers):
        block = checkpoint.block(index)
        products = {
            kind: (prepare if matrix.ternary else exact)(f"{index}.{kind}", matrix)
            for kind, matrix in block.matrices.items()
        }
        layer = _Layer(checkpoint, block, products, partial(attention, index))
        for at in range(0, windows, step):
            stream[at : at + step] = layer.run(stream[at : at + step], turns, at * length)
    if not np.isfinite(stream).all():
        what = f"{checkpoint.name} gives outputs that are not finite"
        raise BadInput(f"{what}; wanted weights and noise that keep them so")
    return norm(stream, checkpoint.final_norm(), checkpoint.eps)


def looked_at(checkpoint: Checkpoint, tokens: np.ndarray, look: Callable[[str, Matrix, np.ndarray], T]) -> dict[str, T]:
    """Return what `look` makes of each ternary matrix, told its name, and of its activations in exact products: the first
    chunk of those that tokens (windows, length) give it.
    """
    found: dict[str, T] = {}

    def prepare(name: str, matrix: Matrix) -> Product:
        product = exact(name, matrix)

        def watched(x: np.ndarray, first: int) -> np.ndarray:
            if name not in found:
                found[name] = look(name, matrix, x)
            return product(x, first)

        return watched

    flat = _flat(hidden(checkpoint, tokens, prepare))
    for _, matrix, scores in _head(checkpoint, flat, prepare):
        if not matrix.ternary:
            break
        scores(slice(0, CHUNK))
    return found


@dataclass(frozen=True)
class _Layer:
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
        q, k = _turned(q, turns) * np.float32(width**-0.5), _turned(k, turns)
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


def _turned(x: np.ndarray, turns: np.ndarray) -> np.ndarray:
    one, two = np.split(x, 2, axis=-1)
    cos, sin = turns
    return np.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1)
