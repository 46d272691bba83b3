"""Families of causal language models: what each one's blocks are made of, as `transformers` builds them.

An entry says what differs from a LLaMA: the kinds of its blocks (`types`) and what mixes tokens in each (`mix`), what
attention has beside its projections (`gate`, `qk`, `sinks`, `window`), its FFN and experts, its norms, which projections
carry a bias and under which key, what the model has outside of its blocks (`whole`), and what must stand as it does
(`only`). `like` takes over another entry. Sizes are read under the names that a family's own class gives them.
"""

from __future__ import annotations

from typing import Any

from pimllm_lib.catalog import mixing
from pimllm_lib.catalog.configuration import MOST_BLOCKS, Config
from pimllm_lib.catalog.feedforward import times

Entry = dict[str, Any]

FULL, SLIDING, LINEAR, CHUNKED = "full_attention", "sliding_attention", "linear_attention", "chunked_attention"
INDEXED, HYBRID = "indexed_attention", "hybrid"


def every(count: int | str, default: int | None = None, first: str = SLIDING, then: str = FULL) -> Any:
    """Return the pattern in which each so manieth block is of another kind."""

    def kind(c: Config, i: int, n: int) -> str:
        step = c.n(count, default) if isinstance(count, str) else count
        return first if (i + 1) % step else then

    return kind


def at_start(count: int, first: str = FULL, then: str = SLIDING) -> Any:
    """Return the pattern in which the first of each so many blocks is of another kind."""
    return lambda c, i, n: then if i % count else first


def windowed(c: Config, i: int, n: int) -> str:
    """The window of all blocks, where one is given."""
    return FULL if c.raw("sliding_window") is None else SLIDING


def _qwen_window(c: Config, i: int, n: int) -> str:
    if c.raw("sliding_window") is None or not c.on("use_sliding_window"):
        return FULL
    return SLIDING if i >= c.n("max_window_layers", least=0) else FULL


def _asked_window(c: Config, i: int, n: int) -> str:
    return SLIDING if c.raw("sliding_window") is not None and c.on("use_sliding_window") else FULL


def _alternating_window(c: Config, i: int, n: int) -> str:
    used = _asked_window(c, i, n) == SLIDING and (i + 1) % 2 and i < c.n("max_window_layers", least=0)
    return SLIDING if used else FULL


def _after(key: str, default: int = 0) -> Any:
    """Return the rule of experts in all blocks but the first ones."""
    return lambda c, i, n: i >= c.n(key, default, least=0)


def _sparse_step(c: Config, i: int, n: int) -> bool:
    return i not in (c.list("mlp_only_layers") or []) and (i + 1) % c.n("decoder_sparse_step", 1) == 0


def _local(c: Config, i: int, n: int) -> str:
    given = c.list("attention_types") or [[["global", "local"], 12]]
    try:
        listed = [name for names, count in given for _ in range(min(count, 10_000)) for name in names]
        return {"global": FULL, "local": SLIDING}[listed[i]]
    except (TypeError, ValueError, KeyError, IndexError):
        raise c.wrong("attention_types", f"[[kinds, times], ...] of {n} blocks, kinds global or local") from None


def _expanded(key: str, table: dict[str, str]) -> Any:
    """Return the pattern that repeats a list, under names of its own."""

    def kind(c: Config, i: int, n: int) -> str:
        listed = c.list(key) or []
        if not listed or any(name not in table for name in listed):
            raise c.wrong(key, f"a list of {' and '.join(table)}")
        return table[listed[i % len(listed)]]

    return kind


def _both(*parts: Any) -> Any:
    """Return mixers side by side."""

    def mix(c: Config, options: Entry, kind: str) -> Entry:
        fields: Entry = {}
        for part in parts:
            one = part(c, options, kind)
            extra = fields.get("extra_weights", 0) + one.get("extra_weights", 0)
            fields |= one | {"extra_weights": extra, "side": (*fields.get("side", ()), *one.get("side", ()))}
        return fields | {"mixer": "both"}

    return mix


def _none(c: Config, options: Entry, kind: str) -> Entry:
    return {"mixer": "none"}


ALL = {"qkv": True, "o": True, "ffn": True}
PLAIN: Entry = {"norm": "layer", "gated": False, "bias": ALL}
PARALLEL: Entry = {"norms": 1}
USE_BIAS = {"qkv": "use_bias", "o": "use_bias", "ffn": "use_bias"}
HEAD: Entry = {"qk": "head"}
DEEPSEEK = {"n": "n_routed_experts", "shared": times("n_shared_experts")}
LATENT: Entry = {"mix": mixing.latent}
MIXED: Entry = {"kinds": (FULL, SLIDING)}
LOCAL = {"n": "num_local_experts", "width": "intermediate_size"}


