"""The work of one step: a decoder at a context length, as matrix products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pimllm_lib.core.parts import Value, ceil_div, declare, part
from pimllm_lib.core.rules import ANY
from pimllm_lib.core.schema import PRODUCT_KINDS
from pimllm_lib.hardware import ONE_BY_ONE, Decoding, Storage
from pimllm_lib.workload.caches import attended, cached, cut
from pimllm_lib.workload.decoder import FEW, Decoder, kinds, together


@part
class Product:
    """Matrix products (m x k)(k x n) of one kind, `count` of them in each of `blocks` decoder blocks. Sizes may be arrays.

    m, k and n are means where tokens are dealt over experts or over the parts of a context and do not come out even;
    `whole` has the sizes that there are. Whatever rounds a size asks `whole`; sums and products of sizes need not.
    Decoding has m = 1: every product is a GEMV.
    """

    op: str = declare(ANY, "which product it is, see `schema.OPS`")
    k: Value = declare(ANY, "size that is summed over")
    n: Value = declare(ANY, "columns of the operand that is stored")
    count: Value = declare(ANY, "how many there are in a block, of each expert")
    blocks: Value = declare(ANY, "decoder blocks that have them")
    m: Value = declare(ANY, "vectors that are multiplied", default=1)
    shared: Value = declare(ANY, "how many of the `count` use the same k x n operand", default=1)
    experts: Value = declare(ANY, "how many experts have `count` products and matrices of their own", default=1)
    active: Value = declare(ANY, "how many of the experts work in a step", default=1)
    held: Value = declare(
        ANY,
        "numbers of the k x n operand that came with the one before it, on the chip still if they fit",
        default=0,
    )
    cut: Value = declare(ANY, "how many of the `count` are parts of one context", default=1)
    levels: Value = declare(ANY, "values of a weight of the k x n operand", default=3)
    scale_group: Value = declare(ANY, "of the k, how many in a row have weights that share a scale", default=np.inf)
    shares: tuple[Product, ...] = declare(
        ANY, "products of whole sizes that it is made of, larger first; none where its own are whole", default=()
    )

    @property
    def kind(self) -> str:
        """What it is routed by, see `schema.KINDS`."""
        return PRODUCT_KINDS[self.op]

    @property
    def whole(self) -> tuple[Product, ...]:
        """The products of whole sizes that do the work, the larger first: its shares, or itself."""
        return self.shares or (self,)

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

    def stored_bits(self, storage: Storage) -> Value:
        """Return the bits of a stored number of the k x n operand, its part of a scale included."""
        return storage.operand_bits(self.kind, self.levels, self.scale_group)

    @property
    def macs(self) -> Value:
        """Multiply-accumulates of one step: nothing that only fills up a part is among them."""
        first, *others = (share.m * share.k * share.n * share.calls for share in self.whole)
        return first + sum(others) if others else first


def products(
    decoder: Decoder, context_len: Value, tokens: Value = 1, *, way: Decoding = ONE_BY_ONE, outputs: Value = 1
) -> list[Product]:
    """Return the products of one step over `tokens` new tokens with `context_len` tokens in the key-value cache.

    Decoding has one new token; prefill of a prompt has all of them at once, tokens = context_len. way: how many
    sequences take the step together, how their attention is packed and cut. outputs: tokens that reach the output head.
    Scores and weighted values are one product per query head, or per group of heads that share keys and values where
    these are packed. Neglected: the embedding lookup, that prefill needs only the lower half of the scores, and the
    router of a mixture of experts: its d_model x n_experts product is to a gated FFN as n_experts to 3 d_ff
    experts_per_token, below 1 % in the catalog. Source: Vaswani et al. (2017) for the products; the grouping of Q, K,
    V, X, FF1, FF2 follows PIM-LLM (2025).
    """
    vectors = together(tokens, way)
    every = [p for kind in kinds(decoder) for p in block_products(kind, context_len, tokens, way=way)]
    return [*every, *outer_products(decoder, vectors, outputs)]


def block_products(decoder: Decoder, context_len: Value, tokens: Value, *, way: Decoding) -> list[Product]:
    """Return the products of blocks that are alike."""
    d, ff, layers = decoder.d_model, decoder.d_ff, decoder.n_layers
    vectors, heads, table = together(tokens, way), decoder.n_heads, []
    attends = decoder.mixer in ("attention", "both")
    if attends:
        latent = np.any(np.asarray(decoder.latent_dim))
        table += _latent_projections(decoder) if latent else _projections(decoder)
        table.append(("x", heads * decoder.values, d, 1))
    if decoder.mixer in ("linear", "both"):
        table[-1:-1] = [("mix_in", d, decoder.mix_in, 1)]
        table.append(("mix_out", decoder.mix_out, d, 1))
    heads_apart = {"experts": heads, "active": heads}  # matrices of their own, side by side
    blocks = [
        Product(
            op=op,
            m=vectors,
            k=k,
            n=n,
            count=count,
            blocks=layers,
            **_weights(decoder, op),
            **heads_apart if op in ("k_up", "v_up") else {},
        )
        for op, k, n, count in table
    ]
    last = next((i for i, p in enumerate(blocks) if p.op in ("x", "mix_out")), len(blocks))
    # data reaches the output projection last
    blocks[last:last] = [*(_attention(decoder, context_len, tokens, way) if attends else ()), *_kept(decoder, vectors)]
    if np.any(ff):
        active, each, spread = routed(decoder, vectors)
        for op, k, n, count in (("gate", d, ff, decoder.gated), ("ff1", d, ff, 1), ("ff2", ff, d, 1)):
            own = {"experts": decoder.n_experts, "active": active} | _weights(decoder, op)
            ffn = Product(op=op, m=each, k=k, n=n, count=count, blocks=layers, **own)
            blocks.append(replace(ffn, shares=tuple(replace(ffn, m=m, active=number) for m, number in spread)))
    if np.any(shared := decoder.shared_ff):
        for op, k, n, count in (("gate", d, shared, decoder.gated), ("ff1", d, shared, 1), ("ff2", shared, d, 1)):
            own = _weights(decoder, f"shared_{op}")
            blocks.append(Product(op=f"shared_{op}", m=vectors, k=k, n=n, count=count, blocks=layers, **own))
    return [*blocks, *_side(decoder, decoder.side, vectors, layers)]


def outer_products(decoder: Decoder, vectors: Value, outputs: Value) -> list[Product]:
    """Return the products outside of the blocks: projections between widths, and the output head."""
    width = decoder.d_model if decoder.embedding_dim is None else decoder.embedding_dim
    group = np.inf if np.all(decoder.head_levels > FEW) else decoder.scale_group
    head = Product(
        op="lm_head", m=outputs, k=width, n=decoder.vocab_size, count=1, blocks=1, levels=decoder.head_levels,
        scale_group=group,
    )  # fmt: skip
    return [*_side(decoder, decoder.once, vectors, 1), head]


def _side(decoder: Decoder, sizes: tuple[tuple[int, int], ...], vectors: Value, blocks: Value) -> list[Product]:
    own = _weights(decoder, "side")
    return [Product(op="side", m=vectors, k=k, n=n, count=1, blocks=blocks, **own) for k, n in sizes]


def _weights(decoder: Decoder, op: str) -> dict[str, Value]:
    """Return the levels and scales of a projection's weights: 8 bits where it is dense."""
    if op in decoder.dense:
        return {"levels": 256, "scale_group": np.inf}
    return {"levels": decoder.levels, "scale_group": decoder.scale_group}


