"""Decoders shaped as a study had them, and the number of their parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import Value
from pimllm_lib.workload.decoder import Decoder, kinds


def as_published(decoder: Decoder, *, d_ff: bool, gated: bool) -> Decoder:
    """Return the decoder with the published FFN width and gating, each where asked for and where one is known."""
    shape = decoder.published
    new_ff = shape.d_ff if d_ff and shape.d_ff is not None else decoder.d_ff
    new_gate = shape.gated if gated and shape.gated is not None else decoder.gated
    return replace(decoder, d_ff=new_ff, gated=new_gate)


def at_pim_width(decoder: Decoder) -> Decoder:
    """Return the decoder with the published crossbar width, where one is known: as wide, with as many more heads."""
    width = decoder.published.pim_width
    if width is None:
        return decoder
    heads, rest = divmod(width, decoder.head_dim)
    if rest or decoder.n_heads != decoder.n_kv_heads:
        raise BadInput(
            f"published.pim_width of {decoder.name} is {width}; wanted a multiple of the head dimension "
            f"{decoder.head_dim}, and as many KV heads as heads"
        )
    return replace(decoder, d_model=width, d_ff=width, n_heads=heads, n_kv_heads=heads)


def parameter_count(decoder: Decoder) -> Value:
    """Return the number of trained parameters: embeddings, projections, biases and norms.

    A tied output head counts once. Rotary positions have none. All experts count, and the router that picks them.
    """
    embedding = decoder.embedding_dim or decoder.d_model
    table = (decoder.vocab_size * (1 if decoder.tied_embeddings else 2)) * embedding
    resize = 0 if embedding == decoder.d_model else 2 * embedding * decoder.d_model
    positions = decoder.position_rows * decoder.d_model
    gain = 2 if decoder.norm == "layernorm" else 1
    final = gain * decoder.d_model * decoder.final_norm
    blocks = sum(kind.n_layers * _block(kind, gain) for kind in kinds(decoder))
    return table + resize + positions + final + _area(decoder.once) + decoder.extra_once + blocks


def _block(decoder: Decoder, gain: int) -> Value:
    d, ff = decoder.d_model, decoder.d_ff
    up, experts = 2 if decoder.gated else 1, decoder.n_experts
    mixer, qkv, q = 0, 0, 0
    if decoder.mixer in ("attention", "both"):
        mixer, qkv, q = _attention_weights(decoder)
    if decoder.mixer in ("linear", "both"):
        mixer += d * (decoder.mix_in + decoder.mix_out)
    weights = mixer + (up + 1) * d * (experts * ff + decoder.shared_ff) + _area(decoder.side)
    router = d * experts * (experts > 1)
    bias = {"none": 0, "qkv": qkv, "attention": qkv + d, "all": qkv + d + experts * (up * ff + d)}[decoder.linear_bias]
    norms = gain * decoder.norms * d + decoder.sub_norms * (q + experts * ff) + decoder.qk_norm * 2 * decoder.head_dim
    return weights + router + bias + norms + decoder.q_rank + decoder.latent_dim + decoder.extra_weights


def _attention_weights(decoder: Decoder) -> tuple[Value, Value, Value]:
    """Return the weights of attention's projections, their outputs but for the last one's, and what that one takes in."""
    d, heads, value = decoder.d_model, decoder.n_heads, decoder.values
    q, kv = heads * decoder.head_dim, decoder.n_kv_heads * (decoder.head_dim + value)
    latent, rope, low = decoder.latent_dim, decoder.rope_dim, decoder.q_rank
    into = d * low + (low if np.all(low) else d) * (q + heads * rope)
    keys = heads * latent * (decoder.head_dim + value) + d * (latent + rope) + d * kv * (latent == 0)
    there = 1 - decoder.kv_shared
    return into + keys * there + heads * value * d, q + kv * there, heads * value


def _area(sizes: tuple[tuple[int, int], ...]) -> int:
    return sum(k * n for k, n in sizes)