def _every_so_many(c: Config, i: int, n: int) -> bool:
    return i >= c.n("first_k_dense_replace", 1, least=0) and i % c.n("moe_layer_freq", 1) == 0


def _score(c: Config, n: int, width: int) -> int:
    """Return the biases of the router's scores."""
    return n


def _prefixed(c: Config, i: int, n: int) -> str:
    first = c.n("first_k_dense_replace", 0, least=0)
    step = c.n("prefix_dense_sliding_window_pattern" if i < first else "sliding_window_pattern")
    return SLIDING if ((i if i < first else i - first) + 1) % step else FULL


def _ernie(c: Config, i: int, n: int) -> bool:
    last = c.raw("moe_layer_end_index")
    return (i + 1) % c.n("moe_layer_interval") == 0 and c.n("moe_layer_start_index", least=0) <= i <= (
        n - 1 if last == -1 else c.n("moe_layer_end_index", least=0)
    )


def _jamba(c: Config, i: int, n: int) -> bool:
    return c.n("num_experts") > 1 and i % c.n("expert_layer_period") == c.n("expert_layer_offset", least=0)


def _laguna_gate(c: Config) -> str:
    return "head" if c.raw("gating") in (True, "per-head") else "full"


def _llama4_window(c: Config, i: int, n: int) -> str:
    listed = c.list("no_rope_layers", n)
    rope = bool(listed[i]) if listed else bool((i + 1) % c.n("no_rope_layer_interval", 4))
    return CHUNKED if rope and c.raw("attention_chunk_size") is not None else FULL


def _llama4_experts(c: Config, i: int, n: int) -> bool:
    listed = c.list("moe_layers")
    return (i + 1) % c.n("interleave_moe_layer_step") == 0 if listed is None else i in listed


def _kimi(c: Config, i: int, n: int) -> str:
    inner = c.inner("linear_attn_config")
    full, linear = inner.list("full_attn_layers"), inner.list("kda_layers")
    if full is None or linear is None:
        return FULL if i and i % 4 == 0 else LINEAR
    if (i + 1 in full) == (i + 1 in linear):
        raise c.wrong("linear_attn_config", f"each of the {n} blocks in one of full_attn_layers and kda_layers")
    return FULL if i + 1 in full else LINEAR


