"""Decoder-only language models as shapes: what a cost model needs to know, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar, Literal

import numpy as np

from pimllm_lib.core.errors import clip, unknown
from pimllm_lib.core.parts import Name, Value, declare, part, require, switch, with_fields
from pimllm_lib.core.rules import AT_LEAST_0, COUNT, FLAG, PART, Rule, choice, needs, number
from pimllm_lib.core.schema import PRODUCT_KINDS, PROJECTION_OPS
from pimllm_lib.hardware import Decoding

_NAMED = "{field} of {item.name}"
_TOKENS = number("whole tokens, at least 1; inf for all", ge=1, whole=True, what=_NAMED)
_WHOLE = AT_LEAST_0 + number("a whole number", whole=True, what=_NAMED)
_SIGNED = number("a whole number", whole=True, what=_NAMED)
_OR_NONE = number("a whole number of at least 0, below 2^53", ge=0, lt=2**53, whole=True)
_LEVELS = number("2 (binary), 3 (ternary) or more, at most 65536", ge=2, le=2**16, whole=True, what=_NAMED)
#: What a block mixes tokens by: attention over a cache that grows, a state that is kept, both side by side, nothing.
MIXERS = ("attention", "linear", "both", "none")


def _sizes(value: Any) -> bool:
    """Return whether a value is pairs of sizes."""
    return isinstance(value, tuple | list) and all(
        isinstance(pair, tuple | list) and len(pair) == 2 and all(type(one) is int and 0 < one < 2**53 for one in pair)
        for pair in value
    )


_PAIRS = needs("pairs of inputs and outputs, such as [[1024, 256]]", _sizes, what=_NAMED)
_OPS = needs("names of projections", lambda value: isinstance(value, tuple | list), what=_NAMED)
_KINDS = needs(
    "a list of tables such as { count = 4, window = 512 }",
    lambda value: isinstance(value, tuple | list) and all(isinstance(kind, Mapping) for kind in value), what=_NAMED,
)  # fmt: skip


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
    attention; linear or recurrent mixers).

    Dimensions may be axes. `head_dim` and `n_kv_heads` are stored, since several models do not derive them from the
    width. Raises BadInput for a count below 1, for KV heads that do not divide the heads, for more experts a token
    than there are, and for kinds of blocks that do not add up.

    A router picks the experts of a token; 1 and 1 are one dense FFN. A window or a choice of tokens is infinite where all
    are attended to; a choice is made in pages, by bounds of their keys, or token by token by an index. With latent
    attention, all heads share a latent in place of keys and values, and a part of the key beside it that carries positions;
    0 and 0 are keys and values. A mixer that is linear or recurrent keeps a state of state_heads x state_dim x state_width
    numbers, which does not grow. Where blocks are not alike, `blocks` has a kind of them each, which is as the model
    says but for what stands there: see `kinds`.
    """

    #: Fields that came after the first models were recorded by their fingerprints.
    SINCE: ClassVar[tuple[str, ...]] = (
        "value_dim", "q_rank", "chunk", "kv_shared", "index_heads", "index_dim", "shared_ff", "mixer", "mix_in", "mix_out",
        "state_heads", "state_dim", "state_width", "state_extra", "side", "once", "levels", "scale_group", "head_levels",
        "embedding_levels", "dense", "blocks", "norms", "extra_weights", "extra_once",
    )  # fmt: skip

    name: str
    d_model: Value = declare(COUNT, "width of the residual stream")
    d_ff: Value = declare(_OR_NONE, "width of the FFN, or of each expert; 0 for none")
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
    value_dim: Value | None = declare(COUNT, "width of a head's values where it is not head_dim", default=None)
    q_rank: Value = declare(_WHOLE, "width of the space that queries pass through; 0 for none", default=0)
    chunk: Value = declare(_TOKENS, "tokens of a part of the context that attention stays in", default=np.inf)
    kv_shared: bool = switch("attends to the keys and values of another block, and has none of its own", default=False)
    index_heads: Value = declare(_WHOLE, "query heads of the index that chooses top_tokens, one by one", default=0)
    index_dim: Value = declare(_WHOLE, "width of the index's keys, which are cached too", default=0)
    shared_ff: Value = declare(_WHOLE, "width of the experts that work on every token, all together", default=0)
    mixer: Name = declare(choice(MIXERS, what="mixer"), "what mixes tokens, one of `MIXERS`", default="attention")
    mix_in: Value = declare(_WHOLE, "outputs of the projections into a linear or recurrent mixer", default=0)
    mix_out: Value = declare(_WHOLE, "inputs of the projection out of it", default=0)
    state_heads: Value = declare(_WHOLE, "heads of its state", default=0)
    state_dim: Value = declare(_WHOLE, "inputs of the product with each head's state", default=1)
    state_width: Value = declare(_WHOLE, "outputs of that product", default=1)
    state_extra: Value = declare(_WHOLE, "other numbers that it keeps, such as a convolution's", default=0)
    side: tuple[tuple[int, int], ...] = declare(_PAIRS, "inputs and outputs of a block's other projections", default=())
    once: tuple[tuple[int, int], ...] = declare(_PAIRS, "the same outside of the blocks, once a token", default=())
    extra_weights: Value = declare(_SIGNED, "parameters of a block that no other field tells, as of gains", default=0)
    extra_once: Value = declare(_SIGNED, "the same of the model; below 0 where parameters are used twice", default=0)
    levels: Value = declare(
        _LEVELS, "values of a weight of the projections: 2 binary, 3 ternary, 2^n of n bits", default=3
    )
    scale_group: Value = declare(_TOKENS, "inputs whose weights share a scale; inf for all of them", default=np.inf)
    head_levels: Value = declare(_LEVELS, "values of a weight of the output head", default=256)
    embedding_levels: Value = declare(_LEVELS, "values of a number of the embedding", default=256)
    dense: tuple[str, ...] = declare(_OPS, "projections of 8 bits, which go where a head of 8 bits goes", default=())
    blocks: tuple[Mapping[str, Value], ...] = declare(_KINDS, "kinds of blocks where they are not alike", default=())
    tied_embeddings: bool = declare(FLAG, "the output head is the table of token embeddings", default=True)
    position_rows: int = declare(AT_LEAST_0, "rows of a learned position table (0 with rotary positions)", default=0)
    embedding_dim: Value | None = declare(COUNT, "width of the token embedding where it is not d_model", default=None)
    linear_bias: Literal["none", "qkv", "attention", "all"] = declare(
        _one_of("none", "qkv", "attention", "all"), "which projections carry a bias", default="none"
    )
    norms: Value = declare(_WHOLE, "norms of the residual stream in a block", default=2)
    norm: Value = declare(
        _one_of("layernorm", "rmsnorm"), "kind of the norms; a layer norm has a bias beside its gain", default="rmsnorm"
    )
    final_norm: bool = declare(FLAG, "a norm precedes the output head", default=True)
    sub_norms: Value = declare(FLAG, "BitNet's norms before attention output and FFN down projection", default=False)
    qk_norm: Value = declare(FLAG, "a norm of head_dim on queries and keys", default=False)
    published: PublishedShape = declare(PART, "the shape a study used instead", default=PublishedShape())

    @property
    def values(self) -> Value:
        """Width of a head's values."""
        return self.head_dim if self.value_dim is None else self.value_dim

    def __post_init__(self) -> None:
        """Refuse a shape no decoder can have."""
        whole, enough = np.logical_not(self.n_heads % self.n_kv_heads), self.experts_per_token <= self.n_experts
        require(whole, f"n_kv_heads of {self.name}", self.n_kv_heads, f"a divisor of the {clip(self.n_heads)} heads")
        wanted = f"at most the {self.n_experts} experts"
        require(enough, f"experts_per_token of {self.name}", self.experts_per_token, wanted)
        alone = (self.rope_dim > 0) & np.equal(self.latent_dim, 0)
        require(np.logical_not(alone), f"rope_dim of {self.name}", self.rope_dim, "0 without a latent_dim")
        for op in self.dense:
            if PRODUCT_KINDS.get(op) != "projection":
                raise unknown(f"projection in dense of {self.name}", op, PROJECTION_OPS)
        for kind in self.blocks:
            for field in kind:
                if field != "count" and field not in OF_BLOCK:
                    raise unknown(f"field in blocks of {self.name}", field, ["count", *OF_BLOCK])
        if self.blocks:
            count = sum(kind.n_layers for kind in kinds(self))
            wanted = f"the {clip(count)} blocks that are listed"
            require(np.equal(self.n_layers, count), f"n_layers of {self.name}", self.n_layers, wanted)


