"""What single families have that others have not: widths by rules of their own, and what stands beside their blocks."""

from __future__ import annotations

from typing import Any

from pimllm_lib.catalog import mixing
from pimllm_lib.catalog.configuration import MOST_BLOCKS, Config
from pimllm_lib.catalog.patterns import FULL, SLIDING

Entry = dict[str, Any]


def score(c: Config, n: int, width: int) -> int:
    """Return the biases of the router's scores."""
    return n


def laguna_gate(c: Config) -> str:
    return "head" if c.raw("gating") in (True, "per-head") else "full"


def xlstm_width(c: Config, i: int) -> int:
    step = c.n("ffn_round_up_to_multiple_of")
    return step * int((c.n("hidden_size") * c.number("ffn_proj_factor", 2.667) + step - 1) // step)


def falcon_heads(c: Config) -> int:
    heads = c.n("num_attention_heads")
    if c.on("new_decoder_architecture"):
        return c.n("num_kv_heads", heads)
    return 1 if c.on("multi_query") else heads


def falcon_norms(c: Config) -> int:
    if not c.on("parallel_attn"):
        return 2
    return c.n("num_ln_in_parallel_attn", 2 if c.on("new_decoder_architecture") else 1)


def dots3_overlay(c: Config, i: int, kind: str) -> Entry:
    if kind != SLIDING or "per_layer_config" in c.given:
        return {}
    own = {
        "num_attention_heads": 64,
        "q_lora_rank": 1024,
        "kv_lora_rank": 1024,
        "qk_nope_head_dim": 192,
        "v_head_dim": 128,
    }
    own = {name: c.raw(f"swa_{name}", default) for name, default in own.items()}
    if c.raw("sliding_window") is None:
        own["sliding_window"] = c.raw("sliding_window_size", 512)
    rest = c.n("swa_head_dim", 256) - c.n("swa_qk_nope_head_dim", 192)
    return own | {"qk_rope_head_dim": c.n("swa_qk_rope_head_dim", rest)}


def gemma4_overlay(c: Config, i: int, kind: str) -> Entry:
    if kind != FULL or "per_layer_config" in c.given:
        return {}
    heads = c.raw("num_global_key_value_heads") if c.on("attention_k_eq_v") else None
    return {"head_dim": c.raw("global_head_dim", 512)} | ({} if heads is None else {"num_key_value_heads": heads})


def per_block(key: str) -> Any:
    """Return the rule of a width that is one number, or one for each block."""

    def width(c: Config, i: int) -> int:
        if not isinstance(c.raw(key), list):
            return c.n(key)
        listed = c.list(key, c.n("num_hidden_layers")) or []
        return Config(c.path, c.family, {key: listed[i]}).n(key)

    return width


def gemma4_width(c: Config, i: int) -> int:
    shared = c.on("use_double_wide_mlp") and mixing.shares(c, "num_kv_shared_layers", i)
    return c.n("intermediate_size") * (2 if shared else 1)


def per_layer_input(c: Config, f: Entry) -> tuple[tuple[int, int], ...]:
    """Return the way of an embedding of a block's own into it."""
    width = c.n("hidden_size_per_layer_input", 0, least=0)
    return ((c.n("hidden_size"), width), (width, c.n("hidden_size"))) if width else ()


def per_layer_table(c: Config) -> Entry:
    width, n = c.n("hidden_size_per_layer_input", 0, least=0), c.n("num_hidden_layers")
    if not width:
        return {}
    return {
        "once": ((c.n("hidden_size"), n * width),),
        "extra_once": c.n("vocab_size_per_layer_input") * n * width + width,
    }


def gemma4_extra(c: Config, f: Entry) -> int:
    return bool(c.n("hidden_size_per_layer_input", 0, least=0)) * c.n("hidden_size") - f["head_dim"] * f.get(
        "kv_shared", False
    )


def gemma3n_beside(c: Config, f: Entry) -> tuple[tuple[int, int], ...]:
    d, rank, streams = c.n("hidden_size"), c.n("laurel_rank"), c.n("altup_num_inputs")
    return (*per_layer_input(c, f), (d, rank), (rank, d), (streams, streams), (streams, streams**2))


def gemma3n_extra(c: Config, f: Entry) -> int:
    """Return gains, and the router of the streams."""
    return (4 + c.n("altup_num_inputs")) * c.n("hidden_size") - f["head_dim"] * f.get("kv_shared", False)


def gemma3n_whole(c: Config) -> Entry:
    d, shape = c.n("hidden_size"), per_layer_table(c)
    return shape | {"once": (*shape.get("once", ()), *((d, d),) * (2 * (c.n("altup_num_inputs") - 1)))}


def prediction_head(c: Config) -> Entry:
    """Return a projection and a norm before the output head, a norm after the embedding, and the head's bias."""
    d = c.n("hidden_size")
    return {
        "once": ((d, d),),
        "extra_once": 2 * d + c.n("vocab_size") * c.on("decoder_bias") + d * c.on("classifier_bias"),
    }


def opt_widths(c: Config) -> Entry:
    """Return an embedding of another width than the blocks, with the projections between the two."""
    d = c.n("hidden_size")
    width = c.n("word_embed_proj_dim", d)
    between = {
        "once": ((width, d), (d, width)),
        "extra_once": -2 * width * d,
    }  # a Decoder counts their weights by itself
    return {"embedding_dim": width} | (between if width != d else {})


def dory_turns(c: Config) -> list[int]:
    n, first, last = c.n("num_hidden_layers"), c.n("n_input_layers", least=0), c.n("n_output_layers", least=0)
    if n > MOST_BLOCKS or c.n("n_recurrent_layers", n - first - last) != n - first - last:
        raise c.wrong("n_recurrent_layers", "the blocks between those of the input and of the output")
    blocks = list(range(n))
    return blocks[:first] + blocks[first : n - last] * min(c.n("n_recurrent_loops"), MOST_BLOCKS) + blocks[n - last :]


def hrm_turns(c: Config) -> list[int]:
    """Return which block works when: a slow stack after each few turns of a fast one."""
    stack, slow, fast = c.n("num_layers_per_stack", c.n("num_hidden_layers")), c.n("H_cycles"), c.n("L_cycles")
    if stack * slow * (fast + 1) > MOST_BLOCKS:
        raise c.wrong("num_hidden_layers", f"at most {MOST_BLOCKS} blocks, all turns counted")
    return [*list(range(stack)) * fast, *range(stack, 2 * stack)] * slow


def dory_gains(c: Config, f: Entry) -> int:
    """Return the gains of residuals, heads and FFN."""
    return int(2 * c.n("hidden_size") + 2 * f["n_heads"] * f["head_dim"] + 2 * f["d_ff"])


def head_bias(flag: str = "") -> Any:
    """Return the rule of a bias of the output head, where a flag says so."""
    return lambda c: {"extra_once": c.n("vocab_size") * (c.on(flag) if flag else 1)}


def four_times(c: Config, i: int) -> int:
    """Return the usual width of an FFN."""
    return 4 * c.n("hidden_size")


def multiple(key: str) -> Any:
    """Return the rule of an FFN that is so many times as wide as the model."""
    return lambda c, i: c.n(key) * c.n("hidden_size")


def doge_extra(c: Config, f: Entry) -> int:
    """Return the gains of residuals, and what makes the mask from values."""
    return int(2 * c.n("hidden_size") + f["n_kv_heads"] * (1 + c.on("attention_bias")))


def biased_experts(c: Config, n: int, width: int) -> int:
    """Return the biases of router and experts."""
    return n * (1 + 2 * width + c.n("hidden_size"))


def lfm2_width(c: Config, i: int) -> int:
    """Return two thirds of the width that is given, rounded up."""
    width = c.n("block_ff_dim", c.n("intermediate_size"))
    if not c.on("block_auto_adjust_ff_dim"):
        return width
    width, step = int(c.number("block_ffn_dim_multiplier", 1.0) * int(2 * width / 3)), c.n("block_multiple_of")
    return step * -(-width // step)


def dots3_shared(c: Config, width: int) -> int:
    """Return the width of the shared experts."""
    return c.n("shared_experts_intermediate_size") * c.n("n_shared_experts", 0, least=0)


def streams_beside(c: Config, f: Entry) -> tuple[tuple[int, int], ...]:
    """Return what mixes the streams of hyper-connections before attention and FFN."""
    return ((c.n("hc_mult") * c.n("hidden_size"), 2 * c.n("hc_mult")),) * 2


def streams(c: Config) -> Entry:
    """Return what mixes them before the head."""
    count = c.n("hc_mult")
    return {"once": ((count * c.n("hidden_size"), count),), "extra_once": count + 1}


#: Keys of DBRX's experts, which stand in a table of their own.
dbrx_experts: Entry = {
    "n": lambda c: c.inner("ffn_config").n("moe_num_experts", 4),
    "k": lambda c: c.inner("ffn_config").n("moe_top_k", 1),
    "width": lambda c: c.inner("ffn_config").n("ffn_hidden_size", 3584),
}


def shared_or_dense(c: Config, width: int) -> int:
    """Return the width of shared experts, that of the dense FFN for none: its class reads 0 so."""
    return c.n("num_shared_experts", 0, least=0) * width or c.n("intermediate_size")
