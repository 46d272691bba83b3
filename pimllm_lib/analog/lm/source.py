"""A generated language whose next-token law, and so whose entropy, is known exactly.

A document is a header and a body. Header token i says which of several lists of favourites class i of the body has in
this document. The next body symbol, given the last two (x1, before it x2) and the header, has the law

    P = (BIGRAM bigram[x1] + TRIGRAM trigram[class(x2), class(x1)] + HEADER favourites[class(x1), header[class(x1)]]) / 16

The header's term is the long-range one: half of the weight hangs on a token up to a whole document ago, which one step of
attention can find. All probabilities are whole multiples of 2**-16 and all draws are raw words of PCG64, so the same seed
gives the same bytes wherever it runs.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from pimllm_lib.analog.lm.corpus import Corpus

#: Symbols of the body, their classes, lists of favourites a class can have.
SYMBOLS, CLASSES, LISTS = 64, 16, 8
#: Weights of the terms in sixteenths; each term's whole numbers sum to `SCALE`, a law to `TOTAL`.
BIGRAM, TRIGRAM, HEADER = 4, 4, 8
SCALE, TOTAL = 1 << 12, 1 << 16
#: A list names four favourites, with these whole numbers.
FAVOURITES = (2048, 1024, 512, 512)
#: Tokens: the body's symbols, then for each class and list a token of the header. Length of a document.
VOCABULARY, LENGTH = SYMBOLS + CLASSES * LISTS, 128
BODY = LENGTH - CLASSES
#: Documents and seed of each part; the law has a seed of its own.
PARTS = {"training": (32768, 2), "held_out": (1024, 3)}
LAW_SEED = 1


def class_of(symbols: np.ndarray) -> np.ndarray:
    """Return the class of each body symbol."""
    return symbols % CLASSES


@cache
def tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return bigram, trigram and favourites as whole numbers that sum to `SCALE` along the last axis.

    Shapes: (SYMBOLS, SYMBOLS), (CLASSES, CLASSES, SYMBOLS), (CLASSES, LISTS, SYMBOLS).
    """
    rows = SYMBOLS + CLASSES * CLASSES + CLASSES * LISTS
    order = np.argsort(np.random.PCG64(LAW_SEED).random_raw(rows * SYMBOLS).reshape(rows, SYMBOLS), kind="stable")
    ranked = (1 << 32) // np.arange(1, SYMBOLS + 1) ** 2  # a power law in whole numbers
    ranked = ranked * SCALE // ranked.sum()
    ranked[0] += SCALE - ranked.sum()
    favourite = np.zeros(SYMBOLS, dtype=np.int64)
    favourite[: len(FAVOURITES)] = FAVOURITES
    by_rank = np.concatenate([np.tile(ranked, (rows - CLASSES * LISTS, 1)), np.tile(favourite, (CLASSES * LISTS, 1))])
    shuffled = np.take_along_axis(by_rank, order, axis=1)
    one, two, three = np.split(shuffled, [SYMBOLS, SYMBOLS + CLASSES * CLASSES])
    return one, two.reshape(CLASSES, CLASSES, SYMBOLS), three.reshape(CLASSES, LISTS, SYMBOLS)


def documents(count: int, seed: int) -> np.ndarray:
    """Return tokens, uint8 (count, LENGTH): a header and a body each."""
    draws = np.random.PCG64(seed).random_raw(count * LENGTH).reshape(LENGTH, count)
    lists = (draws[:CLASSES] >> np.uint64(61)).astype(np.int64)  # the top three bits: one of eight
    header = SYMBOLS + LISTS * np.arange(CLASSES)[:, None] + lists
    body: list[np.ndarray] = []
    for draw in draws[CLASSES:]:
        chances = np.cumsum(_next(*_last(body, count), lists), axis=1)
        body.append((chances <= (draw >> np.uint64(48)).astype(np.int64)[:, None]).sum(axis=1))
    return np.concatenate([header, np.stack(body)]).T.astype(np.uint8)


def law(tokens: np.ndarray) -> np.ndarray:
    """Return the exact law of every body symbol of documents, as whole multiples of 1 / TOTAL: (count, BODY, SYMBOLS)."""
    lists, body = _parts(tokens)
    return np.stack([_next(*_last(body[:t], body.shape[1]), lists) for t in range(BODY)], axis=1)


def without_header(tokens: np.ndarray) -> np.ndarray:
    """Return the best law for who sees all of the body so far and no header: (count, BODY, SYMBOLS), summing to 1.

    A symbol after one of class c bears on the list of class c alone, so Bayes' rule is exact, class by class.
    """
    _, body = _parts(tokens)
    count = body.shape[1]
    everyone = np.arange(count)
    belief = np.full((count, CLASSES, LISTS), 1 / LISTS)
    out = np.empty((count, BODY, SYMBOLS))
    for t in range(BODY):
        group, local = _local(*_last(body[:t], count))
        each = local[:, None] + HEADER * tables()[2][group]  # (count, LISTS, SYMBOLS)
        held = belief[everyone, group]
        out[:, t] = (held[:, :, None] * each).sum(axis=1) / TOTAL
        held = held * each[everyone, :, body[t]]
        belief[everyone, group] = held / held.sum(axis=1, keepdims=True)
    return out


def cross_entropies(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Return the mean over positions of -sum(truth log guess) of each document, (count,), in nats: expected, not sampled.

    Of a law with itself it is the entropy.
    """
    return np.asarray(-(truth * np.log(np.maximum(guess, 1e-300))).sum(axis=-1).mean(axis=-1))


def _last(body: list[np.ndarray] | np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the last symbol and the one before; before the body stands symbol 0."""
    start = np.zeros(count, dtype=np.int64)
    return (body[-1] if len(body) > 0 else start), (body[-2] if len(body) > 1 else start)


def _local(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of the last symbol, and the terms of the law that need no header."""
    (bigram, trigram, _), group = tables(), class_of(one)
    return group, BIGRAM * bigram[one] + TRIGRAM * trigram[class_of(two), group]


def _next(one: np.ndarray, two: np.ndarray, lists: np.ndarray) -> np.ndarray:
    group, local = _local(one, two)
    return np.asarray(local + HEADER * tables()[2][group, lists[group, np.arange(one.size)]])


def _parts(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the list that each class uses, (CLASSES, count), and the body, (BODY, count)."""
    whole = tokens.T.astype(np.int64)
    return (whole[:CLASSES] - SYMBOLS) % LISTS, whole[CLASSES:]


def corpus() -> Corpus:
    """Return training and held-out documents, one after another, as uint8 arrays."""
    training, held_out = (documents(*PARTS[part]).ravel() for part in ("training", "held_out"))
    return Corpus(training=training, held_out=held_out, header=CLASSES)