#: Fields that a kind of blocks may have otherwise than the model says.
OF_BLOCK = (
    "d_ff", "n_heads", "n_kv_heads", "head_dim", "gated", "n_experts", "experts_per_token", "window", "sinks",
    "top_tokens", "page", "latent_dim", "rope_dim", "value_dim", "q_rank", "chunk", "kv_shared", "index_heads",
    "index_dim", "shared_ff", "mixer", "mix_in", "mix_out", "state_heads", "state_dim", "state_width", "state_extra",
    "side", "extra_weights", "levels", "scale_group", "dense", "linear_bias", "norms", "sub_norms", "qk_norm",
)  # fmt: skip
#: Fields that say which products a block has. Models that differ there are not evaluated as one.
_STRUCTURE = ("value_dim", "q_rank", "chunk", "kv_shared", "index_heads", "shared_ff", "mixer", "side", "once", "dense",
              "blocks")  # fmt: skip
_DEFAULTS = {f.name: f.default for f in fields(Decoder)}
#: Most values of a weight that a crossbar holds without slices: beyond them a head is one of many bits.
FEW = 3


def kinds(decoder: Decoder) -> list[Decoder]:
    """Return the decoder as one of equal blocks for each kind of them; itself where they are all alike."""
    if not decoder.blocks:
        return [decoder]
    return [
        replace(decoder, blocks=(), n_layers=kind.get("count", 1), **{f: v for f, v in kind.items() if f != "count"})
        for kind in decoder.blocks
    ]


def with_each(decoder: Decoder, change: Callable[[Decoder], Mapping[str, Value]]) -> Decoder:
    """Return the decoder with the fields that `change` gives for each kind of its blocks."""
    if not decoder.blocks:
        return with_fields(decoder, change(decoder))
    blocks = tuple({**kind, **change(shape)} for kind, shape in zip(decoder.blocks, kinds(decoder), strict=True))
    return replace(decoder, blocks=blocks)


def few_and_dense(decoder: Decoder) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the head where its weights have few levels, and the projections whose weights have many."""
    return ("lm_head",) if np.all(decoder.head_levels <= FEW) else (), tuple(decoder.dense)


def is_plain(decoder: Decoder) -> bool:
    """Return whether a decoder has the products of any other that is plain, and may be evaluated with it."""
    usual = all(_is_default(getattr(decoder, name), _DEFAULTS[name]) for name in _STRUCTURE)
    return usual and bool(np.all(decoder.head_levels > FEW) and np.all(decoder.d_ff > 0))


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (np.ndim(value) == 0 and type(value) is type(default) and value == default)


def together(tokens: Value, way: Decoding) -> Value:
    """Return the vectors of a step: the new tokens of every sequence. One stays a plain 1, so that a GEMV is known to
    be one.
    """
    return tokens if isinstance(way.batch, int) and way.batch == 1 else tokens * way.batch
