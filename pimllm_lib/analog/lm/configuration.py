"""The config.json of a BitNet checkpoint: the model it describes, and how it says that projections are stored.

Fields mean what they mean in the public `transformers` library (models/bitnet and integrations/bitnet), and in the
older code published with 1bitLLM/bitnet_b1_58, whose configuration has `weight_bits`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pimllm_lib.analog.lm.layout import OLDER_SUB_NORMS, Storage
from pimllm_lib.catalog.models import from_config
from pimllm_lib.catalog.quantities import read_text
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import require
from pimllm_lib.workload.decoder import Decoder

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
