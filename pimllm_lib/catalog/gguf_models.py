"""Decoders from the headers of GGUF files: sizes from their metadata, precisions from the types of their tensors."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np

from pimllm_lib.catalog.gguf import Header, Kind, Tensor, header
from pimllm_lib.catalog.models import from_mapping
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.workload.decoder import Decoder
from pimllm_lib.workload.shapes import parameter_count

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
#: Key of a Hugging Face configuration -> key of the metadata, where families agree.
_COMMON = {
    "hidden_size": "embedding_length", "num_hidden_layers": "block_count", "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length", "max_position_embeddings": "context_length", "rope_theta": "rope.freq_base",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon", "sliding_window": "attention.sliding_window",
}  # fmt: skip
_NEEDED = ("embedding_length", "block_count", "attention.head_count")
_WIDTHS = ("feed_forward_length", "expert_feed_forward_length")
_EXPERTS = {"num_experts_per_tok": "expert_used_count", "moe_intermediate_size": "expert_feed_forward_length"}
_SHARED = {"num_experts": "expert_count", "shared_expert_intermediate_size": "expert_shared_feed_forward_length"}
_LINEAR = {
    "linear_conv_kernel_dim": "ssm.conv_kernel", "linear_key_head_dim": "ssm.state_size",
    "linear_num_key_heads": "ssm.group_count", "linear_num_value_heads": "ssm.time_step_rank",
    "full_attention_interval": "full_attention_interval",
}  # fmt: skip
_MAMBA = {
    "mamba_d_conv": "ssm.conv_kernel", "mamba_d_state": "ssm.state_size", "mamba_n_groups": "ssm.group_count",
    "mamba_n_heads": "ssm.time_step_rank", "mamba_d_ssm": "ssm.inner_size",
}  # fmt: skip
_GPT2 = {
    "n_embd": "embedding_length", "n_layer": "block_count", "n_head": "attention.head_count",
    "n_positions": "context_length", "n_inner": "feed_forward_length", "layer_norm_epsilon": "attention.layer_norm_epsilon",
}  # fmt: skip
#: Architecture -> model type of the configuration, activation, further keys. Names are those of llama.cpp, and of
#: microsoft/BitNet's fork for `bitnet-b1.58` and `bitnet-25`, whose graphs square the ReLU.
FAMILIES: dict[str, tuple[str, str, dict[str, str]]] = {
    "llama": ("llama", "silu", {}),
    "minicpm": ("llama", "silu", {}),  # scales of its embedding, residuals and logits change no shape
    "bitnet": ("bitnet", "silu", {}),
    "bitnet-25": ("bitnet", "relu2", {}),
    "bitnet-b1.58": ("bitnet", "relu2", {}),
    "qwen2": ("qwen2", "silu", {}),
    "qwen3": ("qwen3", "silu", {}),
    "qwen3moe": ("qwen3_moe", "silu", {"num_experts": "expert_count"} | _EXPERTS),
    "phi3": ("phi3", "silu", {}),
    "gpt2": ("gpt2", "gelu_new", _GPT2),
    "gemma": ("gemma", "gelu_pytorch_tanh", {}),
    "gemma2": ("gemma2", "gelu_pytorch_tanh", {}),
    "gemma3": ("gemma3_text", "gelu_pytorch_tanh", {}),
    "olmo": ("olmo", "silu", {}),
    "olmo2": ("olmo2", "silu", {}),
    "granite": ("granite", "silu", {}),
    "smollm3": ("smollm3", "silu", {}),
    "ernie4_5": ("ernie4_5", "silu", {}),
    "seed_oss": ("seed_oss", "silu", {}),
    "starcoder2": ("starcoder2", "gelu_pytorch_tanh", {}),
    "stablelm": ("stablelm", "silu", {}),
    "phi2": ("phi", "gelu_new", {}),
    "gptneox": ("gpt_neox", "gelu", {}),
    "command-r": ("cohere", "silu", {}),
    "cohere2": ("cohere2", "silu", {}),
    "glm4": ("glm4", "silu", {}),
    "exaone4": ("exaone4", "silu", {}),
    "arcee": ("arcee", "relu2", {}),
    "apertus": ("apertus", "xielu", {}),
    "olmoe": ("olmoe", "silu", {"num_experts": "expert_count"} | _EXPERTS),
    "granitemoe": ("granitemoe", "silu", {"num_local_experts": "expert_count"} | _EXPERTS),
    "gpt-oss": ("gpt_oss", "silu", {"num_local_experts": "expert_count", "num_experts_per_tok": "expert_used_count"}),
    "qwen2moe": ("qwen2_moe", "silu", _SHARED | _EXPERTS),
    "qwen3next": ("qwen3_next", "silu", _SHARED | _EXPERTS | _LINEAR),
    "qwen35": ("qwen3_5_text", "silu", _LINEAR),
    "qwen35moe": ("qwen3_5_moe_text", "silu", _SHARED | _EXPERTS | _LINEAR),
    "falcon-h1": ("falcon_h1", "silu", _MAMBA),
}
#: Keys that may have a value for each block -> the field of a Decoder that they are.
_BY_BLOCK = {
    "attention.head_count": "n_heads", "attention.head_count_kv": "n_kv_heads", "feed_forward_length": "d_ff",
}  # fmt: skip
#: Name of a matrix within a block -> the projections it is; experts of a kind lie in one tensor.
_OPS = {
    "attn_q": ("q",), "attn_k": ("k",), "attn_v": ("v",), "attn_qkv": ("q", "k", "v"), "attn_output": ("x",),
    "ffn_gate": ("gate",), "ffn_up": ("ff1",), "ffn_down": ("ff2",), "ffn_gate_exps": ("gate",), "ffn_up_exps": ("ff1",),
    "ffn_down_exps": ("ff2",), "ffn_gate_shexp": ("shared_gate",), "ffn_up_shexp": ("shared_ff1",),
    "ffn_down_shexp": ("shared_ff2",), "attn_q_a": ("q_down",), "attn_q_b": ("q",), "attn_kv_a_mqa": ("k",),
    "attn_k_b": ("k_up",), "attn_v_b": ("v_up",), "ssm_in": ("mix_in",), "ssm_out": ("mix_out",),
}  # fmt: skip
#: Projections of which one has a bias where queries, keys and values, the output of attention, and the FFN have.
_BIASED = (("attn_q", "attn_qkv"), ("attn_output",), ("ffn_up", "ffn_down"))
#: Bytes of a matrix that are looked at, to see whether its scales differ, and whether a fourth value is in use.
PEEK = 1 << 16
#: More values than these are no weights of few bits; the most that a number of 8 bits has.
FEW, MOST = 16, 256


def from_gguf(path: Path) -> Decoder:
    """Return the decoder in a GGUF file, by its header and a look at the first 64 KiB of a matrix of each kind.

    Raises BadInput, in one line, for what is no such file, an architecture that is not known, and metadata that are not
    of the tensors.
    """
    return decoder(header(path))


def decoder(found: Header) -> Decoder:
    """Return the decoder that a header describes."""
    path, name = str(found.path), found.path.stem
    made = _by_block(found, from_mapping(configuration(found), path, name))
    wanted, got = parameter_count(made), parameters(found)
    if not 0.99 * got <= wanted <= 1.01 * got:
        what = f"tensors with {got} parameters, and its metadata make {wanted} of {found.family}"
        raise BadInput(f"{path} has {what}; wanted the same")
    return replace(made, **precision(found) | _biases(found))


def _biases(found: Header) -> dict[str, Any]:
    """Return which projections carry a bias, where it is one of the choices of a Decoder: the tensors say it."""
    there = [any(f"blk.0.{name}.bias" in found.tensors for name in names) for names in _BIASED]
    named = {(0, 0, 0): "none", (1, 0, 0): "qkv", (1, 1, 0): "attention", (1, 1, 1): "all"}
    return {"linear_bias": named[key]} if (key := tuple(map(int, there))) in named else {}


def parameters(found: Header) -> int:
    """Return the numbers in all tensors, but for those of rotary positions, which are no parameters."""
    return sum(prod(tensor.shape) for name, tensor in found.tensors.items() if not name.startswith("rope_"))


def configuration(found: Header) -> dict[str, Any]:
    """Return the metadata as a Hugging Face configuration. Raises BadInput for an architecture that is not known."""
    family = found.family
    if family not in FAMILIES:
        what = f"{found.path} has the architecture {clip(family)}; wanted one of {', '.join(FAMILIES)}"
        raise BadInput(f"{what}; for another, its sizes as a TOML model: d_model, d_ff, n_layers, n_heads and so on")
    model_type, activation, more = FAMILIES[family]
    if family == "llama" and found.value("expert_count"):
        model_type, more = "mixtral", {"num_local_experts": "expert_count"} | _EXPERTS
    table = _needed(found, EMBEDDING)
    for key in (*_NEEDED, _WIDTHS[found.value(_WIDTHS[0]) is None and found.value(_WIDTHS[1]) is not None]):
        if found.value(key) is None:  # a class of transformers has sizes of its own for what a configuration leaves out
            raise BadInput(f"{found.path} has no {family}.{key}; wanted a whole number of at least 1")
    given = {theirs: _plain(found, ours) for theirs, ours in (_COMMON | more).items()}
    config = {key: value for key, value in given.items() if value is not None}
    heads, width = found.value("attention.head_count"), found.value("embedding_length")
    if "head_dim" not in config and isinstance(heads, int) and isinstance(width, int) and heads:
        config["head_dim"] = width // heads
    inner, states = found.value("ssm.inner_size"), found.value("ssm.time_step_rank")
    if "ssm.state_size" in more.values() and isinstance(inner, int) and isinstance(states, int) and states:
        config["mamba_d_head" if more is _MAMBA else "linear_value_head_dim"] = inner // states
    return config | {
        "model_type": model_type, "hidden_act": activation, "vocab_size": table.shape[0], "rope_scaling": _scaling(found),
        "tie_word_embeddings": HEAD not in found.tensors, "attention_bias": "blk.0.attn_output.bias" in found.tensors,
    }  # fmt: skip


def _needed(found: Header, name: str) -> Tensor:
    if name not in found.tensors:
        raise BadInput(f"{found.path} has no tensor {name}; wanted a language model")
    return found.tensors[name]


def _plain(found: Header, key: str) -> Any:
    """Return a value, of a list by block the largest one: what differs is put right afterwards."""
    value = found.value(key)
    if isinstance(value, tuple) and key in _BY_BLOCK and value and all(isinstance(item, int) for item in value):
        return max(value)
    return value


def _scaling(found: Header) -> dict[str, Any] | None:
    """Return how rotary positions are scaled, as a configuration says it; factors may be in a tensor, too."""
    kind = found.value("rope.scaling.type")
    if kind in (None, "none"):
        return None
    keys = {"factor": "rope.scaling.factor", "original_max_position_embeddings": "rope.scaling.original_context_length"}
    return {"rope_type": kind} | {key: found.value(ours) for key, ours in keys.items() if found.value(ours) is not None}


def _by_block(found: Header, made: Decoder) -> Decoder:
    """Return a decoder with kinds of blocks where the metadata have lists of sizes that differ."""
    lists = {field: found.value(key) for key, field in _BY_BLOCK.items() if isinstance(found.value(key), tuple)}
    differing = {field: values for field, values in lists.items() if len(set(values)) > 1}
    if not differing:
        return made
    for field, values in differing.items():
        if len(values) != made.n_layers or made.blocks or not all(values):
            what = f"{len(values)} values, such as {clip(list(values))}"
            raise BadInput(
                f"{found.path}: {field} has {what}; wanted one of at least 1 for each of {made.n_layers} blocks"
            )
    counts = Counter(zip(*differing.values(), strict=True))
    blocks = tuple({"count": count, **dict(zip(differing, sizes, strict=True))} for sizes, count in counts.items())
    return replace(made, blocks=blocks)


def precision(found: Header) -> dict[str, Any]:
    """Return the fields of a Decoder that say how many values its weights take, and which inputs share a scale.

    A projection has those of the type that holds most of it. Most weights of few bits say `levels`; projections of more bits
    are dense. In floats alone, nothing is said: what they will be is not known.
    """
    sizes: dict[str, Counter[Kind]] = {}
    firsts: dict[tuple[str, Kind], Tensor] = {}
    for name, tensor in found.tensors.items():
        for op in operations(name):
            sizes.setdefault(op, Counter())[tensor.kind] += prod(tensor.shape)
            firsts.setdefault((op, tensor.kind), tensor)
    seen = {op: looked_at(firsts[op, kinds.most_common(1)[0][0]]) for op, kinds in sizes.items()}
    heads = {"embedding_levels": EMBEDDING, "head_levels": HEAD if HEAD in found.tensors else EMBEDDING}
    said: dict[str, Any] = {field: levels(_needed(found, name)) for field, name in heads.items()}
    weights: Counter[int] = Counter()
    for op, (number, _) in seen.items():
        weights[number] += sizes[op].total() if 0 < number <= MOST else 0
    few = Counter({number: size for number, size in weights.items() if size and number <= FEW}) or weights
    if not few.total():
        return said
    base = few.most_common(1)[0][0]
    dense = tuple(op for op, (number, _) in seen.items() if not 0 < number <= base)
    groups = [group for op, (_, group) in seen.items() if op not in dense]
    return said | {"levels": base, "scale_group": min(groups), "dense": dense}


def operations(name: str) -> tuple[str, ...]:
    """Return the projections that a tensor is, by its name; none for norms, biases, tables and the head."""
    block, _, rest = name.removeprefix("blk.").partition(".")
    return _OPS.get(rest.removesuffix(".weight"), ()) if block.isdecimal() and rest.endswith(".weight") else ()


def levels(tensor: Tensor) -> int:
    """Return the values that a table's numbers take, at most those of 8 bits."""
    number = looked_at(tensor)[0]
    return number if 0 < number <= MOST else MOST