def _kept(decoder: Decoder, vectors: Value) -> list[Product]:
    """Return the products with the state that a linear or recurrent mixer keeps: what the key takes out of it, and what
    the query does, on one operand. A prompt is read as if all its tokens met one state.
    """
    if decoder.mixer not in ("linear", "both") or not np.any(decoder.state_heads):
        return []
    sizes = {"k": decoder.state_dim, "n": decoder.state_width, "count": 2 * decoder.state_heads, "shared": 2}
    return [Product(op="state", m=vectors, blocks=decoder.n_layers, **sizes)]


def stored_bytes(
    decoder: Decoder, scale_bits: Value = 16, *, bits: Value = None, head_bits: Value = None, read: bool = False
) -> Value:
    """Return the bytes of the embedding and of all matrices, with the whole bits that the levels of a weight need and a
    scale for each group of them.

    bits, head_bits: of a stored weight of a projection, and of the head and the embedding, scales included, where a
    file's format says them. read: of what a token reads only: matrices that work on it, and not the embedding, of which
    it looks up a row.
    """
    weights, few = 0.0, np.asarray(decoder.embedding_levels) <= FEW
    table = Product(
        op="lm_head", k=decoder.embedding_dim or decoder.d_model, n=decoder.vocab_size, count=1, blocks=1,
        levels=decoder.embedding_levels, scale_group=np.where(few, decoder.scale_group, np.inf),
    )  # fmt: skip
    for product in [table, *products(decoder, 1)]:
        again = product.op == "lm_head" and product is not table and decoder.tied_embeddings
        if product.kind == "attention" or (product is table if read else again):
            continue
        stated = head_bits if product.op == "lm_head" else bits
        each = np.ceil(np.log2(product.levels)) + scale_bits / product.scale_group if stated is None else stated
        weights = weights + product.k * product.n * (product.calls if read else product.matrices) * each
    return weights / 8


def _projections(decoder: Decoder) -> list[tuple[str, Value, Value, Value]]:
    """Return (op, k, n, count) of what precedes attention over keys and values."""
    d, kv_heads = decoder.d_model, decoder.n_kv_heads
    keys = (
        [] if decoder.kv_shared else [("k", d, kv_heads * decoder.head_dim, 1), ("v", d, kv_heads * decoder.values, 1)]
    )
    return [*_queries(decoder, decoder.n_heads * decoder.head_dim), *keys]


