"""What a checkpoint's config.json says of its model, and of how its projections are stored.

Keys are those of the public `transformers` library (models/bitnet, llama, qwen3; utils/quantization_config), of the older
code published with 1bitLLM/bitnet_b1_58 (`weight_bits`), of MLX (`quantization`) and of MiniCPM (`scale_emb`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from pimllm_lib.analog.lm import rotary
from pimllm_lib.analog.lm.layout import OLDER_SUB_NORMS, Storage
from pimllm_lib.analog.lm.rotary import Rotary
from pimllm_lib.catalog.models import from_config
from pimllm_lib.catalog.quantities import read_as
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import require
from pimllm_lib.core.rules import is_number
from pimllm_lib.workload.decoder import Decoder

ACTIVATIONS = ("relu2", "silu")
#: Families beside BitNet whose blocks are computed here.
FAMILIES = ("llama", "minicpm", "qwen3")
#: Whether a product is divided by weight_scale, in each class of linear layers.
LINEAR_CLASSES = {"autobitlinear": False, "bitlinear": True}
#: Modules that no ternary layer replaces; one has to be among those that a configuration keeps.
KEPT = ("lm_head", "embed_tokens", "norm")
#: Fields of a decoder that may be anything here; the others must be what they are by default, and the FFN gated.
FREE = (
    "name", "d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads", "head_dim", "vocab_size", "page", "tied_embeddings",
    "sub_norms", "qk_norm", "published", "levels", "scale_group", "head_levels", "embedding_levels",
)  # fmt: skip
#: Keys of a configuration that a Decoder does not know, and the only values that stand for what is computed here.
ONLY_KEYS = {"mlp_bias": (None, False), "partial_rotary_factor": (None, 1)}
#: Weights of a code that MLX packs.
MLX_BITS = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a configuration says of a model and of how its projections are stored.

    rotary: its positions; eps: what norms add to the mean square; activation: "relu2" or "silu", of the gate;
    embedding_scale, branch_scale, head_scale: what embeddings, what each half of a block adds, and the input of the head are
    multiplied by.
    """

    decoder: Decoder
    rotary: Rotary
    eps: float
    activation: str
    storage: Storage = field(repr=False)
    embedding_scale: float = 1.0
    branch_scale: float = 1.0
    head_scale: float = 1.0


def settings(path: Path) -> Settings:
    """Return what a config.json says. Raises BadInput, naming file and field, for anything not modelled here."""
    return of(from_config(path), read_as("JSON", json.loads, path), str(path))


def of(decoder: Decoder, config: dict[str, Any], where: str) -> Settings:
    """Return what a configuration says; where: what errors name."""
    family, activation = config.get("model_type"), config.get("hidden_act")
    wanted = f"bitnet, {', '.join(FAMILIES)}"
    require(decoder.sub_norms or family in FAMILIES, f"{where}: model_type", family, wanted)
    for key, values in ONLY_KEYS.items():
        require(config.get(key) in values, f"{where}: {key}", config.get(key), f"{values[-1]}: others are not modelled")
    require_modelled(decoder, where)
    require(activation in ACTIVATIONS, f"{where}: hidden_act", activation, f"one of {', '.join(ACTIVATIONS)}")
    eps, positions = positive(where, "rms_norm_eps", config), rotary.from_config(config, where, int(decoder.head_dim))
    scales = _scales(where, config, decoder) if family == "minicpm" else {}
    storage = _storage(where, config, decoder)
    return Settings(decoder=decoder, rotary=positions, eps=eps, activation=str(activation), storage=storage, **scales)


def require_modelled(decoder: Decoder, where: str) -> None:
    """Raise BadInput for a decoder that is more, or other, than the blocks of a BitNet with rotary positions."""
    plain = {item.name: item.default for item in fields(Decoder) if item.default is not MISSING} | {"gated": True}
    for key, only in plain.items():
        got = getattr(decoder, key)
        require(
            key in FREE or got == only, f"{where}: {key} of {decoder.name}", got, f"{only}: others are not modelled"
        )
    size = decoder.head_dim
    require(size % 2 == 0, f"{where}: head_dim of {decoder.name}", size, "an even one, to rotate pairs")


