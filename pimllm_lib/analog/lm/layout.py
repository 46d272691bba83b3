"""The Hugging Face layout of BitNet checkpoints: what config.json says, and which tensors there must be, by type and shape.

Fields and names are those of the public `transformers` library (models/bitnet and integrations/bitnet), and of the older
code published with 1bitLLM/bitnet_b1_58, whose configuration has `weight_bits`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pimllm_lib.analog.lm.packing import packed_rows
from pimllm_lib.analog.lm.tensors import BYTES, FLOATS, Tensor
from pimllm_lib.catalog.models import from_config
from pimllm_lib.catalog.quantities import read_text
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import require
from pimllm_lib.workload.decoder import Decoder

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
PROJECTIONS = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
NORMS = {"input": "input_layernorm", "post": "post_attention_layernorm"}
SUB_NORMS = {"attention": "self_attn.attn_sub_norm", "ffn": "mlp.ffn_sub_norm"}
OLDER_SUB_NORMS = {"attention": "self_attn.inner_attn_ln", "ffn": "mlp.ffn_layernorm"}

ACTIVATIONS = ("relu2", "silu")
#: Whether a product is divided by weight_scale, in each class of linear layers.
LINEAR_CLASSES = {"autobitlinear": False, "bitlinear": True}
#: What other decoders have, and the only value that stands for what is computed here.
ONLY = {
    "gated": True, "n_experts": 1, "window": math.inf, "sinks": 0, "top_tokens": math.inf, "latent_dim": 0,
    "rope_dim": 0, "position_rows": 0, "embedding_dim": None, "linear_bias": "none",
    "norm": "rmsnorm", "final_norm": True, "qk_norm": False,
}  # fmt: skip
#: The same for keys of a configuration that a Decoder does not know.
ONLY_KEYS = {"mlp_bias": (None, False), "partial_rotary_factor": (None, 1), "sliding_window": (None,)}


@dataclass(frozen=True)
class Storage:
    """How projections are stored.

    ternary: whether they compute as -1, 0, 1 with a scale; packed: whether they are stored so, rather than as master
    weights; divided: whether weight_scale divides; sub_norms: names of the norms before the two output projections.
    """

    ternary: bool
    packed: bool = False
    divided: bool = False
    sub_norms: tuple[tuple[str, str], ...] = tuple(SUB_NORMS.items())


def sizes(decoder: Decoder) -> dict[str, tuple[int, int]]:
    """Return (fan_in, fan_out) of each projection of a block."""
    d, ff = int(decoder.d_model), int(decoder.d_ff)
    queries, keys = int(decoder.n_heads * decoder.head_dim), int(decoder.n_kv_heads * decoder.head_dim)
    return {
        "q": (d, queries), "k": (d, keys), "v": (d, keys), "o": (queries, d),
        "gate": (d, ff), "up": (d, ff), "down": (ff, d),
    }  # fmt: skip


def widths(decoder: Decoder) -> dict[str, int]:
    """Return the width of each norm of a block."""
    inner = {"attention": int(decoder.n_heads * decoder.head_dim), "ffn": int(decoder.d_ff)}
    return {"input": int(decoder.d_model), "post": int(decoder.d_model)} | (inner if decoder.sub_norms else {})


def projection(index: int, key: str) -> str:
    """Return the name of a projection's weights; its scale is called `_scale` beside it."""
    return f"model.layers.{index}.{PROJECTIONS[key]}.weight"


def norm(index: int, key: str, storage: Storage) -> str:
    """Return the name of a norm's gains."""
    return f"model.layers.{index}.{(NORMS | dict(storage.sub_norms))[key]}.weight"


