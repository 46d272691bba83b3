"""The nonlinear work of one step: elements of softmax, norms, activation functions and additions."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.parts import Value, ceil_div, declare, part
from pimllm_lib.core.rules import ANY
from pimllm_lib.hardware import ONE_BY_ONE, Decoding
from pimllm_lib.workload.caches import attended, cached, cut
from pimllm_lib.workload.decoder import Decoder, kinds, together


@part
class Elementwise:
    """Elements of a nonlinear function in each of several decoder blocks."""

    op: str = declare(ANY, "what they are charged to, see `schema.OPS`")
    function: str = declare(ANY, "what is computed of each, such as softmax, layernorm, rmsnorm, gelu, silu, residual")
    elements: Value = declare(ANY, "how many there are in a block")
    blocks: Value = declare(ANY, "decoder blocks that have them")


def elementwise(
    decoder: Decoder, context_len: Value, tokens: Value = 1, *, way: Decoding = ONE_BY_ONE
) -> list[Elementwise]:
    """Return the nonlinear work of one step. A plain FFN has GELU, a gated one SiLU; models with ReLU are charged GELU.

    The results of active experts are added to the residual stream one by one. Partial results of a context that is cut
    are scaled and added ("reduction"), pages are compared to choose among them ("choice"), the keys of sinks are
    turned to where they stand relative to the window ("turn"), and a state fades and takes in the new token ("decay").
    Neglected: the weights of experts, which the router
    gives, and its softmax over the experts.
    """
    return [item for kind in kinds(decoder) for item in _block_elements(kind, context_len, tokens, way)]


def _block_elements(decoder: Decoder, context_len: Value, tokens: Value, way: Decoding) -> list[Elementwise]:
    d, q = decoder.d_model, decoder.n_heads * decoder.values
    kv, gated = decoder.n_kv_heads * decoder.head_dim, decoder.gated * 1.0
    layernorm = (decoder.norm == "layernorm") * 1.0
    ff = decoder.d_ff * decoder.experts_per_token + decoder.shared_ff
    attends, keeps = decoder.mixer in ("attention", "both"), decoder.mixer in ("linear", "both")
    extra = decoder.sub_norms * (q + ff) + decoder.qk_norm * (decoder.n_heads * decoder.head_dim + kv) * attends
    span = attended(decoder, context_len)
    chosen = np.minimum(span, decoder.top_tokens)
    added = (decoder.mixer != "none") + decoder.experts_per_token * (decoder.d_ff > 0) + (decoder.shared_ff > 0) * 1
    table = [
        *([("softmax", "softmax", decoder.n_heads * chosen)] if attends else ()),
        ("norm", "layernorm", decoder.norms * d * layernorm),
        ("norm", "rmsnorm", decoder.norms * d * (1 - layernorm) + extra),
        ("activation", "gelu", ff * (1 - gated)),
        ("activation", "silu", ff * gated + (decoder.mix_out if keeps else 0)),
        ("residual", "residual", added * d),
        *([("state", "decay", decoder.state_heads * decoder.state_dim * decoder.state_width)] if keeps else ()),
        *(_of_remedies(decoder, span, chosen, way) if attends else ()),
    ]
    vectors = together(tokens, way)
    work = [(op, function, vectors * elements) for op, function, elements in table]
    if np.any(np.asarray(decoder.sinks) > 0):  # a step turns them once, whatever number of tokens it checks
        kv_heads, key, _ = cached(decoder)
        work.append(("score", "turn", way.batch * kv_heads * key * decoder.sinks * (span < context_len)))
    return [Elementwise(op=op, function=name, elements=n, blocks=decoder.n_layers) for op, name, n in work]


def _of_remedies(decoder: Decoder, span: Value, chosen: Value, way: Decoding) -> list[tuple[str, str, Value]]:
    """Return (op, function, elements) of what a cut context and a choice of tokens take more, where there are any."""
    (_, _, value), table = cached(decoder), []
    if np.any(np.asarray(way.splits) > 1):
        parts = cut(chosen, way)
        table.append(("av", "reduction", decoder.n_heads * value * parts * (parts > 1)))
    if chosen is not span and np.any(np.isfinite(decoder.top_tokens)):
        compared = decoder.n_heads * ceil_div(span, decoder.page)
        if np.any(decoder.index_heads):
            compared = decoder.index_heads * span  # weighed, added up, and compared
        table.append(("select", "choice", compared * (chosen < span)))
    return table
