"""Small configurations of a family, drawn: sizes, patterns of blocks, experts, and flags, within what its class asks for."""

import random

#: Key -> values that it may take, whatever the family.
FREE = {
    "vocab_size": (96, 160), "intermediate_size": (24, 40, 56), "moe_intermediate_size": (8, 24), "num_hidden_layers": (3, 4, 6),
    "sliding_window": (8, 16, 64), "window_size": (8, 16), "attention_chunk_size": (8, 32), "attention_window_size": (8, 64),
    "sliding_window_size": (8, 64), "local_attention": (8, 32), "max_position_embeddings": (64, 128), "n_positions": (64, 128),
    "first_k_dense_replace": (0, 1, 2), "num_dense_layers": (0, 1, 2), "moe_layer_start_index": (0, 1), "moe_layer_interval": (1, 2),
    "decoder_sparse_step": (1, 2), "expert_layer_period": (2, 3), "expert_layer_offset": (0, 1), "attn_layer_period": (2, 3),
    "attn_layer_offset": (0, 1), "interleave_moe_layer_step": (1, 2), "shared_expert_intermediate_size": (8, 24),
    "shared_intermediate_size": (8, 16), "moe_shared_expert_intermediate_size": (8, 16), "shared_experts_intermediate_size": (8, 16),
    "intermediate_size_mlp": (16, 40), "dense_intermediate_size": (16, 40), "kv_lora_rank": (8, 16), "qk_nope_head_dim": (8, 12),
    "qk_rope_head_dim": (4, 8), "v_head_dim": (8, 20), "index_head_dim": (8, 16), "index_n_heads": (2, 4), "index_topk": (8, 16),
    "mamba_d_state": (4, 8), "ssm_state_size": (4, 8), "state_size": (4, 8), "mamba_d_conv": (2, 4), "conv_kernel": (2, 4),
    "linear_key_head_dim": (4, 8), "linear_value_head_dim": (4, 12), "linear_conv_kernel_dim": (2, 4), "linear_head_dim": (8, 16),
    "linear_num_heads": (2, 4), "short_conv_kernel_size": (2, 4), "conv_L_cache": (2, 3), "conv1d_width": (2, 4), "laurel_rank": (4, 8),
    "hidden_size_per_layer_input": (4, 8), "vocab_size_per_layer_input": (32, 64), "altup_num_inputs": (2, 4), "adapter_rank": (4, 8),
    "n_recurrent_loops": (1, 3), "n_input_layers": (1,), "n_output_layers": (0, 1), "H_cycles": (1, 2), "L_cycles": (1, 3),
    "expansion_ratio": (2, 4), "intermediate_multiple_size": (2, 4), "time_step_rank": (2, 4, "auto"), "mamba_dt_rank": (2, 4, "auto"),
    "layer_group_size": (2, 3), "sliding_window_pattern": (2, 3), "global_attn_every_n_layers": (2, 3), "hc_mult": (2, 4), "ffn_dim": (24, 40),
    "dff": (24, 40), "n_inner": (24, 40, None), "word_embed_proj_dim": (None,), "max_window_layers": (0, 2, 3), "num_ln_in_parallel_attn": (1, 2),
    "lru_width": (None,), "no_rope_layer_interval": (2, 3), "mamba_d_ssm": (None,), "moe_layer_freq": (1, 2), "num_mem_blocks": (1, 2),
    "index_topk_blocks": (2,), "index_block_size": (8,), "num_codebooks": (2,), "moe_num_shared_experts": (1, 2), "prefix_dense_intermediate_size": (None, 24),
    "prefix_dense_sliding_window_pattern": (1, 2), "ffn_round_up_to_multiple_of": (8, 16), "swiglu_limit": (7.0,), "floor_scale": (64,), "rotary_dim": (4, 8),
}  # fmt: skip
#: Flags that may be set or not.
FLAGS = """attention_bias mlp_bias use_bias qkv_bias use_qkv_bias use_qk_norm qk_layernorm tie_word_embeddings bias enable_bias
attention_out_bias parallel_attn new_decoder_architecture multi_query use_parallel_residual use_post_norm use_sliding_window
do_layer_norm_before layer_norm_elementwise_affine mamba_proj_bias mamba_conv_bias use_conv_bias projectors_bias mamba_rms_norm
conv_bias use_attention_gate use_sandwich_norm lm_head_bias decoder_bias classifier_bias use_double_wide_mlp add_bias_linear
use_shared_attention_adapter block_auto_adjust_ff_dim""".split()
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "moe_topk", "moe_k", "num_experts_per_token", "top_k_experts")
#: Kinds of blocks that a family lists, where it may list other than full and sliding attention.
KINDS = {
    "qwen3_next": "linear_attention full_attention", "qwen3_5_text": "linear_attention full_attention",
    "qwen3_5_moe_text": "linear_attention full_attention", "olmo_hybrid": "linear_attention full_attention",
    "kimi_linear": "linear_attention full_attention", "bailing_hybrid": "linear_attention full_attention",
    "minimax": "linear_attention full_attention", "lara_mini": "linear_attention full_attention sliding_attention",
    "lfm2": "conv full_attention", "lfm2_moe": "conv full_attention", "lfm3": "conv full_attention sliding_attention",
    "granitemoehybrid": "linear_attention full_attention", "llama4_text": "full_attention chunked_attention",
    "deepseek_v32": "indexed_attention", "glm_moe_dsa": "indexed_attention", "hy_v4": "indexed_attention",
    "dots3_note_text": "indexed_attention sliding_attention full_attention", "zamba": "linear_attention hybrid",
    "zamba2": "linear_attention hybrid", "nemotron_h": "linear_attention full_attention moe mlp",
    "minimax_m3_vl_text": "full_attention minimax_m3_sparse", "phi3": "full_attention",
}  # fmt: skip