def expected(decoder: Decoder, storage: Storage) -> Iterator[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Yield name, possible number types and shape of each tensor. Raises BadInput for packed outputs that fill no byte."""
    for key, (_, fan_out) in sizes(decoder).items() if storage.packed else ():
        packed_rows(fan_out, f"{PROJECTIONS[key]} of {decoder.name}")
    table = (int(decoder.vocab_size), int(decoder.d_model))
    yield EMBEDDING, FLOATS, table
    yield FINAL_NORM, FLOATS, table[1:]
    if not decoder.tied_embeddings:
        yield HEAD, FLOATS, table
    for index in range(int(decoder.n_layers)):
        for key, width in widths(decoder).items():
            yield norm(index, key, storage), FLOATS, (width,)
        for key, (fan_in, fan_out) in sizes(decoder).items():
            name = projection(index, key)
            if storage.packed:
                yield name, BYTES, (packed_rows(fan_out, key), fan_in)
                yield f"{name}_scale", FLOATS, (1,)
            else:
                yield name, FLOATS, (fan_out, fan_in)


def require_tensors(folder: Path, found: Mapping[str, Tensor], decoder: Decoder, storage: Storage) -> None:
    """Raise BadInput unless the tensors are those of the layout, each of its type and shape, and no others."""
    wanted = set()
    for name, dtypes, shape in expected(decoder, storage):
        if name not in found:  # the first ends it, however many are asked for
            near = get_close_matches(name, found, n=1, cutoff=0.4)
            hint = f"; nearest: {near[0]}" if near else ""
            raise BadInput(f"{folder} has no tensor {name}; wanted {' or '.join(dtypes)} {list(shape)}{hint}")
        _require_kind(found[name], dtypes, shape)
        wanted.add(name)
    if decoder.tied_embeddings and HEAD in found:  # some converters write the embedding twice
        _require_kind(found[HEAD], FLOATS, (int(decoder.vocab_size), int(decoder.d_model)))
        wanted.add(HEAD)
    for name in sorted(found.keys() - wanted):
        got = f"{found[name].dtype} {list(found[name].shape)}"
        raise BadInput(f"{found[name].path} has the tensor {clip(name)}, {got}; the layout has no place for it")


def _require_kind(tensor: Tensor, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> None:
    if tensor.dtype not in dtypes or tensor.shape != shape:
        got, wanted = f"{tensor.dtype} {list(tensor.shape)}", f"{' or '.join(dtypes)} {list(shape)}"
        raise BadInput(f"{tensor.path}: {tensor.name} is {got}; config.json wants {wanted}")


@dataclass(frozen=True)
class Settings:
    """What a configuration says of a model and of how its projections are stored.

    theta: base of the rotary positions; eps: what norms add to the mean square; activation: "relu2" or "silu", of the gate.
    """

    decoder: Decoder
    theta: float
    eps: float
    activation: str
    storage: Storage = field(repr=False)


def settings(path: Path) -> Settings:
    """Return what a config.json says. Raises BadInput, naming file and field, for anything not modelled here."""
    decoder = from_config(path)
    config: dict[str, Any] = json.loads(read_text(path))
    family, activation = config.get("model_type"), config.get("hidden_act")
    require(decoder.sub_norms or family == "llama", f"{path}: model_type", family, "bitnet or llama")
    require_modelled(decoder, str(path))
    for key, only in ONLY_KEYS.items():
        require(config.get(key) in only, f"{path}: {key}", config.get(key), f"{only[-1]}: others are not modelled")
    require(activation in ACTIVATIONS, f"{path}: hidden_act", activation, f"one of {', '.join(ACTIVATIONS)}")
    eps = _positive(path, "rms_norm_eps", config.get("rms_norm_eps"))
    return Settings(decoder, _theta(path, config), eps, str(activation), _storage(path, config))


def require_modelled(decoder: Decoder, where: str) -> None:
    """Raise BadInput for a decoder that is more, or other, than the blocks of a BitNet with rotary positions."""
    for key, only in ONLY.items():
        got = getattr(decoder, key)
        require(got == only, f"{where}: {key} of {decoder.name}", got, f"{only}: others are not modelled")
    size = decoder.head_dim
    require(size % 2 == 0, f"{where}: head_dim of {decoder.name}", size, "an even one, to rotate pairs")


def _theta(path: Path, config: Mapping[str, Any]) -> float:
    """Return the base of the rotary positions, from either place that versions of the library put it."""
    bases = [config.get("rope_theta")]
    for key in ("rope_scaling", "rope_parameters"):
        table = config.get(key) or {}
        plain = isinstance(table, dict) and table.keys() <= {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
        kind = table.get("rope_type", table.get("type", "default")) if plain else None
        unscaled = kind == "default" and table.get("partial_rotary_factor", 1) == 1
        require(unscaled, f"{path}: {key}", table, "rotary positions without scaling")
        bases.append(table.get("rope_theta"))
    given = [_positive(path, "rope_theta", base) for base in bases if base is not None]
    require(len(set(given)) < 2, f"{path}: rope_theta", given, "one value")
    return given[0] if given else _positive(path, "rope_theta", None)


def _storage(path: Path, config: Mapping[str, Any]) -> Storage:
    """Return how projections are stored, from the marks that tell."""
    table, bits = config.get("quantization_config"), config.get("weight_bits")
    if table is not None and bits is not None:
        raise BadInput(f"{path} has both quantization_config and weight_bits; wanted one of them")
    if bits is not None:
        if (bits, config.get("input_bits")) != (1, 8):  # ternary weights are called one bit there
            got = f"weight_bits is {clip(bits)} and input_bits {clip(config.get('input_bits'))}"
            raise BadInput(f"{path}: {got}; wanted 1 and 8")
        return Storage(ternary=True, sub_norms=tuple(OLDER_SUB_NORMS.items()))
    return Storage(ternary=False) if table is None else _quantised(path, table)


def _quantised(path: Path, table: Any) -> Storage:
    """Return the storage that a quantization_config describes."""
    ours = isinstance(table, dict) and table.get("quant_method") == "bitnet"
    require(ours, f"{path}: quantization_config", table, "a table with quant_method bitnet")
    kind, mode = table.get("linear_class"), table.get("quantization_mode", "offline")
    if not isinstance(kind, str) or kind not in LINEAR_CLASSES:  # one multiplies, one divides: no default is safe
        raise BadInput(f"{path}: {unknown('linear_class', kind, LINEAR_CLASSES)}")
    known = mode == "offline" or (mode == "online" and kind == "autobitlinear")
    require(known, f"{path}: quantization_mode of {kind}", mode, "offline, or online with autobitlinear")
    for key, plain, wanted in (
        ("use_rms_norm", False, "false: others are not modelled"),
        ("modules_to_not_convert", ["lm_head"], "null or lm_head alone"),
    ):
        require(table.get(key) in (None, plain), f"{path}: {key}", table.get(key), wanted)
    return Storage(ternary=True, packed=mode == "offline", divided=LINEAR_CLASSES[kind])


def _positive(path: Path | str, key: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    require(number and 0 < value < math.inf, f"{path}: {key}", value, "a positive number")
    return float(value)


def config_of(decoder: Decoder, storage: Storage, *, theta: float, eps: float, dtype: str) -> dict[str, Any]:
    """Return the config.json of a model with squared ReLU, as `settings` reads it."""
    family, kind = ("bitnet", "BitNetForCausalLM") if decoder.sub_norms else ("llama", "LlamaForCausalLM")
    config: dict[str, Any] = {
        "_name_or_path": decoder.name, "architectures": [kind], "attention_bias": False, "bos_token_id": None,
        "dtype": dtype, "eos_token_id": None, "head_dim": int(decoder.head_dim), "hidden_act": "relu2",
        "hidden_size": int(decoder.d_model), "intermediate_size": int(decoder.d_ff), "model_type": family,
        "num_attention_heads": int(decoder.n_heads), "num_hidden_layers": int(decoder.n_layers),
        "num_key_value_heads": int(decoder.n_kv_heads),
        "rms_norm_eps": _positive(decoder.name, "rms_norm_eps", float(eps)),
        "rope_theta": _positive(decoder.name, "rope_theta", float(theta)),
        "tie_word_embeddings": bool(decoder.tied_embeddings), "vocab_size": int(decoder.vocab_size),
    }  # fmt: skip
    if storage.packed:
        config["quantization_config"] = {
            "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline",
        }  # fmt: skip
    return config
