"""What mixes tokens in a block, as fields of a Decoder: attention of every kind, linear attention, state spaces.

Each function takes a configuration and the options of its family (see `families.FAMILIES`) and returns the fields of one
block. Sizes are those that the public classes of the `transformers` library give their matrices.
"""

from __future__ import annotations

from math import ceil
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
        "n_heads": heads, "n_kv_heads": heads, "head_dim": c.n("qk_nope_head_dim"), "value_dim": c.n("v_head_dim", d // heads),
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
    if options.get("indexes", True) is not True:
        return fields
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


def delta(c: Config, options: Fields, kind: str) -> Fields:
    """Gated delta rule (Qwen3-Next and its kin): query and key heads share value heads, each with a state of its own."""
    keys, values = c.n("linear_num_key_heads", _heads(c)), c.n("linear_num_value_heads", _heads(c))
    k = c.n("linear_key_head_dim", int(0.75 * c.n("hidden_size") / keys))
    v = c.n("linear_value_head_dim", 2 * k)
    convolved = (2 * keys * k + values * v) * c.n("linear_conv_kernel_dim")
    return {
        "mixer": "linear", "mix_in": 2 * keys * k + 2 * values * v + 2 * values, "mix_out": values * v,
        "state_heads": values, "state_dim": k, "state_width": v, "state_extra": convolved,
        "extra_weights": convolved + 2 * values + v,
    }  # fmt: skip


def _heads(c: Config) -> int | None:
    return None if c.raw("num_attention_heads") is None else c.n("num_attention_heads")


def kimi_delta(c: Config, options: Fields, kind: str) -> Fields:
    """Kimi delta attention: a delta rule that forgets channel by channel; forget and output gates of low rank or of full."""
    inner = c.inner("linear_attn_config")
    if options["low_rank"]:
        width, heads = inner.n("head_dim", c.n("linear_head_dim")), inner.n("num_heads", c.n("linear_num_heads"))
        kernel = inner.n("short_conv_kernel_size", c.n("linear_conv_kernel_dim"))
    else:
        width, heads, kernel = c.n("head_dim"), c.n("num_attention_heads"), c.n("short_conv_kernel_size")
    d, wide = c.n("hidden_size"), heads * width
    gates = ((d, width), (width, wide)) * 2 if options["low_rank"] else ((d, wide),) * 2
    return {
        "mixer": "linear", "mix_in": 3 * wide + heads, "mix_out": wide, "side": gates,
        "state_heads": heads, "state_dim": width, "state_width": width, "state_extra": 3 * wide * kernel,
        "extra_weights": 3 * wide * kernel + heads + wide + width,
    }  # fmt: skip


def lightning(c: Config, options: Fields, kind: str) -> Fields:
    """Lightning attention (MiniMax): linear attention with a fixed decay for each head."""
    heads = c.n("num_attention_heads")
    width = c.n("head_dim", c.n("hidden_size") // heads)
    wide = heads * width
    return {
        "mixer": "linear", "mix_in": 4 * wide, "mix_out": wide, "state_heads": heads, "state_dim": width,
        "state_width": width, "extra_weights": wide,
    }  # fmt: skip


def short_convolution(c: Config, options: Fields, kind: str) -> Fields:
    """A short convolution with gates at both ends (LFM2)."""
    d, taps, bias = c.n("hidden_size"), c.n("conv_L_cache"), c.on("conv_bias")
    return {
        "mixer": "linear", "mix_in": 3 * d, "mix_out": d, "state_extra": d * taps, "extra_weights": d * taps + 5 * d * bias,
    }  # fmt: skip


#: Names of Mamba's sizes in its families, where they are not those of the first.
_MAMBA = {"state": "mamba_d_state", "kernel": "mamba_d_conv", "expand": "mamba_expand", "groups": "mamba_n_groups",
          "heads": "mamba_n_heads", "width": "mamba_d_head", "rank": "mamba_dt_rank", "conv_bias": "mamba_conv_bias",
          "in_bias": "mamba_proj_bias", "out_bias": "mamba_proj_bias", "norm": True, "wide": None}  # fmt: skip


def mamba2(c: Config, options: Fields, kind: str) -> Fields:
    """Mamba-2: one state of width x state for each head, driven by inputs and gates of groups."""
    name = _MAMBA | options.get("mamba", {})
    d, heads, state, taps = c.n("hidden_size"), c.n(name["heads"]), c.n(name["state"]), c.n(name["kernel"])
    inner = int(c.number(name["expand"], 2) * d)
    if name["wide"] is not None and c.raw(name["wide"]) is not None:
        inner = c.n(name["wide"])
    given = c.raw(name["width"]) if name["width"] else None
    width = inner // heads if given in (None, "auto") else c.n(name["width"])
    inner = heads * width if name.get("by_heads") else inner
    if heads * width != inner:
        raise c.wrong(name["width"] or name["heads"], f"heads that share the {inner} channels of the mixer")
    mixed = inner + 2 * c.n(name["groups"]) * state
    into = inner + mixed + heads
    bias = mixed * set_by(c, name["conv_bias"]) + into * set_by(c, name["in_bias"]) + d * set_by(c, name["out_bias"])
    return {
        "mixer": "linear", "mix_in": into, "mix_out": inner, "state_heads": heads, "state_dim": state,
        "state_width": width, "state_extra": mixed * taps,
        "extra_weights": mixed * taps + 3 * heads + inner * set_by(c, name["norm"]) + bias,
    }  # fmt: skip


def mamba(c: Config, options: Fields, kind: str) -> Fields:
    """Mamba: a state for each channel, driven by a step of low rank and inputs and outputs of the state."""
    name = _MAMBA | options.get("mamba", {})
    d, state, taps = c.n("hidden_size"), c.n(name["state"]), c.n(name["kernel"])
    inner = int(c.number(name["expand"], 2) * d)
    rank = ceil(d / 16) if c.raw(name["rank"]) in (None, "auto") else c.n(name["rank"])
    parts = c.n("n_mamba_heads") if options.get("parts") else 1
    bias = inner * set_by(c, name["conv_bias"]) + inner + (2 * inner + d) * set_by(c, name["in_bias"])
    norms = (rank + 2 * state) * bool(options.get("inner_norms"))
    return {
        "mixer": "linear", "mix_in": 2 * inner, "mix_out": inner, "state_heads": 1, "state_dim": state,
        "state_width": inner, "state_extra": inner * taps,
        "side": ((inner // parts, rank + 2 * state), (rank, inner // parts)) * parts,
        "extra_weights": inner * (taps + state + 1) + bias + norms,
    }  # fmt: skip


def gated_recurrence(c: Config, options: Fields, kind: str) -> Fields:
    """Griffin's recurrence (RecurrentGemma): a state for each channel, with gates of blocks of channels."""
    d, wide, taps, blocks = (
        c.n("hidden_size"),
        c.n("lru_width", c.n("hidden_size")),
        c.n("conv1d_width"),
        c.n("num_attention_heads"),
    )
    part = wide // blocks
    return {
        "mixer": "linear", "mix_in": 2 * wide, "mix_out": wide, "state_extra": wide * taps,
        "side": ((part, part),) * (2 * blocks), "extra_weights": wide * (taps + 1) + wide + 2 * wide + 2 * part * blocks + d,
    }  # fmt: skip


def rwkv(c: Config, options: Fields, kind: str) -> Fields:
    """RWKV-4: key, value and receptance of each channel, a sum that decays, and the last token of both halves."""
    d, wide = c.n("hidden_size"), c.n("attention_hidden_size", c.n("hidden_size"))
    return {
        "mixer": "linear", "mix_in": 3 * wide, "mix_out": wide, "state_extra": 2 * d + 3 * wide, "side": ((d, d),),
        "extra_weights": 5 * d + 2 * wide,
    }  # fmt: skip


def xlstm(c: Config, options: Fields, kind: str) -> Fields:
    """The matrix memory of xLSTM, with a normaliser and a maximum beside it."""
    d, heads = c.n("hidden_size"), c.n("num_heads")
    keys, values = int(d * c.number("qk_dim_factor", 0.5)), int(d * c.number("v_dim_factor", 1.0))
    bias = (2 * keys + 3 * values + 3 * d) * c.on("use_bias") + 2 * heads  # those of the norms too
    return {
        "mixer": "linear", "mix_in": 2 * keys + 2 * values + 2 * heads, "mix_out": values, "state_heads": heads,
        "state_dim": keys // heads, "state_width": values // heads, "state_extra": keys + heads, "extra_weights": bias + values,
    }  # fmt: skip


def beside_shared(part: Any) -> Any:
    """Return a recurrent mixer behind a transformer block whose weights all such blocks share (Zamba). It reads twice the
    width, the stream and the embedding: the half that reads the embedding stands as projections of its own.
    """

    def mix(c: Config, options: Fields, kind: str) -> Fields:
        d, heads, ff = c.n("hidden_size"), c.n("num_attention_heads"), c.n("intermediate_size", 4 * c.n("hidden_size"))
        kv, width = c.n("num_key_value_heads", heads), c.n("attention_head_dim", 2 * d // heads)
        wide, narrow = heads * width, c.n("num_key_value_heads", heads) * width
        if c.n("attention_hidden_size", 2 * d) != 2 * d:
            raise c.wrong("attention_hidden_size", f"twice the width, {2 * d}")
        rank, bias = c.n("adapter_rank", 0, least=0), (2 * ff + d) * c.on("add_bias_linear")
        adapters = ((d, rank), (rank, 2 * ff)) if rank else ()
        adapters += ((2 * d, rank), (rank, 2 * d)) * 3 if c.on("use_shared_attention_adapter") else ()
        alone = part(c, options, kind)
        weights = 2 * d * (wide + 2 * narrow) + d * wide + 3 * d * ff + 3 * d + bias
        distinct = c.n("num_mem_blocks", 1) if c.on("tie_word_embeddings") else c.n("num_hidden_layers")
        side = (*alone.get("side", ()), (d, wide), (d, narrow), (d, narrow), (d, d), *adapters)
        return alone | {
            "mixer": "both", "n_heads": heads, "n_kv_heads": kv, "head_dim": width, "d_ff": ff, "side": side,
            "extra_weights": alone["extra_weights"] + 3 * d + bias, "shared_weights": (weights, distinct),
        }  # fmt: skip

    return mix


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