def _scales(where: str, config: Mapping[str, Any], decoder: Decoder) -> dict[str, float]:
    """Return what MiniCPM multiplies by. Source: Hu et al. 2024 (arXiv:2404.06395), section 3 and its published code."""
    found = {key: positive(where, key, config) for key in ("scale_emb", "scale_depth", "dim_model_base")}
    return {
        "embedding_scale": found["scale_emb"], "branch_scale": found["scale_depth"] / math.sqrt(decoder.n_layers),
        "head_scale": found["dim_model_base"] / float(decoder.d_model),
    }  # fmt: skip


def _storage(where: str, config: Mapping[str, Any], decoder: Decoder) -> Storage:
    """Return how projections are stored, from the marks that tell."""
    table, bits, mlx = (config.get(key) for key in ("quantization_config", "weight_bits", "quantization"))
    if table is not None and bits is not None:
        raise BadInput(f"{where} has both quantization_config and weight_bits; wanted one of them")
    if mlx is not None or (isinstance(table, dict) and "group_size" in table and "quant_method" not in table):
        return _mlx(where, table if mlx is None else mlx)
    if bits is not None:
        if (bits, config.get("input_bits")) != (1, 8):  # ternary weights are called one bit there
            got = f"weight_bits is {clip(bits)} and input_bits {clip(config.get('input_bits'))}"
            raise BadInput(f"{where}: {got}; wanted 1 and 8")
        return Storage("masters", sub_norms=tuple(OLDER_SUB_NORMS.items()))
    return Storage() if table is None else _bitnet(where, table, decoder)


def _bitnet(where: str, table: Any, decoder: Decoder) -> Storage:
    """Return the storage that a quantization_config of BitNet describes; what it leaves out is as transformers has it."""
    ours = isinstance(table, dict) and table.get("quant_method") == "bitnet"
    require(ours, f"{where}: quantization_config", table, "a table with quant_method bitnet")
    kind, mode = table.get("linear_class", "bitlinear"), table.get("quantization_mode", "offline")
    if not isinstance(kind, str) or kind not in LINEAR_CLASSES:  # one multiplies, one divides
        raise BadInput(f"{where}: {unknown('linear_class', kind, LINEAR_CLASSES)}")
    known = mode == "offline" or (mode == "online" and kind == "autobitlinear")
    require(known, f"{where}: quantization_mode of {kind}", mode, "offline, or online with autobitlinear")
    rms, kept = table.get("use_rms_norm"), table.get("modules_to_not_convert")
    require(rms in (None, False), f"{where}: use_rms_norm", rms, "false: others are not modelled")
    require(_keeps_head(kept, decoder), f"{where}: modules_to_not_convert", kept, "null, or lm_head and no projection")
    return Storage("packed" if mode == "offline" else "masters", divided=LINEAR_CLASSES[kind])


def _keeps_head(kept: Any, decoder: Decoder) -> bool:
    """Return whether what is not converted is the head, perhaps with embedding and norms, which never are."""
    if kept is None:
        return True
    names = [str(name).removesuffix("$").removeprefix("model.") for name in kept] if isinstance(kept, list) else [""]
    return set(names) <= set(KEPT) and (decoder.tied_embeddings or "lm_head" in names)


def _mlx(where: str, table: Any) -> Storage:
    """Return the storage of MLX codes."""
    plain = isinstance(table, dict) and table.keys() <= {"group_size", "bits", "mode"}
    require(plain and table.get("mode", "affine") == "affine", f"{where}: quantization", table,
            "group_size and bits alone, the same of every module, in mode affine")  # fmt: skip
    group, bits = table.get("group_size"), table.get("bits")
    require(type(bits) is int and bits in MLX_BITS, f"{where}: bits of quantization", bits, "1 or 2: few-bit weights")
    require(type(group) is int and group > 0, f"{where}: group_size of quantization", group, "a whole number of inputs")
    return Storage("mlx", bits=bits, group=group)


def positive(where: str, key: str, config: Mapping[str, Any]) -> float:
    """Return a number of a configuration. Raises BadInput unless it is positive and finite."""
    value: Any = config.get(key)
    require(is_number(value) and 0 < value < math.inf, f"{where}: {key}", value, "a positive number")
    return float(value)
