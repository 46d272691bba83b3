"""The matrix products of one decoding step: a decoder at a context length, as a table of (m, k, n)."""

from __future__ import annotations

from pimllm_lib.llm import Decoder
from pimllm_lib.parts import Value, part


@part
class Product:
    """`count` products (m x k)(k x n) in each of `blocks` decoder blocks.

    op, kind: see `schema.OPS` and `schema.KINDS`. Decoding has m = 1: every product is a GEMV. Sizes may be arrays.
    """

    op: str
    kind: str
    k: Value
    n: Value
    count: Value
    blocks: Value
    m: Value = 1

    @property
    def calls(self) -> Value:
        """How often the product is done for one token."""
        return self.count * self.blocks

    @property
    def macs(self) -> Value:
        """Multiply-accumulates of one token."""
        return self.m * self.k * self.n * self.calls


def decode_step(decoder: Decoder, context_len: Value) -> list[Product]:
    """Return the products that decode one token with `context_len` tokens in the key-value cache.

    Scores and weighted values are one product per query head; grouped-query heads share keys and values, not
    products. Neglected: embeddings and output head, norms, softmax, activation functions, residual additions.
    Source: Vaswani et al. (2017) for the products; the grouping of Q, K, V, X, FF1, FF2 follows PIM-LLM (2025).
    """
    d, ff, heads, hd = decoder.d_model, decoder.d_ff, decoder.n_heads, decoder.head_dim
    q, kv = heads * hd, decoder.n_kv_heads * hd
    table = [
        ("q", "projection", d, q, 1),
        ("k", "projection", d, kv, 1),
        ("v", "projection", d, kv, 1),
        ("score", "attention", hd, context_len, heads),
        ("av", "attention", context_len, hd, heads),
        ("x", "projection", q, d, 1),
        ("gate", "projection", d, ff, decoder.gated),
        ("ff1", "projection", d, ff, 1),
        ("ff2", "projection", ff, d, 1),
    ]
    return [
        Product(op=op, kind=kind, k=k, n=n, count=count, blocks=decoder.n_layers) for op, kind, k, n, count in table
    ]