def looked_at(tensor: Tensor) -> tuple[int, float]:
    """Return the values that weights take, and the inputs that share a scale, as the first bytes of a matrix have them.

    A type with a scale for each few weights may hold a matrix with one for all; two bits may hold three values. Raises
    BadInput where the file cannot be read.
    """
    kind = tensor.kind
    last = kind.name in ("TQ1_0", "TQ2_0", "PTQ1_0")
    if kind.tail or not (last or kind.name in ("Q2_0", "PQ2_0")):
        return kind.levels, kind.group
    row = tensor.shape[-1] // kind.weights
    rows = max(min(PEEK // (row * kind.size), prod(tensor.shape[:-1])), 1)
    try:
        raw = np.fromfile(tensor.path, np.uint8, rows * row * kind.size, offset=tensor.start).reshape(-1, kind.size)
    except (OSError, ValueError) as error:
        raise BadInput(f"{tensor.path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    scales, codes = (raw[:, -2:], raw[:, :-2]) if last else (raw[:, :2], raw[:, 2:])
    four = kind.levels == 4 and bool((codes & codes >> 1 & 0b01_01_01_01).any())
    by_row = np.ascontiguousarray(scales).view("<u2").reshape(-1, row) & 0x7FFF
    whole = by_row.any() and all(np.unique(own[own > 0]).size < 2 for own in by_row)
    return (3 if kind.levels == 4 and not four else kind.levels), (inf if whole else kind.group)
