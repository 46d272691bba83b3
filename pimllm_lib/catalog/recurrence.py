"""Mixers that keep a state in place of a cache: linear attention, state spaces, recurrences, short convolutions.

Each function takes and returns what those of `mixing` do.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from pimllm_lib.catalog.configuration import MOST_BLOCKS, Config
from pimllm_lib.catalog.mixing import Fields, set_by


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
    parts = c.n("n_mamba_heads", most=MOST_BLOCKS) if options.get("parts") else 1
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
    d, taps, blocks = c.n("hidden_size"), c.n("conv1d_width"), c.n("num_attention_heads", most=MOST_BLOCKS)
    wide = c.n("lru_width", d)
    part = wide // blocks
    return {
        "mixer": "linear", "mix_in": 2 * wide, "mix_out": wide, "state_extra": wide * taps,
        "side": ((part, part),) * (2 * blocks), "extra_weights": wide * (taps + 4) + 2 * part * blocks + d,
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
        "state_dim": keys // heads, "state_width": values // heads, "state_extra": keys + heads,
        "extra_weights": bias + values,
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
        adapters: tuple[tuple[int, int], ...] = ((d, rank), (rank, 2 * ff)) if rank else ()
        adapters += ((2 * d, rank), (rank, 2 * d)) * 3 if c.on("use_shared_attention_adapter") else ()
        alone: Fields = part(c, options, kind)
        weights = 2 * d * (wide + 2 * narrow) + d * wide + 3 * d * ff + 3 * d + bias
        distinct = c.n("num_mem_blocks", 1) if c.on("tie_word_embeddings") else c.n("num_hidden_layers")
        side = (*alone.get("side", ()), (d, wide), (d, narrow), (d, narrow), (d, d), *adapters)
        return alone | {
            "mixer": "both", "n_heads": heads, "n_kv_heads": kv, "head_dim": width, "d_ff": ff, "side": side,
            "extra_weights": alone["extra_weights"] + 3 * d + bias, "shared_weights": (weights, distinct),
        }  # fmt: skip

    return mix
