"""Families that are refused, and why; and keys that would change the shape where a family's class does not read them."""

from __future__ import annotations

from typing import Any

from pimllm_lib.catalog.configuration import Config
from pimllm_lib.core.errors import BadInput, clip

_ENCODER = "is built as an encoder or as an encoder with a decoder"
#: Classes that `transformers` lists among the causal ones and that are no decoders of text alone.
_NO_DECODER = (
    "bart bert bert-generation big_bird bigbird_pegasus blenderbot blenderbot-small camembert data2vec-text electra ernie "
    "git marian mbart megatron-bert moshi moss_transcribe_diarize musicgen musicgen_melody mvp pegasus plbart prophetnet "
    "reformer rembert roberta roberta-prelayernorm roc_bert roformer trocr whisper xlm xlm-roberta xlm-roberta-xl xlnet xmod"
)
_DRAFT = "attends to the caches of the model that it drafts for, and has none"
_SKIPS = "may send a token to experts that do nothing: how many work depends on the token"
_BEFORE = "weighs in each block the outputs of all blocks before it"
#: Family -> the reason.
REFUSED: dict[str, str] = dict.fromkeys(_NO_DECODER.split(), _ENCODER) | {
    "axk2": "makes queries and a gate from two latents together, and its norms have gates of low rank",
    "blt": "reads bytes in patches of a length that depends on the text",
    "cpmant": "puts 32 learned tokens before every text",
    "deepseek_v4": "compresses several tokens of its cache to one, by two kinds of blocks",
    "gemma4_assistant": _DRAFT,
    "gemma4_unified_assistant": _DRAFT,
    "inkling_text": "adds learned functions of the distance between tokens to its scores, and convolves keys and values",
    "inkling2_text": _BEFORE,
    "inkling2_loop_text": _BEFORE,
    "jetmoe": "has experts for queries and for the output of attention",
    "longcat_flash": _SKIPS,
    "mllama": "attends to images in some of its blocks",
    "qwen4_exp": "attends to blocks of tokens by compressed keys, and mixes several streams",
    "qwen4_exp_text": "attends to blocks of tokens by compressed keys, and mixes several streams",
    "zaya": _SKIPS,
}
#: What a TOML model needs, said where a configuration cannot be read.
INSTEAD = (
    "wanted a family that is read, or the model as TOML: d_model, d_ff, n_layers, n_heads, n_kv_heads, head_dim, "
    "vocab_size, and blocks = [{ count = 2, window = 512 }, ...] where they differ"
)
#: Composite configurations -> the family of their text.
TEXT = {
    "dots3_note": "dots3_note_text", "emu3": "emu3_text_model", "fuyu": "persimmon", "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text", "gemma4": "gemma4_text", "gemma4_unified": "gemma4_unified_text", "got_ocr2": "qwen2",
    "llama4": "llama4_text", "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text",
}  # fmt: skip
#: Keys that change a model's shape, or what it keeps, wherever they are read.
<<<<<<< HEAD
SHAPING = [
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "moe_num_experts",
    "n_shared_experts",
    "num_shared_experts",
    "moe_num_shared_experts",
    "shared_expert_intermediate_size",
    "shared_intermediate_size",
    "kv_lora_rank",
    "q_lora_rank",
    "v_head_dim",
    "qk_rope_head_dim",
    "index_topk",
    "layer_types",
    "layers_block_type",
    "mlp_layer_types",
    "block_types",
    "attention_types",
    "hybrid_override_pattern",
    "attn_layer_indices",
    "sliding_window",
    "attention_chunk_size",
    "num_kv_shared_layers",
    "mamba_d_state",
    "ssm_state_size",
    "state_size",
    "linear_num_value_heads",
    "linear_attn_config",
    "per_layer_config",
    "num_attention_heads_per_layer",
    "hidden_size_per_layer_input",
    "word_embed_proj_dim",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "attention_bias",
    "mlp_bias",
    "use_bias",
    "qkv_bias",
    "use_qk_norm",
    "qk_layernorm",
    "moe_latent_size",
    "use_qkv_bias",
    "n_recurrent_loops",
    "num_mem_blocks",
    "zero_expert_num",
]
=======
SHAPING = (
    "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "n_shared_experts",
    "num_shared_experts", "moe_num_shared_experts", "shared_expert_intermediate_size", "shared_intermediate_size",
    "kv_lora_rank", "q_lora_rank", "v_head_dim", "qk_rope_head_dim", "index_topk", "layer_types", "layers_block_type",
    "mlp_layer_types", "block_types", "attention_types", "hybrid_override_pattern", "attn_layer_indices",
    "sliding_window", "attention_chunk_size", "num_kv_shared_layers", "mamba_d_state", "ssm_state_size", "state_size",
    "linear_num_value_heads", "linear_attn_config", "per_layer_config", "num_attention_heads_per_layer",
    "hidden_size_per_layer_input", "word_embed_proj_dim", "num_key_value_heads", "head_dim", "intermediate_size",
    "attention_bias", "mlp_bias", "use_bias", "qkv_bias", "use_qk_norm", "qk_layernorm", "moe_latent_size",
    "use_qkv_bias", "n_recurrent_loops", "num_mem_blocks", "zero_expert_num",
)  # fmt: skip
_SAYS_NOTHING = (None, False, 0, 1, "", [], {})
>>>>>>> wfam
#: Keys whose value says nothing new where it is that of a field.
_SAME = {"num_key_value_heads": "n_kv_heads", "head_dim": "head_dim", "intermediate_size": "d_ff", "v_head_dim": "head_dim",
         "word_embed_proj_dim": "d_model", "sliding_window": "window"}  # fmt: skip


def require_read(c: Config, shape: dict[str, Any]) -> None:
    """Raise BadInput for a key that would change the shape, that the family's class does not have, and that says more than
    what it has.
    """
    for key in SHAPING:
        value = c.given.get(key)
        if c.knows(key) or key in c.seen or (value is not True and value in _SAYS_NOTHING):
            continue
        if key in _SAME and value == shape.get(_SAME[key]):
            continue
        if (
            isinstance(value, list)
            and key.endswith("layer_types")
            and set(map(str, value)) <= {"full_attention", "dense"}
        ):
            continue
        raise BadInput(f"{c.path}: {key} is {clip(value)}, which {c.family} does not read; {INSTEAD}")


def refuse(path: str, family: Any, known: Any) -> None:
    """Raise BadInput for a family that is not read, with the reason."""
    if not isinstance(family, str):
        raise BadInput(f"{path}: model_type is {clip(family)}; wanted one of {', '.join(sorted(known))}")
    if family in REFUSED:
        raise BadInput(f"{path}: {clip(family)} {REFUSED[family]}; {INSTEAD}")
    if family not in known:
        raise BadInput(f"{path}: unknown model_type {clip(family)}; {INSTEAD}")
