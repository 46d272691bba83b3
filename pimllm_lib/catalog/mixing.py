"""What mixes tokens in a block, as fields of a Decoder: attention of every kind, linear attention, state spaces.

Each function takes a configuration and the options of its family (see `families.FAMILIES`) and returns the fields of one
block. Sizes are those that the public classes of the `transformers` library give their matrices.
"""

from __future__ import annotations

from typing import Any

from pimllm_lib.catalog.configuration import Config
from pimllm_lib.core.errors import BadInput

Fields = dict[str, Any]


def set_by(c: Config, option: Any) -> bool:
    """Return what an option says: it is, it is not, or a flag that the family's class has says so."""
    return c.knows(option) and c.on(option) if isinstance(option, str) else bool(option)


def attention(c: Config, options: Fields, kind: str) -> Fields:
    """Attention over keys and values, with a gate, norms of queries and keys, and learned sinks where a family has them."""
    d, heads = c.n("hidden_size"), c.n("num_attention_heads")
    kv = options["kv"](c) if "kv" in options else c.n("num_key_value_heads", heads)
    kv *= 1 + (options.get("double_kv") == kind)
    if c.raw("head_dim") is None and d % heads and not options.get("uneven"):
        raise BadInput(f"{c.path} has no head_dim, and {heads} heads do not divide the width {d}; wanted a head_dim")
    width = c.n("head_dim", d // heads)
    if options.get("even") and width != d // heads:
        raise c.wrong("head_dim", f"{d // heads}, the width by heads, as its class has it")
    fields: Fields = {"n_heads": heads, "n_kv_heads": kv, "head_dim": width}
    if "values" in options:
        fields["value_dim"] = c.n(options["values"])
    return fields | _reach(c, options, kind) | _beside(c, options, kind, heads, kv, width)


def shares(c: Config, key: str | None, index: int) -> bool:
    """Return whether a block is one of the last ones, which attend to keys and values of blocks before them."""
    return key is not None and index >= c.n("num_hidden_layers") - c.n(key, 0, least=0)


def _reach(c: Config, options: Fields, kind: str) -> Fields:
    """Return the window or the chunk that a kind of attention stays in."""
    if kind == "sliding_attention":
        return {"window": options["reach"](c) if "reach" in options else c.n(options.get("window", "sliding_window"))}
    return {"chunk": c.n("attention_chunk_size")} if kind == "chunked_attention" else {}


def _beside(c: Config, options: Fields, kind: str, heads: int, kv: int, width: int) -> Fields:
    """Return a gate on the output of attention, norms of queries and keys, and learned sinks."""
    d, gate, style = c.n("hidden_size"), options.get("gate"), options.get("qk")
    if isinstance(style, tuple):  # norms that a flag switches on
        style = style[1] if c.on(style[0]) else None
    norms = {"wide": (heads + kv) * width, "biased": 4 * width, "each": (heads + kv) * width}
    sinks = options.get("sinks") in (True, kind)
    fields: Fields = {"extra_weights": norms.get(style or "", 0) + heads * sinks, "qk_norm": style == "head"}
    if callable(gate):
        gate = gate(c)
    elif isinstance(gate, tuple):
        gate = gate[1] if c.on(gate[0]) else None
    if not gate:
        return fields
    outputs = heads * (width if gate == "full" else 1)
    fields["extra_weights"] += outputs * set_by(c, options.get("gate_bias"))
    return fields | {"side": ((d, outputs),)}


def latent(c: Config, options: Fields, kind: str) -> Fields:
    """Latent attention (MLA): keys and values from a latent that all heads share, queries of low rank."""
    d, heads = c.n("hidden_size"), c.n("num_attention_heads")
    rank, rope = c.n("q_lora_rank", 0, least=0), c.n("qk_rope_head_dim")
    fields: Fields = {
        "n_heads": heads, "n_kv_heads": heads, "head_dim": c.n("qk_nope_head_dim"),
        "value_dim": c.n("v_head_dim", d // heads),
        "latent_dim": c.n("kv_lora_rank"), "rope_dim": rope, "q_rank": rank,
    }  # fmt: skip
    bias = c.on("attention_bias") * (rank + fields["latent_dim"] + rope + d)
    side: tuple[tuple[int, int], ...] = ()
    if gate := options.get("latent_gate"):
        side = ((d, heads * (fields["value_dim"] if gate == "full" else 1)),)
    extra = bias + options.get("rope_norm", 0) * rope + heads * (options.get("sinks") is True)
    return fields | _reach(c, options, kind) | {"side": side, "extra_weights": extra, "biased": True}


def indexed(c: Config, options: Fields, kind: str) -> Fields:
    """Latent attention to the tokens that a small attention chooses; blocks may take over another's choice."""
    fields = latent(c, options, kind)
    d, heads, width = c.n("hidden_size"), c.n("index_n_heads"), c.n("index_head_dim")
    fields["top_tokens"] = c.n("index_topk")
    if options.get("indexes", True) is not True:  # an index of no width costs nothing
        return fields | {"index_heads": 1, "index_dim": 0}
    fields |= {"index_heads": heads, "index_dim": width}
    fields["side"] += ((fields["q_rank"] or d, heads * width), (d, width), (d, heads))
    fields["extra_weights"] += 2 * width
    return fields


def block_indexed(c: Config, options: Fields, kind: str) -> Fields:
    """Attention to the blocks of tokens that an index chooses by its own queries and keys (MiniMax-M3)."""
    fields = attention(c, options, kind)
    d, heads, width = c.n("hidden_size"), c.n("index_n_heads"), c.n("index_head_dim")
    fields |= {
        "top_tokens": c.n("index_topk_blocks") * c.n("index_block_size"),
        "index_heads": heads,
        "index_dim": width,
    }
    fields["side"] = (*fields.get("side", ()), (d, heads * width), (d, width))
    fields["extra_weights"] += 2 * width
    return fields


def both(*parts: Any) -> Any:
    """Return mixers side by side."""

    def mix(c: Config, options: Fields, kind: str) -> Fields:
        fields: Fields = {}
        for part in parts:
            one = part(c, options, kind)
            extra = fields.get("extra_weights", 0) + one.get("extra_weights", 0)
            fields |= one | {"extra_weights": extra, "side": (*fields.get("side", ()), *one.get("side", ()))}
        return fields | {"mixer": "both"}

    return mix


def nothing(c: Config, options: Fields, kind: str) -> Fields:
    """Return a block that only has an FFN."""
    return {"mixer": "none"}
