"""Families of causal language models: what each one's blocks are made of, as `transformers` builds them.

An entry says what differs from a LLaMA: the kinds of its blocks (`types`, `kinds`) and what mixes tokens in each (`mix`),
what attention has beside its projections (`gate`, `qk`, `sinks`, `window`), its FFN (`ffn`, `gated`) and experts, its
norms, which projections carry a bias and under which key (`bias`), what a block has besides (`extra`: parameters, `beside`:
projections) and what the model has (`whole`), and what must stand as it does for the family to be read (`only`). `like`
takes over another entry. Sizes are read under the names that a family's own class gives them; `MIXED_FAMILIES` has those
whose blocks are not attention and one FFN.
"""

from __future__ import annotations

from typing import Any

from pimllm_lib.catalog import extras
from pimllm_lib.catalog.mixed_families import MIXED_FAMILIES
from pimllm_lib.catalog.patterns import FULL, SLIDING, at_start, every, local, no_rope, qwen_window, windowed

Entry = dict[str, Any]

HEAD: Entry = {"qk": "head"}
MIXED: Entry = {"kinds": (FULL, SLIDING)}
PARALLEL: Entry = {"norms": 1}  # attention and FFN read one norm
PLAIN: Entry = {"norm": "layer", "gated": False, "bias": dict.fromkeys(("qkv", "o", "ffn"), True)}
USE_BIAS = dict.fromkeys(("qkv", "o", "ffn"), "use_bias")
#: A sum over the inputs without a gain, and no norm before the head.
BARE: Entry = {"norm": "bare rms", "final": False, "gate": "full"}

