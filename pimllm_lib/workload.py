"""The work of one step: a decoder at a context length, as matrix products and as elements of nonlinear functions."""

from __future__ import annotations

import numpy as np

from pimllm_lib.llm import Decoder
from pimllm_lib.parts import Value, part
from pimllm_lib.schema import PRODUCT_KINDS


@part
class Product:
    """`count` products (m x k)(k x n) in each of `blocks` decoder blocks.

    op, kind: see `schema.OPS` and `schema.KINDS`. Decoding has m = 1: every product is a GEMV. shared: how many of the
    `count` use the same k x n operand. experts: how many experts have `count` products of their own, with matrices of their
    own; active: how many of them work in a step. Sizes may be arrays.
    """

    op: str
    kind: str
    k: Value
    n: Value
    count: Value
    blocks: Value
    m: Value = 1
    shared: Value = 1
    experts: Value = 1
    active: Value = 1

    @property
    def calls(self) -> Value:
        """How often the product is done in one step."""
        return self.count * self.active * self.blocks

    @property
    def turns(self) -> Value:
        """How often one after another, where active experts work side by side."""
        return self.count * self.blocks

    @property
    def matrices(self) -> Value:
        """How many k x n matrices are there, of active and of idle experts."""
        return self.count * self.experts * self.blocks

    @property
    def macs(self) -> Value:
        """Multiply-accumulates of one step."""
        return self.m * self.k * self.n * self.calls


@part
class Elementwise:
    """`elements` of a nonlinear function in each of `blocks` decoder blocks.

    function: "softmax", "layernorm", "rmsnorm", "gelu", "silu" or "residual".
    """

    op: str
    function: str
    elements: Value
    blocks: Value


def products(decoder: Decoder, context_len: Value, tokens: Value = 1) -> list[Product]:
    """Return the products of one step over `tokens` new tokens with `context_len` tokens in the key-value cache.

    Decoding has one new token; prefill of a prompt has all of them at once, tokens = context_len. Scores and weighted
    values are one product per query head; grouped-query heads share keys and values, not products. Neglected: the
    embedding lookup, that prefill needs only the lower half of the scores, and the router of a mixture of experts: its
    d_model x n_experts product is to a gated FFN as n_experts to 3 d_ff experts_per_token, below 1 % in the catalog.
    Source: Vaswani et al. (2017) for the products; the grouping of Q, K, V, X, FF1, FF2 follows PIM-LLM (2025).
    """
    d, ff, heads, hd = decoder.d_model, decoder.d_ff, decoder.n_heads, decoder.head_dim
    q, kv, group = heads * hd, decoder.n_kv_heads * hd, heads / decoder.n_kv_heads
    span = attended(decoder, context_len)
    table = [
        ("q", d, q, 1, 1),
        ("k", d, kv, 1, 1),
        ("v", d, kv, 1, 1),
        ("score", hd, span, heads, group),
        ("av", span, hd, heads, group),
        ("x", q, d, 1, 1),
    ]
    blocks = [
        Product(op=op, kind=PRODUCT_KINDS[op], m=tokens, k=k, n=n, count=count, blocks=decoder.n_layers, shared=shared)
        for op, k, n, count, shared in table
    ]
    active, each = routed(decoder, tokens)
    blocks += [
        Product(op=op, kind=PRODUCT_KINDS[op], m=each, k=k, n=n, count=count, blocks=decoder.n_layers,
                experts=decoder.n_experts, active=active)
        for op, k, n, count in (("gate", d, ff, decoder.gated), ("ff1", d, ff, 1), ("ff2", ff, d, 1))
    ]  # fmt: skip
    width = decoder.d_model if decoder.embedding_dim is None else decoder.embedding_dim
    head = Product(op="lm_head", kind="head", m=1, k=width, n=decoder.vocab_size, count=1, blocks=1)
    return [*blocks, head]


def attended(decoder: Decoder, context_len: Value) -> Value:
    """Return how many tokens attention reaches: all of the context, or as many as the window holds."""
    if not np.any(np.asarray(decoder.window)):  # keeps the context as narrow as it came
        return context_len
    return np.where(decoder.window > 0, np.minimum(context_len, decoder.window), context_len)


def routed(decoder: Decoder, tokens: Value) -> tuple[Value, Value]:
    """Return how many experts of a block work in a step, and for how many of its tokens each.

    Tokens are spread evenly over as many experts as they can reach. Neglected: that some experts get more than others.
    """
    if np.all(np.asarray(decoder.n_experts) == 1):
        return 1, tokens
    if isinstance(tokens, int) and tokens == 1:  # decoding stays a GEMV that is known to be one
        return decoder.experts_per_token, 1
    active = np.minimum(decoder.n_experts, decoder.experts_per_token * tokens)
    return active, tokens * decoder.experts_per_token / active


def elementwise(decoder: Decoder, context_len: Value, tokens: Value = 1) -> list[Elementwise]:
    """Return the nonlinear work of one step. A plain FFN has GELU, a gated one SiLU; models with ReLU are charged GELU.

    The results of active experts are added to the residual stream one by one. Neglected: their weights, which the router
    gives, and its softmax over the experts.
    """
    d, q = decoder.d_model, decoder.n_heads * decoder.head_dim
    kv, gated = decoder.n_kv_heads * decoder.head_dim, decoder.gated * 1.0
    layernorm = (decoder.norm == "layernorm") * 1.0
    ff = decoder.d_ff * decoder.experts_per_token
    extra = decoder.sub_norms * (q + ff) + decoder.qk_norm * (q + kv)
    table = [
        ("softmax", "softmax", decoder.n_heads * attended(decoder, context_len)),
        ("norm", "layernorm", 2 * d * layernorm),
        ("norm", "rmsnorm", 2 * d * (1 - layernorm) + extra),
        ("activation", "gelu", ff * (1 - gated)),
        ("activation", "silu", ff * gated),
        ("residual", "residual", (1 + decoder.experts_per_token) * d),
    ]
    return [
        Elementwise(op=op, function=function, elements=tokens * elements, blocks=decoder.n_layers)
        for op, function, elements in table
    ]
