"""Decoder-only language models as shapes: what a cost model needs to know, and nothing more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import Value, declare, part, require
from pimllm_lib.core.rules import AT_LEAST_0, COUNT, FLAG, PART, Rule, needs, number

_NAMED = "{field} of {item.name}"
_TOKENS = number("whole tokens, at least 1; inf for all", ge=1, whole=True, what=_NAMED)
_WHOLE = AT_LEAST_0 + number("a whole number", whole=True, what=_NAMED)


def _one_of(*names: str) -> Rule:
    def holds(value: Any) -> Any:
        return value in names if isinstance(value, str) else np.isin(np.asarray(value), names)

    return needs(f"one of {', '.join(names)}", holds, what=_NAMED)


@part
class PublishedShape:
    """How a published study shaped a model where it departs from the real one; None where it does not."""

    d_ff: Value | None = declare(COUNT, "FFN width", default=None)
    gated: bool | None = declare(FLAG, "whether the FFN has a gate", default=None)
    pim_width: int | None = declare(COUNT, "width of model and FFN alike in its crossbar simulation", default=None)


@part
class Decoder:
    """A decoder-only LLM (MHA, GQA or MQA; gated or plain FFN; dense or a mixture of experts; full or windowed
    attention).

    Dimensions may be axes. `head_dim` and `n_kv_heads` are stored, since several models do not derive them from the
    width. Raises BadInput for a count below 1, for KV heads that do not divide the heads, and for more experts a token
    than there are.

    A router picks the experts of a token; 1 and 1 are one dense FFN. A window or a choice of tokens is infinite where all
    are attended to; a choice is made in pages, by bounds of their keys. With latent attention, all heads share a latent in
    place of keys and values, and a part of the key beside it that carries positions; 0 and 0 are keys and values.
    """

    name: str
    d_model: Value = declare(COUNT, "width of the residual stream")
    d_ff: Value = declare(COUNT, "width of the FFN, or of each expert")
    n_layers: Value = declare(COUNT, "decoder blocks")
    n_heads: Value = declare(COUNT, "query heads")
    n_kv_heads: Value = declare(COUNT, "heads of keys and values, which query heads share")
    head_dim: Value = declare(COUNT, "width of a head")
    vocab_size: Value = declare(COUNT, "tokens of the vocabulary")
    gated: bool = declare(FLAG, "the FFN has a gate beside its up projection", default=False)
    n_experts: Value = declare(COUNT, "FFNs of each block", default=1)
    experts_per_token: Value = declare(COUNT, "experts that work on a token", default=1)
    window: Value = declare(_TOKENS, "latest tokens that attention reaches, in every block", default=np.inf)
    sinks: Value = declare(_WHOLE, "first tokens that attention reaches beside a window", default=0)
    top_tokens: Value = declare(_TOKENS, "most tokens that a step attends to, of those reached", default=np.inf)
    page: Value = declare(COUNT, "tokens that are chosen together", default=16)
    latent_dim: Value = declare(_WHOLE, "width of the latent", default=0)
    rope_dim: Value = declare(_WHOLE, "width of the part of a key that carries positions, beside the latent", default=0)
    tied_embeddings: bool = declare(FLAG, "the output head is the table of token embeddings", default=True)
    position_rows: int = declare(AT_LEAST_0, "rows of a learned position table (0 with rotary positions)", default=0)
    embedding_dim: Value | None = declare(COUNT, "width of the token embedding where it is not d_model", default=None)
    linear_bias: Literal["none", "qkv", "attention", "all"] = declare(
        _one_of("none", "qkv", "attention", "all"), "which projections carry a bias", default="none"
    )
    norm: Value = declare(
        _one_of("layernorm", "rmsnorm"), "kind of the norms; a layer norm has a bias beside its gain", default="rmsnorm"
    )
    final_norm: bool = declare(FLAG, "a norm precedes the output head", default=True)
    sub_norms: Value = declare(FLAG, "BitNet's norms before attention output and FFN down projection", default=False)
    qk_norm: Value = declare(FLAG, "a norm of head_dim on queries and keys", default=False)
    published: PublishedShape = declare(PART, "the shape a study used instead", default=PublishedShape())

    def __post_init__(self) -> None:
        """Refuse a shape no decoder can have."""
        whole, enough = np.logical_not(self.n_heads % self.n_kv_heads), self.experts_per_token <= self.n_experts
        require(whole, f"n_kv_heads of {self.name}", self.n_kv_heads, f"a divisor of the {clip(self.n_heads)} heads")
        wanted = f"at most the {self.n_experts} experts"
        require(enough, f"experts_per_token of {self.name}", self.experts_per_token, wanted)
        alone = (self.rope_dim > 0) & np.equal(self.latent_dim, 0)
        require(np.logical_not(alone), f"rope_dim of {self.name}", self.rope_dim, "0 without a latent_dim")


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
    return table + resize + positions + final + decoder.n_layers * _block(decoder, gain)


def _block(decoder: Decoder, gain: int) -> Value:
    d, ff = decoder.d_model, decoder.d_ff
    q, kv = decoder.n_heads * decoder.head_dim, decoder.n_kv_heads * decoder.head_dim
    up, experts = 2 if decoder.gated else 1, decoder.n_experts
    latent, rope = decoder.latent_dim, decoder.rope_dim
    shared = decoder.n_heads * (d * rope + 2 * latent * decoder.head_dim) + d * (latent + rope)
    keys = shared + 2 * d * kv * (latent == 0)
    weights = d * q + keys + q * d + experts * (up + 1) * d * ff
    router = d * experts * (experts > 1)
    qkv = q + 2 * kv
    bias = {"none": 0, "qkv": qkv, "attention": qkv + d, "all": qkv + d + experts * (up * ff + d)}[decoder.linear_bias]
    norms = gain * 2 * d + decoder.sub_norms * (q + experts * ff) + decoder.qk_norm * 2 * decoder.head_dim
    return weights + router + bias + norms