def drawn(family, keys, names, padding, draw):
    """Return a configuration of a family whose class has such keys, under such other names, and that pads so; draw: a random.Random."""
    real = {alias: target for alias, target in names.items() if target in keys}

    def has(key):
        return key in keys or key in real

    heads = draw.choice((2, 4, 8))
    width = heads * draw.choice((8, 16))
    config = {"model_type": family, "hidden_size": width, "num_attention_heads": heads, **padding}
    for key, values in FREE.items():
        if key in keys or (key in real and real[key] not in FREE):
            config[key] = draw.choice(values)
    for key in FLAGS:
        if key in keys and draw.random() < 0.4:
            config[key] = draw.random() < 0.5
    config |= {
        key: draw.choice([n for n in (1, 2, heads) if heads % n == 0])
        for key in ("num_key_value_heads", "num_kv_heads")
        if key in keys
    }
    if has("head_dim") and draw.random() < 0.6:
        config["head_dim"] = draw.choice((8, 16, 24))
    blocks = config.get("num_hidden_layers", draw.choice((3, 4, 6)))
    config["num_hidden_layers"] = blocks
    experts = draw.choice((2, 4, 7))
    config |= {key: experts for key in EXPERTS if key in keys}
    config |= {key: draw.randint(1, experts) for key in CHOSEN if key in keys}
    config |= {key: 1 for key in ("n_group", "topk_group", "num_expert_group") if key in keys}
    config |= {key: draw.choice((0, 1, 2)) for key in ("n_shared_experts", "num_shared_experts") if key in keys}
    listed = KINDS.get(family, "full_attention sliding_attention").split()
    if has("layer_types") and draw.random() < 0.5:
        config["layer_types"] = [draw.choice(listed) for _ in range(blocks)]
    if "mlp_layer_types" in keys and draw.random() < 0.4:
        config["mlp_layer_types"] = [draw.choice(("sparse", "dense")) for _ in range(blocks)]
    config |= SPECIAL.get(family, lambda *_: {})(config, draw)
    return {key if key in keys else real.get(key, key): value for key, value in config.items()}


def _mamba2(heads_key, width_key, groups_key):
    def sizes(config, draw):
        heads = draw.choice((2, 4))
        expand = draw.choice((1, 2))
        return {heads_key: heads, width_key: expand * config["hidden_size"] // heads, groups_key: draw.choice((1, 2)),
                ("mamba_expand" if "mamba" in groups_key else "expand"): expand}  # fmt: skip

    return sizes


def _delta(config, draw):
    keys = draw.choice((2, 4))
    return {"linear_num_key_heads": keys, "linear_num_value_heads": keys * draw.choice((1, 2))}


def _latent(config, draw):
    heads = config["num_attention_heads"]
    return {"num_key_value_heads": heads, "q_lora_rank": draw.choice((None, 8, 16))}


def _indexed(config, draw):
    return {
        "num_key_value_heads": config["num_attention_heads"],
        "q_lora_rank": draw.choice((8, 16)),
        "qk_rope_head_dim": 8,
    }


def _listed(*kinds, least=()):
    """Return a list of kinds in which some stand at the least."""

    def sizes(config, draw):
        found = [draw.choice(kinds) for _ in range(config["num_hidden_layers"] - len(least))]
        return {"layers_block_type" if config["model_type"].startswith("zamba") else "layer_types": [*least, *found]}

    return sizes


def _all(*parts):
    def sizes(config, draw):
        found = {}
        for part in parts:
            found |= part(config | found, draw)
        return found

    return sizes


def _fixed(**values):
    return lambda config, draw: dict(values)


def _nemotron(config, draw):
    config.pop("layer_types", None)
    config.pop("num_hidden_layers")
    kinds = ["full_attention", "linear_attention", *(draw.choice(KINDS["nemotron_h"].split()) for _ in range(3))]
    return {"layers_block_type": kinds, "mamba_num_heads": draw.choice((2, 4)),
            "mamba_head_dim": draw.choice((8, 16)), "n_groups": draw.choice((1, 2)), "moe_latent_size": None, "n_shared_experts": 1}  # fmt: skip