def _queries(decoder: Decoder, outputs: Value) -> list[tuple[str, Value, Value, Value]]:
    """Return the projection of queries, through a space of few dimensions where there is one."""
    if not np.any(low := decoder.q_rank):
        return [("q", decoder.d_model, outputs, 1)]
    return [("q_down", decoder.d_model, low, 1), ("q", low, outputs, 1)]


def _latent_projections(decoder: Decoder) -> list[tuple[str, Value, Value, Value]]:
    """Return the same with latent attention where a decoder has it: every head's query is brought into the space of the
    latents and the weighted latent out of it, so that keys and values are never made.

    Source: DeepSeek-V2 (2024), with the two up-projections absorbed into query and output, which stay products of their
    own.
    """
    d, hd, heads, there = decoder.d_model, decoder.head_dim, decoder.n_heads, (decoder.latent_dim > 0) * 1
    kv, latent, rope, value = decoder.n_kv_heads, decoder.latent_dim, decoder.rope_dim, decoder.values
    wide = np.maximum(latent, 1)  # no matrix has a side of 0, absent ones have a count of 0
    return [
        *_queries(decoder, heads * (hd + rope)),
        ("k", d, np.where(latent > 0, latent + rope, kv * hd), 1),
        ("v", d, kv * value, 1 - there),
        ("k_up", hd, wide, there),
        ("v_up", wide, value, there),
    ]


def _attention(decoder: Decoder, context_len: Value, tokens: Value, way: Decoding) -> list[Product]:
    """Return scores and weighted values, and what chooses the tokens where not all are attended to."""
    kv_heads, key, value = cached(decoder)
    group, rows = decoder.n_heads / kv_heads, tokens
    if np.any(way.pack_heads):
        packed = 1 + way.pack_heads * (group - 1)
        group, rows = group / packed, tokens * packed
    span = attended(decoder, context_len)
    chosen = np.minimum(span, decoder.top_tokens) if np.any(np.isfinite(decoder.top_tokens)) else span
    sequences, shared, m, table = kv_heads * group * way.batch, group, rows, []
    if chosen is not span:
        picks, layers = chosen < span, decoder.n_layers
        if np.any(index := decoder.index_heads):
            operand = {"k": decoder.index_dim, "n": span, "count": index * way.batch * picks, "shared": index}
        else:  # bounds are the least and the greatest of each number of a page's keys: two products a page
            bounds = 2 * ceil_div(span, decoder.page)
            operand = {"k": key, "n": bounds, "count": sequences * picks, "shared": group}
        table.append(Product(op="select", m=rows, blocks=layers, **operand))
        # heads and tokens that choose for themselves read other keys: they share none, and are rows of products of their own
        each = 1 + picks * (tokens - 1)
        m, sequences, shared = rows / each, sequences * each, shared + picks * (1 - shared)
    parts = cut(chosen, way)
    part, latent = chosen if isinstance(parts, int) else chosen / parts, decoder.latent_dim > 0
    both = {"m": m, "blocks": decoder.n_layers, "count": sequences * parts, "shared": shared, "cut": parts}
    score = Product(op="score", k=key, n=part, **both)
    av = Product(op="av", k=part, n=value, held=key * part * latent, **both)
    sizes = [(n, sequences * number) for n, number in dealt(chosen, parts)]
    scores = tuple(replace(score, n=n, count=count) for n, count in sizes)
    values = tuple(replace(av, k=n, count=count, held=key * n * latent) for n, count in sizes)
    return [*table, replace(score, shares=scores), replace(av, shares=values)]


def dealt(total: Value, over: Value) -> list[tuple[Value, Value]]:
    """Return (size, how many have it), the larger first, of a total dealt in whole numbers; nothing where it comes out
    even everywhere.

    >>> [(int(size), int(number)) for size, number in dealt(258, 8)], dealt(256, 8)
    ([(33, 2), (32, 6)], [])
    """
    least = np.floor(total / over)
    more = total - least * over
    return [(least + (more > 0), more), (least, over - more)] if np.any(more) else []


def routed(decoder: Decoder, tokens: Value) -> tuple[Value, Value, list[tuple[Value, Value]]]:
    """Return how many experts of a block work in a step, for how many of its tokens each on average, and as `dealt`.

    Tokens are spread over as many experts as they can reach, as evenly as whole tokens can be. Neglected: that a router
    spreads them less evenly.
    """
    if np.all(np.asarray(decoder.n_experts) == 1):
        return 1, tokens, []
    if isinstance(tokens, int) and tokens == 1:  # decoding stays a GEMV that is known to be one
        return decoder.experts_per_token, 1, []
    taken = tokens * decoder.experts_per_token
    active = np.minimum(decoder.n_experts, taken)
    return active, taken / active, dealt(taken, active)