FAMILIES: dict[str, Entry] = MIXED_FAMILIES | {
    # As LLaMA's
    "llama": {}, "exaone": {}, "internlm3": {}, "iquestcoder": {}, "granite": {}, "emu3_text_model": {}, "gemma": {},
    "mistral": {"types": windowed}, "ministral3": {"types": windowed}, "phi3": {"types": windowed},
    "phi4_multimodal": {"types": windowed},
    "bitnet": {"fixed": {"sub_norms": True}},
    "arcee": {"gated": False},
    "apertus": {**HEAD, "gated": False, "extra": lambda c, f: 2 * (c.raw("hidden_act") == "xielu")},
    "apertus1p5_text": {"like": "apertus", "only": {"output_vocab_size": (None,)}},
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
    "qwen2": {**MIXED, "types": qwen_window, "bias": {"qkv": True}},
    "qwen3": {**MIXED, "types": qwen_window, **HEAD},
    "seed_oss": {"bias": {"qkv": "attention_bias", "o": "attention_out_bias", "ffn": "mlp_bias"}},
    "smollm3": {**MIXED, "types": no_rope},
    "stablelm": {"norm": "layer", "qk": ("qk_layernorm", "each"), "bias": {"qkv": "use_qkv_bias"},
                 "norms": lambda c: 1 if c.on("use_parallel_residual") else 2},
    "starcoder2": {"norm": "layer", "gated": False, "bias": USE_BIAS, "types": windowed},
    # Plain FFNs
    "gpt2": {**PLAIN, "ffn": "n_inner", "times": 4, "positions": ("n_positions", 0)},
    "gpt-sw3": {"like": "gpt2"},
    "gpt_bigcode": {"like": "gpt2", "kv": lambda c: 1 if c.on("multi_query") else c.n("num_attention_heads")},
    "openai-gpt": {**PLAIN, "ffn": extras.four_times, "final": False, "positions": ("n_positions", 0)},
    "gptj": {**PLAIN, **PARALLEL, "bias": {"ffn": True}, "ffn": "n_inner", "times": 4, "whole": extras.head_bias()},
    "codegen": {"like": "gptj"},
    "gpt_neo": {**PLAIN, "bias": {"o": True, "ffn": True}, "ffn": "intermediate_size", "times": 4, "types": local,
                "window": "window_size", "positions": ("max_position_embeddings", 0)},
    "gpt_neox": {**PLAIN, "bias": {"qkv": "attention_bias", "o": "attention_bias", "ffn": True}},
    "gpt_neox_japanese": {**PLAIN, "bias": {}, "ffn": extras.multiple("intermediate_multiple_size"),
                          "last": lambda c: c.n("hidden_size")},
    "bloom": {**PLAIN, "ffn": extras.four_times, "whole": lambda c: {"extra_once": 2 * c.n("hidden_size")}},
    "opt": {**PLAIN, "bias": dict.fromkeys(("qkv", "o", "ffn"), "enable_bias"), "ffn": "ffn_dim",
            "norm": lambda c: "layer" if c.on("layer_norm_elementwise_affine", True) else "bare",
            "final": lambda c: c.on("do_layer_norm_before", True) and not c.on("_remove_final_layer_norm"),
            "positions": ("max_position_embeddings", 2), "whole": extras.opt_widths},
    "biogpt": {**PLAIN, "positions": ("max_position_embeddings", 2)},
    "falcon": {**PLAIN, "kv": extras.falcon_heads, "bias": dict.fromkeys(("qkv", "o", "ffn"), "bias"),
               "norms": extras.falcon_norms, "ffn": "ffn_hidden_size", "times": 4},
    "mpt": {"norm": "gain", "gated": False, "bias": {}, "ffn": extras.four_times},
    "persimmon": {**PLAIN, "qk": ("qk_layernorm", "biased")},
    "phi": {**PLAIN, **PARALLEL, "qk": ("qk_layernorm", "biased"), "whole": extras.head_bias()},
    "xglm": {**PLAIN, "ffn": "ffn_dim"},
    "ctrl": {**PLAIN, "ffn": "dff", "whole": extras.head_bias()},
    # Windows in some blocks
    "cohere2": {"like": "cohere", **MIXED, "types": every("sliding_window_pattern", 4), "qk": None, "even": True},
    "cohere_compass_text": {"like": "cohere2", "types": lambda c, i, n: FULL},
    "cwm": {**MIXED, "types": at_start(4)},
    "exaone4": {**MIXED, "types": every("sliding_window_pattern"), **HEAD},
    "gemma2": {**MIXED, "types": every(2), "norms": 4},
    "gemma3_text": {**MIXED, "types": every("sliding_window_pattern", 6), **HEAD, "norms": 4,
                    "only": {"use_bidirectional_attention": (None, False)}},
    "granite_swa": {**MIXED, "types": at_start(4), "sinks": True},
    "ministral": {**MIXED, "types": windowed},
    "modernbert-decoder": {**MIXED, "types": at_start("global_attn_every_n_layers", 3), "norm": "gain",
                           "reach": lambda c: max(c.n("local_attention") // 2, 1), "only": {"norm_bias": (False,)},
                           "first": lambda c: -c.n("hidden_size"), "whole": extras.prediction_head},
    "olmo3": {"like": "olmo2", **MIXED, "types": every(4)},
    "vaultgemma": {**MIXED, "types": every(2)},
    # Blocks that work several times, embeddings in each block, a mask of its own
    "hrm_text": {**BARE, "kv": lambda c: c.n("num_attention_heads"), "turns": extras.hrm_turns,
                 "gate_bias": "attention_bias", "whole": lambda c: {"extra_once": c.n("hidden_size")}},
    "dory": {**BARE, **MIXED, "types": every(4), "turns": extras.dory_turns, "whole": extras.head_bias(),
             "only": {"recurrent_kv_cache_mode": ("per_loop",)}, "extra": extras.dory_gains},
    "gemma3n_text": {**MIXED, "types": every(5), **HEAD, "norms": 4, "ffn": extras.per_block("intermediate_size"),
                     "shares": "num_kv_shared_layers", "beside": extras.gemma3n_beside, "extra": extras.gemma3n_extra,
                     "whole": extras.gemma3n_whole},
    "doge": {**MIXED, "types": windowed, **HEAD, "only": {"is_moe": (False,)}, "extra": extras.doge_extra,
             "beside": lambda c, f: ((f["n_kv_heads"] * f["head_dim"], f["n_kv_heads"]),)},
}  # fmt: skip
