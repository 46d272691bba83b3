"""Decoder-only language models as shapes: what a cost model needs to know, and nothing more."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import (
    Value,
    numeric,
    part,
    require,
    require_counts,
    require_flags,
    require_inner,
    require_positive,
)


@part
class PublishedShape:
    """How a published study shaped a model where it departs from the real one; None where it does not.

    pim_width: width of model and FFN alike in the study's crossbar simulation.
    """

    d_ff: Value | None = None
    gated: bool | None = None
    pim_width: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that are no counts and a gating that is neither true nor false."""
        require_counts(self, [name for name in ("d_ff", "pim_width") if getattr(self, name) is not None])
        if self.gated is not None:
            require_flags(self, ("gated",))


@part
class Decoder:
    """A decoder-only LLM (MHA, GQA or MQA; gated or plain FFN; dense or a mixture of experts; full or windowed
    attention).

    Dimensions may be axes. `head_dim` and `n_kv_heads` are stored, since several models do not derive them from the
    width. Raises BadInput for a count below 1, for KV heads that do not divide the heads, and for more experts a token
    than there are.

    d_model: width of the residual stream; d_ff: FFN width; position_rows: rows of a learned position table (0 with
    rotary positions); embedding_dim: width of the token embedding where it is not d_model. linear_bias: which
    projections carry a bias; norm: "layernorm" has a bias beside its gain; n_experts: FFNs of each block, d_ff wide
    each, of which a router picks experts_per_token for a token (1 and 1: one dense FFN); window: latest tokens that
    attention reaches, in every block (infinite: all of the context); sinks: first tokens that it reaches beside a
    window; top_tokens: most tokens that a decoding step attends to (infinite: all that are reached), chosen in pages of
    `page` by bounds of their keys; latent_dim, rope_dim: width of the latent that all heads share in place of keys and
    values, and of the key part beside it that carries positions (0 and 0: keys and values); sub_norms: BitNet's extra
    norms before the attention output and FFN down projections; qk_norm: a norm of head_dim on queries and keys;
    published: the shape a study used instead.
    """

    name: str
    d_model: Value
    d_ff: Value
    n_layers: Value
    n_heads: Value
    n_kv_heads: Value
    head_dim: Value
    vocab_size: Value
    gated: bool = False
    n_experts: Value = 1
    experts_per_token: Value = 1
    window: Value = np.inf
    sinks: Value = 0
    top_tokens: Value = np.inf
    page: Value = 16
    latent_dim: Value = 0
    rope_dim: Value = 0
    tied_embeddings: bool = True
    position_rows: int = 0
    embedding_dim: Value | None = None
    linear_bias: Literal["none", "qkv", "attention", "all"] = "none"
    norm: Value = "rmsnorm"
    final_norm: bool = True
    sub_norms: Value = False
    qk_norm: Value = False
    published: PublishedShape = PublishedShape()

    def __post_init__(self) -> None:
        """Refuse a shape no decoder can have."""
        require_counts(self, ("d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads", "head_dim", "vocab_size"))
        require_counts(self, ("n_experts", "experts_per_token"))
        require_counts(self, ("embedding_dim",) if self.embedding_dim is not None else ())
        require_counts(self, ("page",))
        require_positive(self, ("position_rows", "sinks", "latent_dim", "rope_dim"), or_zero=True)
        require_flags(self, ("gated", "tied_embeddings", "final_norm", "sub_norms", "qk_norm"))
        require_inner(self, published=PublishedShape)
        whole = np.logical_not(self.n_heads % self.n_kv_heads)
        wanted = f"a divisor of the {clip(self.n_heads)} heads"
        require(whole, f"n_kv_heads of {self.name}", self.n_kv_heads, wanted)
        self._require_tokens()
        enough = self.experts_per_token <= self.n_experts
        wanted = f"at most the {self.n_experts} experts"
        require(enough, f"experts_per_token of {self.name}", self.experts_per_token, wanted)
        for name, valid in (("linear_bias", ("none", "qkv", "attention", "all")), ("norm", ("layernorm", "rmsnorm"))):
            for got in np.unique(np.asarray(getattr(self, name))).tolist():
                if got not in valid:
                    raise BadInput(f"{name} of {self.name} is {got!r}; wanted one of {', '.join(valid)}")

    def _require_tokens(self) -> None:
        """Refuse a window or a choice of no tokens, and positions without a latent."""
        for field in ("window", "top_tokens"):
            got = getattr(self, field)
            numeric(f"{field} of {self.name}", got, "whole tokens; inf for all")
            require(
                (got >= 1) & (got == np.floor(got)),
                f"{field} of {self.name}",
                got,
                "whole tokens, at least 1; inf for all",
            )
        for field in ("sinks", "latent_dim", "rope_dim"):
            got = getattr(self, field)
            require(got == np.floor(got), f"{field} of {self.name}", got, "a whole number")
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
