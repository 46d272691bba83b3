"""The work of one step: a decoder at a context length, as matrix products and as elements of nonlinear functions."""

from __future__ import annotations

from pimllm_lib.llm import Decoder
from pimllm_lib.parts import Value, part
from pimllm_lib.schema import PRODUCT_KINDS


@part
class Product:
    """`count` products (m x k)(k x n) in each of `blocks` decoder blocks.

    op, kind: see `schema.OPS` and `schema.KINDS`. Decoding has m = 1: every product is a GEMV. shared: how many of the
    `count` use the same k x n operand. Sizes may be arrays.
    """

    op: str
    kind: str
    k: Value
    n: Value
    count: Value
    blocks: Value
    m: Value = 1
    shared: Value = 1

    @property
    def calls(self) -> Value:
        """How often the product is done in one step."""
        return self.count * self.blocks

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
    embedding lookup, and that prefill needs only the lower half of the scores.
    Source: Vaswani et al. (2017) for the products; the grouping of Q, K, V, X, FF1, FF2 follows PIM-LLM (2025).
    """
    d, ff, heads, hd = decoder.d_model, decoder.d_ff, decoder.n_heads, decoder.head_dim
    q, kv, group = heads * hd, decoder.n_kv_heads * hd, heads / decoder.n_kv_heads
    table = [
        ("q", d, q, 1, 1),
        ("k", d, kv, 1, 1),
        ("v", d, kv, 1, 1),
        ("score", hd, context_len, heads, group),
        ("av", context_len, hd, heads, group),
        ("x", q, d, 1, 1),
        ("gate", d, ff, decoder.gated, 1),
        ("ff1", d, ff, 1, 1),
        ("ff2", ff, d, 1, 1),
    ]
    blocks = [
        Product(op=op, kind=PRODUCT_KINDS[op], m=tokens, k=k, n=n, count=count, blocks=decoder.n_layers, shared=shared)
        for op, k, n, count, shared in table
    ]
    width = decoder.d_model if decoder.embedding_dim is None else decoder.embedding_dim
    head = Product(op="lm_head", kind="head", m=1, k=width, n=decoder.vocab_size, count=1, blocks=1)
    return [*blocks, head]


def elementwise(decoder: Decoder, context_len: Value, tokens: Value = 1) -> list[Elementwise]:
    """Return the nonlinear work of one step. A plain FFN has GELU, a gated one SiLU; models with ReLU are charged GELU."""
    d, q = decoder.d_model, decoder.n_heads * decoder.head_dim
    kv, gated = decoder.n_kv_heads * decoder.head_dim, decoder.gated * 1.0
    layernorm = (decoder.norm == "layernorm") * 1.0
    extra = decoder.sub_norms * (q + decoder.d_ff) + decoder.qk_norm * (q + kv)
    table = [
        ("softmax", "softmax", decoder.n_heads * context_len),
        ("norm", "layernorm", 2 * d * layernorm),
        ("norm", "rmsnorm", 2 * d * (1 - layernorm) + extra),
        ("activation", "gelu", decoder.d_ff * (1 - gated)),
        ("activation", "silu", decoder.d_ff * gated),
        ("residual", "residual", 2 * d),
    ]
    return [
        Elementwise(op=op, function=function, elements=tokens * elements, blocks=decoder.n_layers)
        for op, function, elements in table
    ]
