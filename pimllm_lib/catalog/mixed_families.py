"""Families whose blocks have experts, latents, or mixers other than attention: entries as `families` explains them."""

from __future__ import annotations

from typing import Any

from pimllm_lib.catalog import extras, mixing, patterns
from pimllm_lib.catalog.feedforward import times
from pimllm_lib.catalog.mixing import attention, delta, latent, mamba, mamba2
from pimllm_lib.catalog.patterns import CHUNKED, FULL, HYBRID, INDEXED, LINEAR, SLIDING, after, at_start, every

Entry = dict[str, Any]

HEAD: Entry = {"qk": "head"}
MIXED: Entry = {"kinds": (FULL, SLIDING)}
UNTIED: Entry = {"fixed": {"tied_embeddings": False}}  # whatever the flag says
#: Keys of experts where they are not num_experts, num_experts_per_tok and moe_intermediate_size.
LOCAL = {"n": "num_local_experts", "width": "intermediate_size"}
DEEPSEEK = {"n": "n_routed_experts", "shared": times("n_shared_experts"), "sparse": after("first_k_dense_replace")}
KIMI = {"k": "num_experts_per_token", "shared": times("num_shared_experts")}
SHARED = {"shared": "shared_expert_intermediate_size"}
LATENT: Entry = {"mix": latent, "experts": DEEPSEEK}
CHOSEN: Entry = {"mix": {INDEXED: mixing.indexed}, "bias": {}, "experts": DEEPSEEK}
QWEN_NEXT: Entry = {**HEAD, "gate": "full", "gate_bias": "attention_bias", "mix": {LINEAR: delta, FULL: attention},
                    "types": every("full_attention_interval", 4, first=LINEAR)}  # fmt: skip
CONVOLVED: Entry = {**HEAD, "bias": {}, "mix": {"conv": mixing.short_convolution, FULL: attention, SLIDING: attention}}
ALONE: Entry = {"ffn": None, "norms": 1}  # a mixer with no FFN behind it
MAMBA = {"state": "state_size", "kernel": "conv_kernel", "expand": "expand", "rank": "time_step_rank",
         "conv_bias": "use_conv_bias", "in_bias": "use_bias", "out_bias": "use_bias"}  # fmt: skip