def _gemma4(config, draw):
    moe = draw.random() < 0.5 and config["model_type"] == "gemma4_text"
    found = {
        "layer_types": None,
        "num_hidden_layers": 7,
        "num_kv_shared_layers": draw.choice((0, 0)),
        "global_head_dim": 16,
    }
    return found | (
        {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 8} if moe else {}
    )


#: What a family asks for besides.
SPECIAL = {
    "bamba": _all(_mamba2("mamba_n_heads", "mamba_d_head", "mamba_n_groups"), lambda c, d: {
        "attn_layer_indices": [0, *([2] if d.random() < 0.5 else [])], "layer_types": None}),
    "granitemoehybrid": _all(_mamba2("mamba_n_heads", "mamba_d_head", "mamba_n_groups"), _listed("linear_attention", "full_attention", least=("full_attention",))),
    "falcon_h1": _all(_mamba2("mamba_n_heads", "mamba_d_head", "mamba_n_groups"), _fixed(layer_types=None)),
    "mamba2": _all(_mamba2("num_heads", "head_dim", "n_groups"), _fixed(layer_types=None)),
    "nemotron_h": _nemotron,
    "jamba": _fixed(layer_types=None, use_mamba_kernels=False), "mamba": _fixed(layer_types=None), "falcon_mamba": _fixed(layer_types=None),
    "zamba": _all(_listed("linear_attention", "hybrid", least=("linear_attention", "hybrid")), _fixed(layer_types=None, head_dim=None, use_mamba_kernels=False)),
    "zamba2": _all(_listed("linear_attention", "hybrid", least=("linear_attention", "hybrid", "hybrid")), _fixed(
        layer_types=None, head_dim=None, use_mamba_kernels=False, n_mamba_heads=4)),
    "recurrent_gemma": _fixed(layer_types=None, head_dim=None, num_key_value_heads=1),
    "qwen3_next": _delta, "qwen3_5_text": _delta, "qwen3_5_moe_text": _delta, "olmo_hybrid": _delta, "lara_mini": _delta,
    "minimax": _listed("linear_attention", "full_attention", least=("full_attention",)),
    "lfm2_moe": _listed("conv", "full_attention", least=("full_attention",)),
    "kimi_linear": _all(_latent, _fixed(num_hidden_layers=6, layer_types=None, mlp_layer_types=None)), "bailing_hybrid": _latent, "deepseek_v2": _latent, "deepseek_v3": _latent, "sarvam_mla": _latent,
    "glm4_moe_lite": _latent, "axk1": _latent, "minicpm3": _latent, "youtu": _latent,
    "deepseek_v32": _indexed, "glm_moe_dsa": _indexed, "hy_v4": _indexed,
    "dots3_note_text": _all(_indexed, _fixed(swa_num_attention_heads=2, swa_num_key_value_heads=2, swa_q_lora_rank=8,
                                             swa_kv_lora_rank=8, swa_qk_nope_head_dim=8, swa_v_head_dim=8)),
    "gemma3n_text": _fixed(num_hidden_layers=6, layer_types=None, num_kv_shared_layers=0, activation_sparsity_pattern=None),
    "gemma4_text": _gemma4, "gemma4_unified_text": _gemma4,
    "gpt_neo": lambda c, d: {"attention_types": [[["global", "local"], 2]], "num_hidden_layers": 4},
    "dory": _fixed(num_hidden_layers=4, layer_types=None), "ernie4_5_moe": _fixed(moe_layer_end_index=-1),
    "hrm_text": _fixed(num_layers_per_stack=None), "cohere2": _fixed(head_dim=None), "cohere_compass_text": _fixed(
        head_dim=None, layer_types=["full_attention"] * 3, num_hidden_layers=3,
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 10000.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
    "mimo_v2_flash": lambda c, d: {"num_attention_heads": 8, "num_key_value_heads": d.choice((1, 2, 4))},
    "dbrx": lambda c, d: {"tie_word_embeddings": False, "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}, "ffn_config": {
        "ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2}},
    "rwkv": _fixed(attention_hidden_size=None),
    "xlstm": lambda c, d: {"num_heads": 2, "hidden_size": 128, "num_attention_heads": None, "embedding_dim": None, "num_blocks": None},
    "opt": lambda c, d: {"word_embed_proj_dim": d.choice((None, 24))},
    "laguna": lambda c, d: {"num_attention_heads_per_layer": [d.choice((2, 4, 8)) for _ in range(c["num_hidden_layers"])], "num_key_value_heads": 2},
    "mpt": _fixed(), "doge": _fixed(is_moe=False), "hunyuan_v1_dense": _fixed(head_dim=16), "hunyuan_v1_moe": _fixed(head_dim=16),
    "ministral": _fixed(head_dim=16, layer_types=None), "openai-gpt": _fixed(),
}  # fmt: skip


def variants(families, each, seed=7):
    """Yield configurations drawn from {family: (keys, names)}, so many of each family."""
    for family, (keys, names, padding) in families.items():
        draw = random.Random(f"{seed} {family}")
        for _ in range(each):
            yield {
                key: value
                for key, value in drawn(family, keys, names, padding, draw).items()
                if value is not None or key in keys
            }