def _lfm2_width(c: Config, i: int) -> int:
    width = c.n("block_ff_dim", c.n("intermediate_size"))
    if not c.on("block_auto_adjust_ff_dim"):
        return width
    width, step = int(c.number("block_ffn_dim_multiplier", 1.0) * int(2 * width / 3)), c.n("block_multiple_of")
    return step * -(-width // step)


def _must_list(c: Config, i: int, n: int) -> str:
    raise c.wrong("layer_types", f"a list of {n}, conv or full_attention")


def _xlstm_width(c: Config, i: int) -> int:
    step = c.n("ffn_round_up_to_multiple_of")
    return step * int((c.n("hidden_size") * c.number("ffn_proj_factor", 2.667) + step - 1) // step)


def _falcon_heads(c: Config) -> int:
    heads = c.n("num_attention_heads")
    if c.on("new_decoder_architecture"):
        return c.n("num_kv_heads", heads)
    return 1 if c.on("multi_query") else heads


def _falcon_norms(c: Config) -> int:
    if not c.on("parallel_attn"):
        return 2
    return c.n("num_ln_in_parallel_attn", 2 if c.on("new_decoder_architecture") else 1)


def _glm_index(c: Config, i: int, n: int) -> bool:
    pattern = c.raw("index_topk_pattern")
    if pattern is None:
        return (
            max(i - c.n("index_skip_topk_offset", 2, least=0) + 1, 0) % max(c.n("index_topk_freq", 1, least=0), 1) == 0
        )
    if (
        not isinstance(pattern, str | list)
        or len(pattern) != n
        or any(one not in ("F", "S", "full", "shared") for one in pattern)
    ):
        raise c.wrong("index_topk_pattern", f"F or S for each of {n} blocks")
    return pattern[i][0].upper() == "F"


def _dots3_overlay(c: Config, i: int, kind: str) -> Entry:
    if kind != SLIDING or "per_layer_config" in c.given:
        return {}
    own = {
        "num_attention_heads": 64,
        "q_lora_rank": 1024,
        "kv_lora_rank": 1024,
        "qk_nope_head_dim": 192,
        "v_head_dim": 128,
    }
    return {name: c.raw(f"swa_{name}", default) for name, default in own.items()} | (
        {} if c.raw("sliding_window") is not None else {"sliding_window": c.raw("sliding_window_size", 512)}
    )


def _gemma4_overlay(c: Config, i: int, kind: str) -> Entry:
    if kind != FULL or "per_layer_config" in c.given:
        return {}
    heads = c.raw("num_global_key_value_heads") if c.on("attention_k_eq_v") else None
    return {"head_dim": c.raw("global_head_dim", 512)} | ({} if heads is None else {"num_key_value_heads": heads})


def _per_block(key: str) -> Any:
    """Return the rule of a width that is one number, or one for each block."""

    def width(c: Config, i: int) -> int:
        if not isinstance(c.raw(key), list):
            return c.n(key)
        listed = c.list(key, c.n("num_hidden_layers")) or []
        return Config(c.path, c.family, {key: listed[i]}).n(key)

    return width


def _gemma4_width(c: Config, i: int) -> int:
    shared = c.on("use_double_wide_mlp") and mixing.shares(c, "num_kv_shared_layers", i)
    return c.n("intermediate_size") * (2 if shared else 1)


def _per_layer_input(c: Config, f: Entry) -> tuple[tuple[int, int], ...]:
    """Return the way of an embedding of a block's own into it."""
    width = c.n("hidden_size_per_layer_input", 0, least=0)
    return ((c.n("hidden_size"), width), (width, c.n("hidden_size"))) if width else ()


def _per_layer_table(c: Config) -> Entry:
    width, n = c.n("hidden_size_per_layer_input", 0, least=0), c.n("num_hidden_layers")
    if not width:
        return {}
    return {
        "once": ((c.n("hidden_size"), n * width),),
        "extra_once": c.n("vocab_size_per_layer_input") * n * width + width,
    }


def _gemma4_extra(c: Config, f: Entry) -> int:
    return bool(c.n("hidden_size_per_layer_input", 0, least=0)) * c.n("hidden_size") - f["head_dim"] * f.get(
        "kv_shared", False
    )


def _gemma3n_beside(c: Config, f: Entry) -> tuple[tuple[int, int], ...]:
    d, rank, streams = c.n("hidden_size"), c.n("laurel_rank"), c.n("altup_num_inputs")
    return (*_per_layer_input(c, f), (d, rank), (rank, d), (streams, streams), (streams, streams**2))


def _gemma3n_extra(c: Config, f: Entry) -> int:
    """Return gains, and the router of the streams."""
    return (4 + c.n("altup_num_inputs")) * c.n("hidden_size") - f["head_dim"] * f.get("kv_shared", False)


def _gemma3n_whole(c: Config) -> Entry:
    d, shape = c.n("hidden_size"), _per_layer_table(c)
    return shape | {"once": (*shape.get("once", ()), *((d, d),) * (2 * (c.n("altup_num_inputs") - 1)))}


def _prediction_head(c: Config) -> Entry:
    """Return a projection and a norm before the output head, a norm after the embedding, and the head's bias."""
    d = c.n("hidden_size")
    return {
        "once": ((d, d),),
        "extra_once": 2 * d + c.n("vocab_size") * c.on("decoder_bias") + d * c.on("classifier_bias"),
    }


def _hrm_turns(c: Config) -> list[int]:
    """Return which block works when: a slow stack after each few turns of a fast one."""
    stack, slow, fast = c.n("num_layers_per_stack", c.n("num_hidden_layers")), c.n("H_cycles"), c.n("L_cycles")
    low, high = list(range(min(stack, MOST_BLOCKS))), list(range(stack, min(2 * stack, stack + MOST_BLOCKS)))
    return (low * min(fast, MOST_BLOCKS) + high) * min(slow, MOST_BLOCKS)


def _dory_turns(c: Config) -> list[int]:
    n, first, last = c.n("num_hidden_layers"), c.n("n_input_layers", least=0), c.n("n_output_layers", least=0)
    if n > MOST_BLOCKS or c.n("n_recurrent_layers", n - first - last) != n - first - last:
        raise c.wrong("n_recurrent_layers", "the blocks between those of the input and of the output")
    blocks = list(range(n))
    return blocks[:first] + blocks[first : n - last] * min(c.n("n_recurrent_loops"), MOST_BLOCKS) + blocks[n - last :]


def _nemotron_kinds(c: Config) -> list[str]:
    """Return the kinds of blocks, of which each mixes tokens or is an FFN."""
    pattern = c.raw("hybrid_override_pattern")
    if c.raw("layers_block_type") is not None or pattern is None:
        listed = c.list("layers_block_type")
        return (
            [LINEAR, "moe", FULL, "mlp"]
            if listed is None
            else c.kinds("layers_block_type", len(listed), (LINEAR, "moe", FULL, "mlp")) or []
        )
    names = {"M": LINEAR, "E": "moe", "*": FULL, "-": "mlp"}
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MOST_BLOCKS or set(pattern) - set(names):
        raise c.wrong("hybrid_override_pattern", "letters M, E, * and -")
    return [names[one] for one in pattern]


def _zamba(c: Config, i: int, n: int) -> str:
    if i < 3:
        return HYBRID if i == 2 else LINEAR
    return HYBRID if (i - 3) % c.n("attn_layer_period") == c.n("attn_layer_offset", least=0) else LINEAR


def _zamba2(c: Config, i: int, n: int) -> str:
    if n != 54:
        raise c.wrong("layers_block_type", f"a list of {n}, linear_attention or hybrid")
    return HYBRID if i in (6, 12, 18, 24, 30, 36, 42, 47, 51) else LINEAR


def _head_bias(c: Config) -> Entry:
    return {"extra_once": c.n("vocab_size")}


CHOSEN: Entry = {"mix": {INDEXED: mixing.indexed}}
QWEN_NEXT: Entry = {**HEAD, "gate": "full", "mix": {LINEAR: mixing.delta, FULL: mixing.attention},
                    "types": every("full_attention_interval", 4, first=LINEAR)}  # fmt: skip
CONVOLVED: Entry = {
    "bias": {},
    "mix": {"conv": mixing.short_convolution, FULL: mixing.attention, SLIDING: mixing.attention},
}
MAMBA = {"state": "state_size", "kernel": "conv_kernel", "expand": "expand", "rank": "time_step_rank", "conv_bias": "use_conv_bias",
         "in_bias": "use_bias", "out_bias": "use_bias"}  # fmt: skip


FAMILIES: dict[str, Entry] = {
    # Blocks all alike, as LLaMA's
    "llama": {}, "exaone": {}, "internlm3": {}, "iquestcoder": {}, "granite": {}, "emu3_text_model": {}, "gemma": {},
    "ministral3": {"types": windowed}, "mistral": {"types": windowed}, "phi3": {"types": windowed},
    "arcee": {"gated": False},
    "apertus": {**HEAD, "gated": False, "extra": lambda c, f: 2 * (c.raw("hidden_act") == "xielu")},
    "apertus1p5_text": {"like": "apertus", "only": {"output_vocab_size": (None,)}},
    "bitnet": {"fixed": {"sub_norms": True}},
    "cohere": {**PARALLEL, "norm": "gain", "qk": ("use_qk_norm", "each")},
    "diffllama": {"extra": lambda c, f: 4 * f["head_dim"]},
    "ernie4_5": {"bias": USE_BIAS},
    "glm": {"bias": {"qkv": "attention_bias"}},
    "glm4": {"like": "glm", "norms": 4},
    "helium": {"bias": {"qkv": "attention_bias", "ffn": "mlp_bias"}},
    "hunyuan_v1_dense": HEAD,
    "hyperclovax": {"norms": lambda c: 4 if c.on("use_post_norm") else 2},
    "jais2": {"norm": "layer", "gated": False},
    "nanochat": {"norm": "bare rms", "gated": False},
    "nemotron": {"norm": "layer", "gated": False},
    "olmo": {"norm": "bare"},
    "olmo2": {"qk": "wide"},
    "qwen2": {"types": _qwen_window, **MIXED, "bias": {"qkv": True}},
    "qwen3": {**HEAD, "types": _qwen_window, **MIXED},
    "seed_oss": {"bias": {"qkv": "attention_bias", "o": "attention_out_bias", "ffn": "mlp_bias"}},
    "smollm3": {**MIXED, "types": lambda c, i, n: _no_rope(c, i, n)},
    "stablelm": {"norm": "layer", "qk": ("qk_layernorm", "each"), "bias": {"qkv": "use_qkv_bias"},
                 "norms": lambda c: 1 if c.on("use_parallel_residual") else 2},
    "starcoder2": {"norm": "layer", "gated": False, "bias": USE_BIAS, "types": windowed},
    # Plain FFNs, names of their own
    "gpt2": {**PLAIN, "ffn": "n_inner", "times": 4, "positions": ("n_positions", 0)},
    "gpt-sw3": {"like": "gpt2"},
    "gpt_bigcode": {"like": "gpt2", "kv": lambda c: 1 if c.on("multi_query") else c.n("num_attention_heads")},
    "openai-gpt": {**PLAIN, "ffn": lambda c, i: 4 * c.n("hidden_size"), "final": False, "positions": ("n_positions", 0)},
    "gptj": {**PLAIN, **PARALLEL, "bias": {"ffn": True}, "ffn": "n_inner", "times": 4, "whole": _head_bias},
    "codegen": {"like": "gptj"},
    "gpt_neo": {**PLAIN, "bias": {"o": True, "ffn": True}, "ffn": "intermediate_size", "times": 4, "window": "window_size",
                "types": _local, "positions": ("max_position_embeddings", 0)},
    "gpt_neox": {**PLAIN, "bias": {"qkv": "attention_bias", "o": "attention_bias", "ffn": True}},
    "bloom": {**PLAIN, "ffn": lambda c, i: 4 * c.n("hidden_size"), "whole": lambda c: {"extra_once": 2 * c.n("hidden_size")}},
    "opt": {**PLAIN, "ffn": "ffn_dim", "positions": ("max_position_embeddings", 2)},
    "biogpt": {**PLAIN, "positions": ("max_position_embeddings", 2)},
    "phi": {**PLAIN, **PARALLEL, "qk": ("qk_layernorm", "biased"), "whole": _head_bias},
    "persimmon": {**PLAIN, "qk": ("qk_layernorm", "biased")},
    "xglm": {**PLAIN, "ffn": "ffn_dim"},
    "ctrl": {**PLAIN, "ffn": "dff", "whole": _head_bias},
    # Windows in some blocks
    "cohere2": {"like": "cohere", "qk": None, "even": True, **MIXED, "types": every("sliding_window_pattern", 4)},
    "cwm": {**MIXED, "types": at_start(4)},
    "exaone4": {**HEAD, **MIXED, "types": every("sliding_window_pattern")},
    "gemma2": {"norms": 4, **MIXED, "types": every(2)},
    "gemma3_text": {**HEAD, "norms": 4, **MIXED, "types": every("sliding_window_pattern", 6), "only": {"use_bidirectional_attention": (None, False)}},
    "granite_swa": {"sinks": True, **MIXED, "types": at_start(4)},
    "ministral": {**MIXED, "types": windowed},
    "olmo3": {"like": "olmo2", **MIXED, "types": every(4)},
    "vaultgemma": {**MIXED, "types": every(2)},
    # Experts
    "mixtral": {"experts": LOCAL, "types": windowed},
    "phimoe": {"like": "mixtral", "norm": "layer", "whole": lambda c: _head_bias(c) if c.on("lm_head_bias") else {}},
    "minimax_m2": {"experts": LOCAL, "qk": "wide"},
    "granitemoe": {"experts": LOCAL},
    "granitemoeshared": {"experts": {**LOCAL, "shared": "shared_intermediate_size"}},
    "granitemoe_swa": {"like": "granitemoeshared", "sinks": True, **MIXED, "types": at_start(4)},
    "olmoe": {"experts": {"width": "intermediate_size"}, "qk": "wide"},
    "flex_olmo": {"like": "olmoe"},
    "qwen3_moe": {**HEAD, "types": _asked_window, **MIXED, "experts": {"sparse": _sparse_step}},
    "qwen2_moe": {"types": _alternating_window, **MIXED, "bias": {"qkv": "qkv_bias"}, "experts": {"sparse": _sparse_step, "shared": "shared_expert_intermediate_size", "gate": True}},
    "gpt_oss": {"sinks": True, **MIXED, "types": every(2), "experts": {
        **LOCAL, "beside": lambda c, n, w: n * (1 + 2 * w + c.n("hidden_size"))}},
    "aria_text": {"experts": {"n": "moe_num_experts", "k": "moe_topk", "width": "intermediate_size", "shared": times("moe_num_shared_experts")}},
    "glm4_moe": {"uneven": True, "qk": ("use_qk_norm", "head"), "bias": {"qkv": "attention_bias"},
                 "experts": {**DEEPSEEK, "sparse": _after("first_k_dense_replace")}},
    "solar_open": {"experts": DEEPSEEK},
    # Latent attention
    "deepseek_v2": {**LATENT, "experts": {**DEEPSEEK, "sparse": _after("first_k_dense_replace")}},
    "deepseek_v3": {"like": "deepseek_v2"},
    "sarvam_mla": {"like": "deepseek_v2"},
    "minicpm3": LATENT, "youtu": LATENT,
    "glm4_moe_lite": {**LATENT, "experts": {**DEEPSEEK, "sparse": _after("first_k_dense_replace", 1)}},
    "axk1": {**LATENT, "experts": {**DEEPSEEK, "sparse": _every_so_many}, "expert_norms": 1},
    "deepseek_v32": {**CHOSEN, "experts": {**DEEPSEEK, "sparse": _after("first_k_dense_replace")}},
    "glm_moe_dsa": {"like": "deepseek_v32", "index_types": _glm_index},
    "dots3_note_text": {"mix": {INDEXED: mixing.indexed, SLIDING: mixing.latent, FULL: mixing.latent}, "latent_gate": "head", "overlay": _dots3_overlay,
                        "rope_norm": 1, "types": lambda c, i, n: INDEXED if i < 2 or i % 4 == 1 else SLIDING,
                        "experts": {"n": "n_routed_experts", "shared": "shared_experts_intermediate_size", "sparse": _every_so_many}},
    # Experts, windows and dense blocks together
    "afmoe": {**HEAD, "gate": "full", "norms": 4, **MIXED, "types": every("global_attn_every_n_layers", 4), "experts": {
        "sparse": _after("num_dense_layers"), "shared": times("num_shared_experts"), "beside": _score}},
    "beam": {**HEAD, "gate": "full", "norms": 4, **MIXED, "extra": lambda c, f: f["n_heads"],
             "types": lambda c, i, n: FULL if (i + 1) % 6 == 0 or i == n - 1 else SLIDING,
             "experts": {"sparse": lambda c, i, n: i >= 3}},
    "cohere2_moe": {"like": "cohere2", "qk": None, "types": _prefixed, "ffn": lambda c, i: c.n("prefix_dense_intermediate_size", c.n("intermediate_size")),
                    "experts": {"width": "intermediate_size", "shared": times("num_shared_experts"), "sparse": _after("first_k_dense_replace")}},
    "dots1": {**HEAD, **MIXED, "types": lambda c, i, n: FULL if c.raw("sliding_window") is None or i < c.n("max_window_layers", least=0) else SLIDING,
              "experts": {**DEEPSEEK, "sparse": _after("first_k_dense_replace")}},
    "ernie4_5_moe": {"bias": USE_BIAS, "experts": {"n": "moe_num_experts", "k": "moe_k", "shared": times("moe_num_shared_experts"),
                                                  "beside": _score, "sparse": _ernie}},
    "exaone_moe": {**HEAD, **MIXED, "types": every("sliding_window_pattern"), "experts": {
        "sparse": _after("first_k_dense_replace"), "shared": times("num_shared_experts")}},
    "flint": {**HEAD, "sinks": True, **MIXED, "types": lambda c, i, n: FULL if i < 2 or i % 4 == 1 or i == n - 1 else SLIDING,
              "experts": {"sparse": lambda c, i, n: i > 1 if c.raw("mlp_only_layers") is None else _sparse_step(c, i, n),
                          "shared": "shared_expert_intermediate_size"}},
    "hunyuan_v1_moe": {**HEAD, "experts": {"k": "moe_topk", "width": "intermediate_size", "shared": "intermediate_size"}},
    "hy_v3": {**HEAD, "experts": {"sparse": _after("", 1), "shared": times("num_shared_experts")}},
    "kolibri1": {**HEAD, "norms": 4, **MIXED, "types": every(5), "experts": {"n": "num_local_experts", "shared": "shared_expert_intermediate_size"}},
    "laguna": {**HEAD, "gate": _laguna_gate, "heads": "num_attention_heads_per_layer", **MIXED, "experts": {
        "sparse": _after("", 1), "shared": "shared_expert_intermediate_size", "beside": _score}},
    "llama4_text": {"kinds": (FULL, CHUNKED), "types": _llama4_window, "ffn": "intermediate_size_mlp", "experts": {
        **LOCAL, "shared": "intermediate_size", "sparse": _llama4_experts}},
    "mellum": {**HEAD, **MIXED, "experts": {}},
    "mimo_v2_flash": {"sinks": SLIDING, **MIXED, "double_kv": SLIDING, "values": "v_head_dim",
                      "types": lambda c, i, n: FULL if i == 0 or not (i + 1) % 6 else SLIDING,
                      "experts": {"n": "n_routed_experts", "sparse": _after("", 1)}},
    "minimax_m3_vl_text": {**HEAD, "mix": {FULL: mixing.attention, "minimax_m3_sparse": mixing.block_indexed}, "ffn": "dense_intermediate_size",
                           "experts": {**LOCAL, "shared": "shared_intermediate_size"}},
    "sarvam_moe": {"like": "glm4_moe"},
    "dbrx": {"norm": "gain", "kv": lambda c: c.inner("attn_config").n("kv_n_heads", 1), "experts": {
        "n": lambda c: c.inner("ffn_config").n("moe_num_experts", 4), "k": lambda c: c.inner("ffn_config").n("moe_top_k", 1),
        "width": lambda c: c.inner("ffn_config").n("ffn_hidden_size", 3584)}},
    # Linear attention, recurrences and state spaces
    "qwen3_next": {**QWEN_NEXT, "experts": {"sparse": _sparse_step, "shared": "shared_expert_intermediate_size", "gate": True}},
    "qwen3_5_text": QWEN_NEXT,
    "qwen3_5_moe_text": {**QWEN_NEXT, "experts": {"shared": "shared_expert_intermediate_size", "gate": True}},
    "lara_mini": {**HEAD, "mix": {LINEAR: mixing.delta, SLIDING: mixing.attention, FULL: mixing.attention},
                  "types": lambda c, i, n: (LINEAR, SLIDING, LINEAR, FULL, SLIDING)[i % 5],
                  "experts": {"shared": "shared_expert_intermediate_size"}},
    "olmo_hybrid": {"qk": "wide", "mix": {LINEAR: mixing.delta, FULL: mixing.attention},
                    "types": lambda c, i, n: FULL if i % 4 == 3 or (n < 4 and i == n - 1) else LINEAR},
    "kimi_linear": {"mix": {LINEAR: mixing.kimi_delta, FULL: mixing.latent}, "low_rank": True, "types": _kimi, "experts": {
        "k": "num_experts_per_token", "shared": times("num_shared_experts"), "sparse": _after("first_k_dense_replace", 1)}},
    "bailing_hybrid": {"mix": {LINEAR: mixing.kimi_delta, FULL: mixing.latent}, "low_rank": False, "latent_gate": "head",
                       "types": every("layer_group_size", first=LINEAR), "experts": {
                           "k": "num_experts_per_token", "shared": times("num_shared_experts"), "sparse": _after("first_k_dense_replace")}},
    "minimax": {"experts": LOCAL, "mix": {FULL: mixing.attention, LINEAR: mixing.lightning}, "types": every(2, first=FULL, then=LINEAR)},
    "lfm2": {**HEAD, **CONVOLVED, "ffn": _lfm2_width, "types": lambda c, i, n: "conv" if i not in (c.list("full_attn_idxs") or range(n)) else FULL},
    "lfm2_moe": {**HEAD, **CONVOLVED, "types": _must_list, "experts": {"sparse": _after("num_dense_layers")}},
    "lfm3": {**HEAD, **CONVOLVED, "gate": ("use_attention_gate", "head"), "norms": lambda c: 4 if c.on("use_sandwich_norm") else 2,
             "types": lambda c, i, n: FULL if i % 4 == 2 else SLIDING if i % 4 == 0 and i else "conv"},
    "mamba": {"mix": {LINEAR: mixing.mamba}, **PARALLEL, "ffn": None, "mamba": MAMBA},
    "falcon_mamba": {"like": "mamba"},
    "mamba2": {"mix": {LINEAR: mixing.mamba2}, **PARALLEL, "ffn": None, "mamba": {
        **MAMBA, "groups": "n_groups", "heads": "num_heads", "width": "head_dim"}},
    "bamba": {"mix": {LINEAR: mixing.mamba2, FULL: mixing.attention},
              "types": lambda c, i, n: FULL if i in (c.list("attn_layer_indices") or []) else LINEAR},
    "granitemoehybrid": {"mix": {LINEAR: mixing.mamba2, FULL: mixing.attention}, "experts": {**LOCAL, "shared": "shared_intermediate_size",
                         "sparse": lambda c, i, n: c.n("num_local_experts", 0, least=0) > 0}, "ffn": "shared_intermediate_size"},
    "falcon_h1": {"mix": {HYBRID: _both(mixing.attention, mixing.mamba2)}, "mamba": {
        "norm": "mamba_rms_norm", "out_bias": "projectors_bias", "wide": "mamba_d_ssm"}},
    "jamba": {"mix": {LINEAR: mixing.mamba, FULL: mixing.attention}, "inner_norms": True,
              "types": lambda c, i, n: FULL if i % c.n("attn_layer_period") == c.n("attn_layer_offset", least=0) else LINEAR,
              "experts": {"width": "intermediate_size", "sparse": _jamba}},
    "nemotron_h": {"mix": {LINEAR: mixing.mamba2, FULL: mixing.attention, "moe": _none, "mlp": _none}, **PARALLEL, "gated": False,
                   "listed": _nemotron_kinds, "ffn_in": ("mlp", "moe"), "only": {"moe_latent_size": (None,)}, "bias": {"ffn": "mlp_bias"},
                   "mamba": {"state": "ssm_state_size", "kernel": "conv_kernel", "groups": "n_groups", "heads": "mamba_num_heads",
                             "width": "mamba_head_dim", "conv_bias": "use_conv_bias", "in_bias": "use_bias", "out_bias": "use_bias", "by_heads": True},
                   "experts": {"n": "n_routed_experts", "shared": "moe_shared_expert_intermediate_size", "sparse": lambda c, i, n: False}},
    "recurrent_gemma": {"even": True, "mix": {LINEAR: mixing.gated_recurrence, SLIDING: mixing.attention}, "window": "attention_window_size",
                        "bias": {"qkv": "attention_bias", "o": True, "ffn": True}, "ffn": lambda c, i: c.n("intermediate_size") // 2,
                        "types": _expanded("block_types", {"recurrent": LINEAR, "attention": SLIDING})},
    "rwkv": {"mix": mixing.rwkv, "norm": "layer", "gated": False, "ffn": "intermediate_size", "times": 4,
             "whole": lambda c: {"extra_once": 2 * c.n("hidden_size")}},
    "xlstm": {"mix": mixing.xlstm, "ffn": _xlstm_width, "only": {"weight_mode": ("single",), "add_out_norm": (True,)}},
    # Others
    "doge": {**HEAD, "types": windowed, **MIXED, "only": {"is_moe": (False,)}, "extra": lambda c, f: 2 * c.n("hidden_size") + f["n_kv_heads"],
             "beside": lambda c, f: ((f["n_kv_heads"] * f["head_dim"], f["n_kv_heads"]),)},
    "falcon": {**PLAIN, "kv": _falcon_heads, "bias": {"qkv": "bias", "o": "bias", "ffn": "bias"}, "norms": _falcon_norms,
               "ffn": "ffn_hidden_size", "times": 4},
    "gpt_neox_japanese": {**PLAIN, "bias": {}, "ffn": lambda c, i: c.n("intermediate_multiple_size") * c.n("hidden_size"),
                          "last": lambda c: c.n("hidden_size")},
    "mpt": {"norm": "gain", "gated": False, "bias": {}, "ffn": lambda c, i: c.n("expansion_ratio") * c.n("hidden_size")},
    "modernbert-decoder": {**MIXED, "norm": "gain", "reach": lambda c: max(c.n("local_attention") // 2, 1), "only": {"norm_bias": (False,)},
                           "types": lambda c, i, n: SLIDING if i % c.n("global_attn_every_n_layers", 3) else FULL,
                           "first": lambda c: -c.n("hidden_size"), "whole": _prediction_head},
    "cohere_compass_text": {"like": "cohere2", "types": lambda c, i, n: FULL},
    "phi4_multimodal": {"like": "phi3"},
    "hrm_text": {"norm": "bare rms", "gate": "full", "final": False, "kv": lambda c: c.n("num_attention_heads"), "turns": _hrm_turns, "whole": lambda c: {"extra_once": c.n("hidden_size")}},
    "dory": {"norm": "bare rms", "gate": "full", "final": False, **MIXED, "types": every(4), "turns": _dory_turns,
             "only": {"recurrent_kv_cache_mode": ("per_loop",)}, "whole": _head_bias,
             "extra": lambda c, f: 2 * c.n("hidden_size") + 2 * f["n_heads"] * f["head_dim"] + 2 * f["d_ff"]},
    "gemma3n_text": {**HEAD, "norms": 4, **MIXED, "types": every(5), "ffn": _per_block("intermediate_size"), "shares": "num_kv_shared_layers",
                     "beside": _gemma3n_beside, "extra": _gemma3n_extra, "whole": _gemma3n_whole},
    "gemma4_text": {**HEAD, "norms": 4, **MIXED, "types": lambda c, i, n: FULL if i == n - 1 else every(6)(c, i, n), "shares": "num_kv_shared_layers",
                    "overlay": _gemma4_overlay, "ffn": _gemma4_width, "beside": _per_layer_input, "extra": _gemma4_extra,
                    "whole": _per_layer_table, "experts": {"k": "top_k_experts", "sparse": lambda c, i, n: c.on("enable_moe_block"),
                                                        "dense_too": True, "beside": lambda c, n, w: n + c.n("hidden_size")},
                    "expert_norms": 3, "last_kind": FULL, "only": {"use_bidirectional_attention": (None, "vision", False), "attention_k_eq_v": (None, False)}},
    "gemma4_unified_text": {"like": "gemma4_text"},
    "hy_v4": {"like": "deepseek_v32", "sinks": True, "latent_gate": "full", "beside": lambda c, f: ((c.n("hc_mult") * c.n("hidden_size"), 2 * c.n("hc_mult")),) * 2,
              "extra": lambda c, f: 2 * (2 * c.n("hc_mult") + 2), "types": lambda c, i, n: INDEXED, "index_types": lambda c, i, n: i == 0 or (i - 1) % 4 == 0,
              "experts": {**DEEPSEEK, "sparse": lambda c, i, n: i > 0}, "whole": lambda c: {
                  "once": ((c.n("hc_mult") * c.n("hidden_size"), c.n("hc_mult")),), "extra_once": c.n("hc_mult") + 1}},
    "zamba": {"mix": {LINEAR: mixing.mamba, HYBRID: mixing.beside_shared(mixing.mamba)}, "parts": True, "ffn": None, **PARALLEL, "types": _zamba},
    "zamba2": {"mix": {LINEAR: mixing.mamba2, HYBRID: mixing.beside_shared(mixing.mamba2)}, "ffn": None, **PARALLEL, "types": _zamba2,
               "mamba": {"groups": "mamba_ngroups", "heads": "n_mamba_heads", "width": None, "conv_bias": True,
                         "in_bias": "add_bias_linear", "out_bias": "add_bias_linear"}},
}  # fmt: skip


def _no_rope(c: Config, i: int, n: int) -> str:
    listed = c.list("no_rope_layers", n)
    rope = bool(listed[i]) if listed else bool((i + 1) % c.n("no_rope_layer_interval", 4))
    return FULL if rope else _asked_window(c, i, n)
