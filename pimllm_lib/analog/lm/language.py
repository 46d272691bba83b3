"""Run a decoder: logits and losses of a text, its matrices exact, on crossbars or both. Norms stay digital.

Layer by layer over all of the text, so a model of which only one block fits into memory runs too. numpy computes unless
`like` is an array of another library, whose device does then, by the array API; results are numpy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from pimllm_lib.analog.lm.arrays import beside, into, kept, to_numpy
from pimllm_lib.analog.lm.checkpoint import Block, Checkpoint, Matrix
from pimllm_lib.analog.lm.layers import Attend, Layer, Prepare, Product, attend, exact, norm, project
from pimllm_lib.analog.lm.rotary import rotation
from pimllm_lib.core.errors import BadInput

T = TypeVar("T")
#: Tokens of a chunk, as many as a cache holds: activations of one are held at a time, beside the residual stream of all.
#: Of one on another library's device, which is kept busy by more.
CHUNK, LARGE_CHUNK = 1024, 1 << 14
#: Roundings that a sum of some hundred terms is off by; bytes of residual streams that go through the blocks together.
NUDGE, HELD = 16, 1 << 29
#: What prepares matrices, and for each time that the text is then read whether embeddings are off by up to `NUDGE`
#: roundings of float32, which turns roundings of activations later on, as sums in another order do: what moves then,
#: moves on another processor too.
Way: TypeAlias = tuple[Prepare, Sequence[bool]]


def logits(checkpoint: Checkpoint, tokens: np.ndarray, prepare: Prepare = exact, *, like: Any = None) -> np.ndarray:
    """Return logits (windows, length, vocabulary), float32, of tokens (windows, length).

    like: an array of the library that computes, on its device; numpy unless given.
    """
    flat, parts = _hidden(checkpoint, tokens, prepare, like), []
    for number, (_, matrix) in enumerate(checkpoint.head()):
        scores = _scores(checkpoint, matrix, prepare, number)
        parts.append(np.concatenate([to_numpy(scores(flat[at, :], at.start)) for at in _steps(flat, matrix)]))
    return np.concatenate(parts, axis=1).reshape(*tokens.shape, -1)


def losses(
    checkpoint: Checkpoint, tokens: np.ndarray, prepare: Prepare = exact, *, header: int = 0, attention: Attend = attend,
    like: Any = None,
) -> np.ndarray:  # fmt: skip
    """Return the negative log-likelihood in nats of each token given those before, (windows, predicted).

    header: tokens at the start of each window that are given; the first token always is; like: as `logits` has it. Raises
    BadInput for tokens outside the vocabulary and outputs that are not finite.
    """
    return every_loss(checkpoint, tokens, [(prepare, (False,))], header=header, attention=attention, like=like)[0][0]


def every_loss(
    checkpoint: Checkpoint, tokens: np.ndarray, ways: Sequence[Way], *, header: int = 0, attention: Attend = attend,
    progress: Callable[[int], None] = lambda _: None, like: Any = None,
) -> list[list[np.ndarray]]:  # fmt: skip
    """Return the losses of each way of reading, each time it does: a block is read once for many of them, and prepared once.

    progress: told of how many ways a block is done, for each block; like: as `logits` has it.
    """
    room, found = max(HELD // (4 * tokens.size * int(checkpoint.decoder.d_model)), 1), list[list[np.ndarray]]()
    while len(found) < len(ways):
        some = list(ways[len(found) : len(found) + 1])
        for way in ways[len(found) + 1 :]:
            if sum(len(times) for _, times in (*some, way)) > room:
                break
            some.append(way)
        found += _losses(checkpoint, tokens, some, max(header, 1), attention, progress, like)
    return found


def _losses(
    checkpoint: Checkpoint, tokens: np.ndarray, ways: Sequence[Way], start: int, attention: Attend,
    progress: Callable[[int], None], like: Any,
) -> list[list[np.ndarray]]:  # fmt: skip
    streams = _through_blocks(checkpoint, tokens, ways, attention, progress, like)
    flat = [[_flat(stream[:, start - 1 : -1, :]) for stream in times] for times in streams]
    targets = tokens[:, start:].reshape(-1).astype(np.int64)
    sums = [[_Sums.none(len(targets), stream) for stream in times] for times in flat]
    for number, (first, matrix) in enumerate(checkpoint.head()):
        for (prepare, _), times, own in zip(ways, flat, sums, strict=True):
            scores = _scores(checkpoint, matrix, prepare, number)
            for stream, total in zip(times, own, strict=True):
                for at in _steps(stream, matrix):
                    total.add(at, scores(stream[at, :], at.start), beside(targets[at] - first, stream))
    return [[each.losses().reshape(len(tokens), -1) for each in own] for own in sums]


@dataclass(frozen=True)
class _Sums:
    """Of each token the largest score so far, the sum of exponentials over it, and the score of the token that follows."""

    largest: Any
    total: Any
    chosen: Any

    @classmethod
    def none(cls, count: int, like: Any) -> _Sums:
        """Return what is known before any score, in float64 beside an array."""
        return cls(*(beside(np.full(count, start), like) for start in (-np.inf, 0.0, 0.0)))

    def add(self, at: slice, scores: Any, wanted: Any) -> None:
        """Take part of the scores of some tokens, and where in it those lie that follow; overwrites them."""
        xp = array_namespace(scores)
        here = (wanted >= 0) & (wanted < scores.shape[1])
        there = xp.take_along_axis(scores, xp.where(here, wanted, 0)[:, None], axis=1)[:, 0]
        self.chosen[at] = xp.where(here, xp.astype(there, xp.float64), self.chosen[at])
        top = xp.maximum(self.largest[at], xp.astype(xp.max(scores, axis=1), xp.float64))
        scores -= xp.astype(top, xp.float32)[:, None]
        added = xp.sum(xp.exp(scores, **into(scores)), axis=1, dtype=xp.float64)
        self.total[at], self.largest[at] = self.total[at] * xp.exp(self.largest[at] - top) + added, top

    def losses(self) -> np.ndarray:
        """Return the losses of all tokens."""
        largest, total, chosen = map(to_numpy, (self.largest, self.total, self.chosen))
        return np.asarray(np.log(total) - (chosen - largest).astype(np.float32))


def _flat(stream: Any) -> Any:
    return array_namespace(stream).reshape(stream, (-1, stream.shape[-1]))


def _steps(flat: Any, matrix: Matrix) -> Iterator[slice]:
    """Yield tokens whose outputs are held at a time."""
    step = max((1 << 24) // matrix.values.shape[1], 1)
    return (slice(at, min(at + step, flat.shape[0])) for at in range(0, flat.shape[0], step))


def _scores(checkpoint: Checkpoint, matrix: Matrix, prepare: Prepare, number: int) -> Product:
    """Return what gives the scores of tokens, of which the first has the number given, by a part of the head.

    A ternary part is a projection, named by its number.
    """
    by = float(checkpoint.head_scale)
    if not matrix.ternary:
        values = kept(matrix.values)
        return lambda x, _: (x if by == 1 else by * x) @ values(x)
    product = prepare(f"head.{number}", matrix)
    return lambda x, first: project([matrix], [product], by * x, first, checkpoint.act_bits)[0]


def _hidden(checkpoint: Checkpoint, tokens: np.ndarray, prepare: Prepare, like: Any = None) -> Any:
    """Return the normed residual stream after the last block, float32 (tokens, d_model)."""
    return _flat(_through_blocks(checkpoint, tokens, [(prepare, (False,))], attend, lambda _: None, like)[0][0])


def _through_blocks(
    checkpoint: Checkpoint, tokens: np.ndarray, ways: Sequence[Way], attention: Attend, progress: Callable[[int], None],
    like: Any,
) -> list[list[Any]]:  # fmt: skip
    """Return the normed residual streams after the last block, float32 (windows, length, d_model), of each way and time."""
    embedded = _embedded(checkpoint, tokens)
    streams = [[_nudged(embedded) if nudged else embedded.copy() for nudged in times] for _, times in ways]
    if like is not None:
        streams = [[beside(stream, like) for stream in times] for times in streams]
    for index in range(checkpoint.decoder.n_layers):
        block = checkpoint.block(index)
        for (prepare, _), times in zip(ways, streams, strict=True):
            run = _prepared(checkpoint, block, index, prepare, attention)
            for stream in times:
                run(stream)
            progress(1)
    for stream in (stream for times in streams for stream in times):
        xp = array_namespace(stream)
        if not xp.all(xp.isfinite(stream)):
            what = f"{checkpoint.name} gives outputs that are not finite"
            raise BadInput(f"{what}; wanted weights and noise that keep them so")
    gain = checkpoint.final_norm()
    return [[norm(stream, gain, checkpoint.eps) for stream in times] for times in streams]


def _prepared(
    checkpoint: Checkpoint, block: Block, index: int, prepare: Prepare, attention: Attend = attend
) -> Callable[[Any], None]:
    """Return what takes residual streams (windows, length, d_model) through a block, in their place."""
    products = {
        kind: (prepare if matrix.ternary else exact)(f"{index}.{kind}", matrix)
        for kind, matrix in block.matrices.items()
    }
    layer = Layer(checkpoint, block, products, partial(attention, index))

    def run(stream: Any) -> None:
        windows, length, _ = stream.shape
        turns = beside(rotation(checkpoint.rotary, length, int(checkpoint.decoder.head_dim)), stream)
        step = max((CHUNK if is_numpy_array(stream) else LARGE_CHUNK) // length, 1)
        for at in range(0, windows, step):
            stream[at : at + step, ...] = layer.run(stream[at : at + step, ...], turns, at * length)

    return run


def one_block(checkpoint: Checkpoint, block: Block, prepare: Prepare) -> Callable[[np.ndarray], None]:
    """Return what takes tokens (windows, length) through the first block alone, once it is prepared."""
    run = _prepared(checkpoint, block, 0, prepare)
    return lambda tokens: run(_embedded(checkpoint, tokens))


def _embedded(checkpoint: Checkpoint, tokens: np.ndarray) -> np.ndarray:
    vocabulary = checkpoint.decoder.vocab_size
    got = int(tokens.min() if tokens.min() < 0 else tokens.max())
    if not 0 <= got < vocabulary:
        raise BadInput(f"a token is {got}; wanted 0 to {vocabulary - 1}, the vocabulary of {checkpoint.name}")
    return np.asarray(checkpoint.embedding(tokens) * np.float32(checkpoint.embedding_scale))


def _nudged(stream: np.ndarray) -> np.ndarray:
    drawn = np.random.default_rng(0).integers(-NUDGE, NUDGE + 1, stream.shape, dtype=np.int8)
    return np.asarray(stream * (1 + np.finfo(np.float32).eps * drawn))


def looked_at(checkpoint: Checkpoint, tokens: np.ndarray, look: Callable[[str, Matrix, np.ndarray], T]) -> dict[str, T]:
    """Return what `look` makes of each ternary matrix, told its name, and of its activations in exact products: the first
    chunk of those that tokens (windows, length) give it.
    """
    found: dict[str, T] = {}

    def prepare(name: str, matrix: Matrix) -> Product:
        product = exact(name, matrix)

        def watched(x: Any, first: int) -> Any:
            if name not in found:
                found[name] = look(name, matrix, x)
            return product(x, first)

        return watched

    flat = _hidden(checkpoint, tokens, prepare)[:CHUNK]
    for number, (_, matrix) in enumerate(checkpoint.head()):
        if not matrix.ternary:
            break
        _scores(checkpoint, matrix, prepare, number)(flat, 0)
    return found
