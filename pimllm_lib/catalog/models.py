"""Decoders from files: the catalog's own TOML tables, and the config.json of Hugging Face checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from math import inf
from pathlib import Path
from typing import Any

from pimllm_lib.catalog import precision
from pimllm_lib.catalog.quantities import name_of, read_as, read_toml, require_known
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.workload.decoder import Decoder, PublishedShape

#: Keys of a model table that say where it comes from, not what shape it has.
ABOUT = ("summary", "source", "status", "where", "card_parameters", "name")

_PLAIN = {"linear_bias": "all", "norm": "layernorm", "tied_embeddings": True}
_GATED = {"gated": True, "tied_embeddings": False}
_LLAMA_FIELDS = {
    "d_model": "hidden_size", "d_ff": "intermediate_size", "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads", "vocab_size": "vocab_size",
}  # fmt: skip
#: Family -> (name of each size in its config.json, what the family fixes). Read off the public configuration
#: classes of the `transformers` library.
_FAMILIES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "gpt2": ({"d_model": "n_embd", "n_layers": "n_layer", "n_heads": "n_head", "vocab_size": "vocab_size"}, _PLAIN),
    "opt": (_LLAMA_FIELDS | {"d_ff": "ffn_dim"}, _PLAIN),
    "llama": (_LLAMA_FIELDS, _GATED),
    "mistral": (_LLAMA_FIELDS, _GATED),
    "mixtral": (_LLAMA_FIELDS | {"n_experts": "num_local_experts", "experts_per_token": "num_experts_per_tok"}, _GATED),
    "phi3": (_LLAMA_FIELDS, _GATED),
    "qwen2": (_LLAMA_FIELDS, _GATED | {"linear_bias": "qkv"}),
    "qwen3": (_LLAMA_FIELDS, _GATED | {"qk_norm": True}),
    "qwen3_moe": (
        _LLAMA_FIELDS
        | {"d_ff": "moe_intermediate_size", "n_experts": "num_experts", "experts_per_token": "num_experts_per_tok"},
        _GATED | {"qk_norm": True},
    ),
    "bitnet": (_LLAMA_FIELDS, _GATED | {"sub_norms": True}),
}


#: Families whose code reads `sliding_window`.
_WINDOWED = ("mistral", "mixtral", "phi3", "qwen2", "qwen3", "qwen3_moe")


def from_table(name: str, table: Mapping[str, Any], where: str) -> Decoder:
    """Return the decoder that a table of sizes describes. Raises BadInput naming the file and the field."""
    known = {f.name for f in fields(Decoder)} - {"name"}
    shape = {key: value for key, value in table.items() if key not in ABOUT}
    require_known(where, f"field of {name}", shape, known)
    if not isinstance(published := shape.pop("published", {}), dict):
        raise BadInput(f"{where}: published of {name} is {clip(published)}; wanted a table such as {{ d_ff = 1024 }}")
    try:
        shape["published"] = PublishedShape(**published)
        return Decoder(name=name, **shape)
    except TypeError as error:
        raise BadInput(f"{where}: {name} cannot be a decoder: {str(error).split('__() ')[-1]}") from None
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def from_path(path: Path) -> Decoder:
    """Return the decoder in a TOML, GGUF or config.json file, or the latter of a folder or beside a safetensors file."""
    if os.path.isdir(path):  # unlike Path.is_dir, this takes any text for an answer
        path = path / "config.json"
    elif path.suffix == ".safetensors":
        path = path.with_name("config.json")
    if path.suffix == ".toml":
        table = read_toml(path)
        return from_table(name_of(table, path), table, str(path))
    if path.suffix == ".gguf":
        from pimllm_lib.catalog.gguf_models import from_gguf  # which makes a configuration of it, and asks this module

        return from_gguf(path)
    return from_config(path)


def from_config(path: Path) -> Decoder:
    """Return the decoder a Hugging Face config.json describes: GPT-2, OPT, LLaMA, Mistral, Mixtral, Phi-3, Qwen2,
    Qwen3, Qwen3-MoE or BitNet.

    Raises BadInput, in one line that names the file and the field, for anything that is not such a file.
    """
    config = read_as("JSON", json.loads, path)
    if not isinstance(config, dict):
        raise BadInput(f"{path} holds {clip(config)}; wanted a JSON object with model_type and sizes")
    name = str(config.get("_name_or_path") or path.resolve().parent.name).rstrip("/").split("/")[-1] or path.stem
    marks = precision.of(config, path.parent, str(path))
    if config.get("model_type") == "minicpm":  # LLaMA's shapes; what it multiplies by costs nothing that is counted
        config = {"tie_word_embeddings": True} | config | {"model_type": "llama"}
    return replace(from_mapping(config, str(path), name), **marks)


def from_mapping(config: dict[str, Any], path: str, name: str) -> Decoder:
    """Return the decoder that such a configuration describes; path: where it is from, which errors say."""
    family = _family(path, config)
    names, fixed = _FAMILIES[family]
    sizes = {ours: _count(path, config, theirs) for ours, theirs in names.items()}
    shape = fixed | sizes | _attention(path, config, sizes, family) | _extras(path, config, sizes, family)
    shape["window"] = _window(path, config, sizes, family)
    _require_equal_blocks(path, config, family)
    return from_table(name, shape, path)


def _family(path: str, config: dict[str, Any]) -> str:
    if any("bitnet" in str(item).lower() for item in _list(config.get("architectures"))):
        return "bitnet"  # some BitNet checkpoints give the model type of the code they grew from
    family = config.get("model_type")
    if not isinstance(family, str):
        raise BadInput(f"{path}: model_type is {clip(family)}; wanted one of {', '.join(sorted(_FAMILIES))}")
    if family not in _FAMILIES:
        raise BadInput(f"{path}: {unknown('model_type', family, _FAMILIES)}")
    return family


def _attention(path: str, config: dict[str, Any], sizes: dict[str, int], family: str) -> dict[str, int]:
    """Return KV heads and head dimension, given or derived as the family's own code derives them."""
    heads, width = sizes["n_heads"], sizes["d_model"]
    kv = _count(path, config, "num_key_value_heads", heads)
    if family in ("qwen3", "qwen3_moe"):
        return {"n_kv_heads": kv, "head_dim": _count(path, config, "head_dim", 128)}
    if config.get("head_dim") is None and width % heads:
        raise BadInput(f"{path} has no head_dim, and {heads} heads do not divide the width {width}; wanted a head_dim")
    return {"n_kv_heads": kv, "head_dim": _count(path, config, "head_dim", width // heads)}


def _extras(path: str, config: dict[str, Any], sizes: dict[str, int], family: str) -> dict[str, Any]:
    """Return what only some families have: position tables, narrow embeddings, biases, tied heads."""
    extra: dict[str, Any] = {}
    if family == "gpt2":
        extra["d_ff"] = _count(path, config, "n_inner", 4 * sizes["d_model"])
        extra["position_rows"] = _count(path, config, "n_positions", 1024)
    if family == "opt":
        extra["position_rows"] = _count(path, config, "max_position_embeddings", 2048) + 2  # two rows of padding
        extra["embedding_dim"] = _count(path, config, "word_embed_proj_dim", sizes["d_model"])
        extra["final_norm"] = _flag(path, config, "do_layer_norm_before", True)
        extra["linear_bias"] = "all" if _flag(path, config, "enable_bias", True) else "none"
    if family not in ("gpt2", "opt", "qwen2") and _flag(path, config, "attention_bias", False):
        extra["linear_bias"] = "attention"
    if config.get("tie_word_embeddings") is not None:
        extra["tied_embeddings"] = _flag(path, config, "tie_word_embeddings", False)
    return extra


def _window(path: str, config: dict[str, Any], sizes: dict[str, int], family: str) -> float:
    """Return the sliding window of attention in tokens, infinite where there is none, as the family's own code decides
    it.

    Raises BadInput where only some blocks have one: a Decoder has equal blocks.
    """
    default = {"mistral": 4096}.get(family)
    if family.startswith("qwen"):
        if not _flag(path, config, "use_sliding_window", False):
            return inf  # these state a size whether it is used or not
        default = 4096
    given = config.get("sliding_window", default)
    if given is None or family not in _WINDOWED:
        return inf
    full = config.get("max_window_layers", 28) if family in ("qwen2", "qwen3") else 0
    if full not in (0, sizes["n_layers"]):
        raise BadInput(f"{path}: max_window_layers is {clip(full)}; wanted 0 or all: blocks are all alike here")
    return inf if full else _count(path, {"sliding_window": given}, "sliding_window")


def _require_equal_blocks(path: str, config: dict[str, Any], family: str) -> None:
    """Raise BadInput for a configuration whose blocks are not all of one kind, where its keys tell."""
    kinds = _list(config.get("layer_types"))
    if len(set(map(str, kinds))) > 1:
        raise BadInput(f"{path}: layer_types is {clip(kinds)}; wanted blocks of one kind")
    if family == "qwen3_moe" and (config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1):
        got = {key: config.get(key) for key in ("mlp_only_layers", "decoder_sparse_step")}
        raise BadInput(f"{path}: {clip(got)} leaves some blocks without experts; wanted experts in every block")


def _count(path: str, config: dict[str, Any], key: str, default: int | None = None) -> int:
    value = default if config.get(key) is None else config[key]
    if value is None:
        raise BadInput(f"{path} has no {key}; wanted a whole number of at least 1")
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**53:
        raise BadInput(f"{path}: {key} is {clip(value)}; wanted a whole number of at least 1, below 2^53")
    return value


def _flag(path: str, config: dict[str, Any], key: str, default: bool) -> bool:
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, bool):
        raise BadInput(f"{path}: {key} is {clip(value)}; wanted true or false")
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
