"""What blocks keep of the tokens before: keys and values, latents, states, and how much of it a step works with."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.parts import Value, ceil_div
from pimllm_lib.hardware import ONE_BY_ONE, Decoding
from pimllm_lib.workload.decoder import Decoder, kinds


def attended(decoder: Decoder, context_len: Value) -> Value:
    """Return how many tokens attention reaches: all of the context, those of the last chunk, or the window's and the
    sinks before it.
    """
    if np.any(np.isfinite(decoder.chunk)):
        context_len = context_len - np.floor((context_len - 1) / decoder.chunk) * decoder.chunk
    if not np.any(np.isfinite(decoder.window)):  # keeps the context as narrow as it came
        return context_len
    return np.minimum(context_len, decoder.window + decoder.sinks)


def cached(decoder: Decoder) -> tuple[Value, Value, Value]:
    """Return what a token leaves in the cache of a block: heads of its own, numbers of a key, and numbers of a value.

    With latent attention there is one head, whose values are the latent part of its keys: they are stored once.
    """
    if not np.any(np.asarray(decoder.latent_dim)):
        return decoder.n_kv_heads, decoder.head_dim, decoder.values
    there = decoder.latent_dim > 0
    key = np.where(there, decoder.latent_dim + decoder.rope_dim, decoder.head_dim)
    return np.where(there, 1, decoder.n_kv_heads), key, np.where(there, decoder.latent_dim, decoder.values)


def token_words(decoder: Decoder) -> Value:
    """Return the numbers that a token leaves in the caches of all blocks."""
    return sum(_block_words(kind) * kind.n_layers for kind in kinds(decoder))


def _block_words(decoder: Decoder) -> Value:
    if decoder.kv_shared or decoder.mixer not in ("attention", "both"):
        return 0
    heads, key, value = cached(decoder)
    return heads * (key + np.where(decoder.latent_dim > 0, 0, value)) + decoder.index_dim * (decoder.index_heads > 0)


def state_words(decoder: Decoder) -> Value:
    """Return the numbers that the blocks keep of all tokens together, however many these are."""
    return sum(
        (kind.state_heads * kind.state_dim * kind.state_width + kind.state_extra) * kind.n_layers
        for kind in kinds(decoder) if kind.mixer in ("linear", "both")
    )  # fmt: skip


def cache_words(decoder: Decoder, context_len: Value, way: Decoding = ONE_BY_ONE) -> Value:
    """Return the numbers in the key-value caches and states of all blocks and sequences, bounds of pages included."""
    return (reached_words(decoder, context_len) + state_words(decoder)) * way.batch


def reached_words(decoder: Decoder, context_len: Value) -> Value:
    """Return the numbers in the caches of all blocks that a step can reach, bounds of pages included."""
    total: Value = 0
    for kind in kinds(decoder):
        (heads, key, _), span = cached(kind), attended(kind, context_len)
        bounds = 2 * ceil_div(span, kind.page) * key * heads * kind.n_layers * _paged(kind)
        total = total + (span * token_words(kind) + bounds)
    return total


def attended_words(decoder: Decoder, context_len: Value) -> Value:
    """Return the numbers in caches and states that a step of one sequence works with."""
    total: Value = state_words(decoder)
    for kind in kinds(decoder):
        total = total + np.minimum(attended(kind, context_len), kind.top_tokens) * token_words(kind)
    return total


def _paged(decoder: Decoder) -> Value:
    """Return whether tokens are chosen by the bounds of pages."""
    return np.isfinite(decoder.top_tokens) * np.equal(decoder.index_heads, 0)


def cut(tokens: Value, way: Decoding) -> Value:
    """Return how many parts the tokens attended to are cut into: no more than there are tokens, since a part that holds
    none is no work. One stays a plain 1.
    """
    return 1 if isinstance(way.splits, int) and way.splits == 1 else np.minimum(way.splits, tokens)