MIXED_FAMILIES: dict[str, Entry] = {
    # Experts in all blocks
    "mixtral": {"experts": LOCAL, "types": patterns.windowed},
    "phimoe": {"like": "mixtral", "only": {"num_experts_per_tok": (2,)}, "norm": "layer",
               "whole": extras.head_bias("lm_head_bias")},
    "minimax_m2": {"experts": LOCAL, "qk": "wide"},
    "granitemoe": {"experts": LOCAL},
    "granitemoeshared": {"experts": {**LOCAL, "shared": "shared_intermediate_size"}},
    "granitemoe_swa": {"like": "granitemoeshared", **MIXED, "types": at_start(4), "sinks": True},
    "olmoe": {"experts": {"width": "intermediate_size"}, "qk": "wide"},
    "flex_olmo": {"like": "olmoe"},
    "gpt_oss": {**MIXED, "types": every(2), "sinks": True, "experts": {**LOCAL, "beside": extras.biased_experts}},
    "aria_text": {"experts": {"n": "moe_num_experts", "k": "moe_topk", "width": "intermediate_size",
                              "shared": times("moe_num_shared_experts")}},
    "solar_open": {"bias": {"qkv": "attention_bias"}, "experts": {**DEEPSEEK, "sparse": after("", 0)}},
    "kolibri1": {**MIXED, "types": every(5), **HEAD, "norms": 4, "experts": {"n": "num_local_experts", **SHARED}},
    "hunyuan_v1_moe": {**HEAD, "experts": {"k": "moe_topk", "width": "intermediate_size", "shared": "intermediate_size"}},
    "dbrx": {"norm": "gain", "kv": lambda c: c.inner("attn_config").n("kv_n_heads", 1), "experts": extras.dbrx_experts},
    # Experts in some blocks
    "qwen3_moe": {**MIXED, "types": patterns.asked_window, **HEAD, "experts": {"sparse": patterns.sparse_step}},
    "qwen2_moe": {**MIXED, "types": patterns.alternating_window, "bias": {"qkv": "qkv_bias"},
                  "experts": {**SHARED, "sparse": patterns.sparse_step, "gate": True}},
    "afmoe": {**MIXED, "types": every("global_attn_every_n_layers", 4), **HEAD, "gate": "full", "norms": 4, "experts": {
        "sparse": after("num_dense_layers"), "shared": times("num_shared_experts"), "beside": extras.score}},
    "beam": {**MIXED, "types": patterns.beam, **HEAD, "gate": "full", "norms": 4, "extra": lambda c, f: f["n_heads"],
             "experts": {"sparse": after("", 3)}},
    "cohere2_moe": {**MIXED, "types": patterns.prefixed, "norms": 1, "norm": "gain",
                    "ffn": lambda c, i: c.n("prefix_dense_intermediate_size", c.n("intermediate_size")),
                    "experts": {"width": "intermediate_size", "shared": times("num_shared_experts"),
                                "sparse": after("first_k_dense_replace")}},
    "dots1": {**MIXED, "types": patterns.late_window, **HEAD, "experts": DEEPSEEK},
    "ernie4_5_moe": {"bias": dict.fromkeys(("qkv", "o", "ffn"), "use_bias"), "whole": extras.head_bias("use_bias"), "experts": {
        "n": "moe_num_experts", "k": "moe_k", "shared": times("moe_num_shared_experts"), "beside": extras.score,
        "sparse": patterns.ernie}},
    "exaone_moe": {**MIXED, "types": every("sliding_window_pattern"), **HEAD, "experts": {
        "sparse": after("first_k_dense_replace"), "shared": times("num_shared_experts")}},
    "flint": {**MIXED, "types": patterns.flint, **HEAD, "sinks": True, "experts": {**SHARED, "sparse": patterns.flint_sparse}},
    "glm4_moe": {"uneven": True, "qk": ("use_qk_norm", "head"), "bias": {"qkv": "attention_bias"}, "experts": DEEPSEEK},
    "sarvam_moe": {"like": "glm4_moe"},
    "hy_v3": {**HEAD, "experts": {"sparse": after("", 1), "shared": extras.shared_or_dense}},
    "laguna": {**MIXED, **HEAD, "gate": extras.laguna_gate, "heads": "num_attention_heads_per_layer", "experts": {
        **SHARED, "sparse": after("", 1), "beside": extras.score}},
    "llama4_text": {"kinds": (FULL, CHUNKED), "types": patterns.llama4_window, "ffn": "intermediate_size_mlp", "experts": {
        **LOCAL, "shared": "intermediate_size", "sparse": patterns.llama4_experts}},
    "mellum": {**MIXED, **HEAD, "experts": {}},
    "mimo_v2_flash": {**MIXED, "bias": {"qkv": "attention_bias"}, "types": patterns.mimo, "sinks": SLIDING, "double_kv": SLIDING, "values": "v_head_dim",
                      "experts": {"n": "n_routed_experts", "sparse": after("", 1)}},
    "minimax_m3_vl_text": {**HEAD, "mix": {FULL: attention, "minimax_m3_sparse": mixing.block_indexed},
                           "ffn": "dense_intermediate_size", "experts": {**LOCAL, "shared": "shared_intermediate_size"}},
    "gemma4_text": {**MIXED, "types": patterns.gemma4, "last_kind": FULL, **HEAD, "norms": 4, "expert_norms": 3,
                    "shares": "num_kv_shared_layers", "overlay": extras.gemma4_overlay, "ffn": extras.gemma4_width,
                    "beside": extras.per_layer_input, "extra": extras.gemma4_extra, "whole": extras.per_layer_table,
                    "experts": {"k": "top_k_experts", "sparse": lambda c, i, n: c.on("enable_moe_block"), "dense_too": True,
                                "beside": lambda c, n, w: n + c.n("hidden_size")},
                    "only": {"use_bidirectional_attention": (None, "vision", False), "attention_k_eq_v": (None, False)}},
    "gemma4_unified_text": {"like": "gemma4_text", "experts": None},
    # Latent attention
    "deepseek_v2": LATENT, "deepseek_v3": LATENT, "sarvam_mla": LATENT,
    "minicpm3": {"mix": latent}, "youtu": {"mix": latent},
    "glm4_moe_lite": {"mix": latent, "experts": {**DEEPSEEK, "sparse": after("first_k_dense_replace", 1)}},
    "axk1": {"mix": latent, "experts": {**DEEPSEEK, "sparse": patterns.every_so_many}, "expert_norms": 1},
    "deepseek_v32": CHOSEN,
    "glm_moe_dsa": {**CHOSEN, "index_types": patterns.glm_index},
    "hy_v4": {**CHOSEN, "sinks": True, "latent_gate": "full", "index_types": lambda c, i, n: i == 0 or (i - 1) % 4 == 0,
              "experts": {**DEEPSEEK, "sparse": after("", 1)}, "beside": extras.streams_beside,
              "extra": lambda c, f: 2 * (2 * c.n("hc_mult") + 2), "whole": extras.streams},
    "dots3_note_text": {"bias": {}, "mix": {INDEXED: mixing.indexed, SLIDING: latent, FULL: latent}, "types": patterns.dots3,
                        "rename": {FULL: INDEXED}, "overlay": extras.dots3_overlay, "latent_gate": "head", "rope_norm": 1,
                        "only": {"use_dsa": (None, True)}, "experts": {
                            "n": "n_routed_experts", "shared": extras.dots3_shared, "sparse": patterns.every_so_many}},
    # Linear attention
    "qwen3_next": {**QWEN_NEXT, "experts": {**SHARED, "sparse": patterns.sparse_step, "gate": True}},
    "qwen3_5_text": QWEN_NEXT,
    "qwen3_5_moe_text": {**QWEN_NEXT, "experts": {**SHARED, "gate": True}},
    "lara_mini": {**HEAD, "mix": {LINEAR: delta, SLIDING: attention, FULL: attention}, "types": patterns.lara,
                  "experts": SHARED},
    "olmo_hybrid": {"qk": "wide", "mix": {LINEAR: delta, FULL: attention}, "types": patterns.olmo_hybrid},
    "kimi_linear": {**UNTIED, "mix": {LINEAR: mixing.kimi_delta, FULL: latent}, "low_rank": True, "types": patterns.kimi,
                    "experts": {**KIMI, "sparse": after("first_k_dense_replace", 1)}},
    "bailing_hybrid": {**UNTIED, "mix": {LINEAR: mixing.kimi_delta, FULL: latent}, "low_rank": False, "latent_gate": "head",
                       "types": every("layer_group_size", first=LINEAR),
                       "experts": {**KIMI, "sparse": after("first_k_dense_replace")}},
    "minimax": {"mix": {FULL: attention, LINEAR: mixing.lightning}, "types": every(2, first=FULL, then=LINEAR),
                "experts": LOCAL},
    "lfm2": {**CONVOLVED, "types": patterns.lfm2, "ffn": extras.lfm2_width},
    "lfm2_moe": {**CONVOLVED, "types": patterns.must_list, "experts": {"sparse": after("num_dense_layers")}},
    "lfm3": {**CONVOLVED, "types": patterns.lfm3, "bias": {"qkv": "attention_bias", "o": "attention_bias"},
             "gate": ("use_attention_gate", "head"), "norms": lambda c: 4 if c.on("use_sandwich_norm") else 2},
    # State spaces and recurrences
    "mamba": {**ALONE, "mix": {LINEAR: mamba}, "mamba": MAMBA},
    "falcon_mamba": {"like": "mamba"},
    "mamba2": {**ALONE, "mix": {LINEAR: mamba2}, "mamba": {
        **MAMBA, "groups": "n_groups", "heads": "num_heads", "width": "head_dim"}},
    "bamba": {"mix": {LINEAR: mamba2, FULL: attention}, "types": patterns.bamba},
    "granitemoehybrid": {"mix": {LINEAR: mamba2, FULL: attention}, "ffn": "shared_intermediate_size", "experts": {
        **LOCAL, "shared": "shared_intermediate_size", "sparse": lambda c, i, n: c.n("num_local_experts", 0, least=0) > 0}},
    "falcon_h1": {"mix": {HYBRID: mixing.both(attention, mamba2)}, "mamba": {
        "norm": "mamba_rms_norm", "out_bias": "projectors_bias", "wide": "mamba_d_ssm"}},
    "jamba": {"mix": {LINEAR: mamba, FULL: attention}, "inner_norms": True, "types": patterns.jamba,
              "experts": {"width": "intermediate_size", "sparse": patterns.jamba_experts}},
    "nemotron_h": {**UNTIED, "mix": {LINEAR: mamba2, FULL: attention, "moe": mixing.nothing, "mlp": mixing.nothing},
                   "listed": patterns.nemotron, "ffn_in": ("mlp", "moe"), "norms": 1, "gated": False,
                   "bias": {"ffn": "mlp_bias"}, "only": {"moe_latent_size": (None,)},
                   "mamba": {**MAMBA, "state": "ssm_state_size", "groups": "n_groups", "heads": "mamba_num_heads",
                             "width": "mamba_head_dim", "by_heads": True},
                   "experts": {"n": "n_routed_experts", "shared": "moe_shared_expert_intermediate_size"}},
    "zamba": {**ALONE, "mix": {LINEAR: mamba, HYBRID: mixing.beside_shared(mamba)}, "parts": True, "types": patterns.zamba},
    "zamba2": {**ALONE, "mix": {LINEAR: mamba2, HYBRID: mixing.beside_shared(mamba2)}, "types": patterns.zamba2, "mamba": {
        "groups": "mamba_ngroups", "heads": "n_mamba_heads", "width": None, "conv_bias": True,
        "in_bias": "add_bias_linear", "out_bias": "add_bias_linear"}},
    "recurrent_gemma": {"mix": {LINEAR: mixing.gated_recurrence, SLIDING: attention}, "types": patterns.recurrent_gemma,
                        "even": True, "window": "attention_window_size", "ffn": lambda c, i: c.n("intermediate_size") // 2,
                        "bias": {"qkv": "attention_bias", "o": True, "ffn": True}},
    "rwkv": {"mix": mixing.rwkv, "norm": "layer", "gated": False, "ffn": "intermediate_size", "times": 4,
             "whole": lambda c: {"extra_once": 2 * c.n("hidden_size")}},
    "xlstm": {**UNTIED, "bias": {"ffn": "use_bias"}, "mix": mixing.xlstm, "ffn": extras.xlstm_width,
              "only": {"weight_mode": ("single",), "add_out_norm": (True,)}},
}  # fmt: skip
