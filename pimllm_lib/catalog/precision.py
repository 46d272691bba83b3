"""How few bits a checkpoint's weights have, from its configuration and the headers of its files, without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pimllm_lib.catalog import headers
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import require

#: Scales and biases that are looked at to tell three levels from four.
LOOKED_AT = 4096


def of(config: Mapping[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """Return the fields of a Decoder that marks of MLX set: levels, scale_group, head_levels, embedding_levels.

    BitNet's marks say what a Decoder has by default, and no mark says nothing. Which of embedding and head have codes is
    read off the files where there are any, else both have them. Codes of two bits have three levels where each bias is minus
    its scale, so that the code 1 is zero: the fourth code, of two scales, is what ternary weights do not use.

    Raises BadInput for codes that are not the same in all projections, which a Decoder cannot say, and damaged files.
    """
    table = config.get("quantization", config.get("quantization_config"))
    if not isinstance(table, Mapping) or "group_size" not in table or "quant_method" in table:
        return {}
    bits: Any = table.get("bits")
    group = table["group_size"]
    require(type(bits) is int and 0 < bits <= 8, f"{where}: bits of quantization", bits, "1 to 8")
    require(type(group) is int and group > 0, f"{where}: group_size of quantization", group, "a whole number of inputs")
    for key, value in table.items():
        if isinstance(value, Mapping):
            wanted = (
                "codes of the same bits everywhere; a TOML model says levels, head_levels, embedding_levels and dense"
            )
            raise BadInput(f"{where}: quantization of {clip(key)} is {clip(dict(value))}; wanted {wanted}")
    there = (folder / headers.SINGLE).is_file() or (folder / headers.INDEX).is_file()
    found = headers.find(folder) if there else None
    levels = 3 if bits == 2 and found is not None and _has_zero(found) else 1 << bits
    coded = {name: found is None or f"{name}.scales" in found for name in ("model.embed_tokens", "lm_head")}
    tied = found is not None and "lm_head.weight" not in found
    head = coded["model.embed_tokens" if tied else "lm_head"]
    return {
        "levels": levels, "scale_group": group, "head_levels": levels if head else 256,
        "embedding_levels": levels if coded["model.embed_tokens"] else 256,
    }  # fmt: skip


def _has_zero(found: Mapping[str, headers.Tensor]) -> bool:
    """Return whether minus the scale is the bias of each group looked at: bits alike but for that of the sign."""
    name = next((name for name in found if name.endswith("_proj.scales")), "")
    scales, biases = found.get(name), found.get(name.replace("scales", "biases"))
    if scales is None or biases is None or scales.dtype != biases.dtype:
        return False
    kind = {"F16": np.uint16, "BF16": np.uint16, "F32": np.uint32}.get(scales.dtype)
    if kind is None:
        return False
    one, other = (np.fromfile(of.path, kind, LOOKED_AT, offset=of.start)[: _size(of)] for of in (scales, biases))
    return bool(one.size and np.array_equal(one ^ kind(1 << (8 * one.itemsize - 1)), other))


def _size(tensor: headers.Tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))
