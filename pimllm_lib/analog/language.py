"""Run a BitNet-style decoder on numpy, its projections on crossbars or exact. Attention, norms and head stay digital.

Layer by layer over all of the text, so a model of which only one block fits into memory runs too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pimllm_lib.analog.checkpoint import Block, Checkpoint, Matrix
from pimllm_lib.errors import BadInput

#: What a matrix does to whole activations (tokens, fan_in), of which the first has the number given.
Product: TypeAlias = Callable[[np.ndarray, int], np.ndarray]
#: Layer and kind, such as "3.down", and its matrix -> what it does.
Prepare: TypeAlias = Callable[[str, Matrix], Product]
#: Tokens of a chunk, as many as a cache holds: activations of one are held at a time, beside the residual stream of all.
CHUNK = 1024


def exact(_: str, matrix: Matrix) -> Product:
    """Return the exact product: whole activations times ternary weights, as float32 holds them."""
    weights = matrix.values.astype(np.float32)
    return lambda x, first: np.asarray(x @ weights)


def zeroed(_: str, matrix: Matrix) -> Product:
    """Return the product of a crossbar that gives nothing: what a model says without it."""
    return lambda x, first: np.zeros((len(x), matrix.values.shape[1]), dtype=np.float32)


def logits(checkpoint: Checkpoint, tokens: np.ndarray, prepare: Prepare = exact) -> np.ndarray:
    """Return logits (windows, length, vocabulary), float32, of tokens (windows, length)."""
    stream = hidden(checkpoint, tokens, prepare)
    return np.asarray((stream.reshape(-1, stream.shape[-1]) @ checkpoint.head().T).reshape(*tokens.shape, -1))


def losses(checkpoint: Checkpoint, tokens: np.ndarray, prepare: Prepare = exact, *, header: int = 0) -> np.ndarray:
    """Return the negative log-likelihood in nats of each token given those before, (windows, predicted).

    header: tokens at the start of each window that are given; the first token always is.
    """
    start = max(header, 1)
    stream, head = hidden(checkpoint, tokens, prepare)[:, start - 1 : -1], checkpoint.head().T
    flat, targets = stream.reshape(-1, stream.shape[-1]), tokens[:, start:].reshape(-1)
    out, step = np.empty(len(flat)), max((1 << 24) // head.shape[1], 1)
    for at in range(0, len(flat), step):
        scores = flat[at : at + step] @ head
        scores -= scores.max(axis=1, keepdims=True)
        chosen = scores[np.arange(len(scores)), targets[at : at + step]]
        out[at : at + step] = np.log(np.exp(scores).sum(axis=1, dtype=np.float64)) - chosen
    return out.reshape(len(tokens), -1)


def hidden(checkpoint: Checkpoint, tokens: np.ndarray, prepare: Prepare = exact) -> np.ndarray:
    """Return the normed residual stream after the last block, float32 (windows, length, d_model).

    Raises BadInput for tokens outside the vocabulary and outputs that are not finite.
    """
    vocabulary, (windows, length) = checkpoint.decoder.vocab_size, tokens.shape
    got = int(tokens.min() if tokens.min() < 0 else tokens.max())
    if not 0 <= got < vocabulary:
        raise BadInput(f"a token is {got}; wanted 0 to {vocabulary - 1}, the vocabulary of {checkpoint.name}")
    stream = checkpoint.embedding()[tokens]
    rotation = _rotation(length, checkpoint.decoder.head_dim, checkpoint.theta)
    step = max(CHUNK // length, 1)
    for index in range(checkpoint.decoder.n_layers):
        layer = _Layer.of(checkpoint, index, prepare)
        for at in range(0, windows, step):
            stream[at : at + step] = layer.run(stream[at : at + step], rotation, at * length)
    if not np.isfinite(stream).all():
        raise BadInput(
            f"{checkpoint.name} gives outputs that are not finite; wanted weights and noise that keep them so"
        )
    return norm(stream, checkpoint.final_norm(), checkpoint.eps)


@dataclass(frozen=True)
class _Layer:
    checkpoint: Checkpoint
    block: Block
    products: dict[str, Product]

    @classmethod
    def of(cls, checkpoint: Checkpoint, index: int, prepare: Prepare) -> _Layer:
        block = checkpoint.block(index)
        products = {
            kind: prepare(f"{index}.{kind}", matrix) if matrix.ternary else exact(kind, matrix)
            for kind, matrix in block.matrices.items()
        }
        return cls(checkpoint, block, products)

    def run(self, x: np.ndarray, rotation: np.ndarray, first: int) -> np.ndarray:
        """Return the residual stream (windows, length, d_model) after the block; first: number of its first token."""
        h = self._norm("input", x)
        q, k, v = self._project(("q", "k", "v"), h, first)
        seen = _attention(q, k, v, rotation, self.checkpoint.decoder.head_dim)
        x = x + self._project(("o",), self._norm("attention", seen), first)[0]
        gate, up = self._project(("gate", "up"), self._norm("post", x), first)
        active = np.maximum(gate, 0) ** 2 if self.checkpoint.activation == "relu2" else gate / (1 + np.exp(-gate))
        return np.asarray(x + self._project(("down",), self._norm("ffn", active * up), first)[0])

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        gain = self.block.norms.get(name)
        return x if gain is None else norm(x, gain, self.checkpoint.eps)

    def _project(self, kinds: tuple[str, ...], x: np.ndarray, first: int) -> list[np.ndarray]:
        """Return one input through several matrices, quantised once."""
        flat = x.reshape(-1, x.shape[-1])
        if not self.block.matrices[kinds[0]].ternary:
            return [self.products[kind](flat, first).reshape(*x.shape[:-1], -1) for kind in kinds]
        largest = (1 << (self.checkpoint.act_bits - 1)) - 1
        scale = largest / np.maximum(np.abs(flat).max(axis=1, keepdims=True), 1e-5)
        whole = flat * scale
        np.clip(np.rint(whole, out=whole), -largest - 1, largest, out=whole)
        found = [self.products[kind](whole, first) for kind in kinds]
        for kind, out in zip(kinds, found, strict=True):
            out *= np.float32(self.block.matrices[kind].scale) / scale
        return [out.reshape(*x.shape[:-1], -1) for out in found]


def norm(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    """Return x over the root of its mean square, times a gain."""
    mean_square = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    out = x * (1 / np.sqrt(mean_square + np.float32(eps)))
    out *= gain
    return np.asarray(out)


def _rotation(length: int, head_dim: int, theta: float) -> np.ndarray:
    """Return cosine and sine of each position and pair of coordinates, float32 (2, length, head_dim / 2)."""
    speeds = theta ** (-np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
    angles = np.arange(length, dtype=np.float32)[:, None] * speeds.astype(np.float32)
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, rotation: np.ndarray, head_dim: int) -> np.ndarray:
    """Return causal attention of (windows, length, heads x head_dim), each key-value head for a group of query heads."""
    windows, length, _ = q.shape
    q, k, v = (a.reshape(windows, length, -1, head_dim).transpose(0, 2, 1, 3) for a in (q, k, v))
    q, k = _turned(q, rotation) * np.float32(head_dim**-0.5), _turned(k, rotation)
    groups = q.reshape(windows, k.shape[1], -1, length, head_dim)
    scores = groups @ k[:, :, None].transpose(0, 1, 2, 4, 3)
    scores += np.triu(np.full((length, length), -np.inf, dtype=np.float32), 1)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    heads = (scores @ v[:, :, None]).reshape(windows, -1, length, head_dim)
    return np.asarray(heads.transpose(0, 2, 1, 3).reshape(windows, length, -1))


def _turned(x: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    one, two = np.split(x, 2, axis=-1)
    cos, sin = rotation
    return np.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1)
