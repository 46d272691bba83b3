"""Weights of GGUF files, under the names of the Hugging Face layout, read when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np

from pimllm_lib.analog.lm import blocks, few, layout, settings, tensors
from pimllm_lib.analog.lm.layout import Storage
from pimllm_lib.analog.lm.tensors import FLOATS, Rows
from pimllm_lib.analog.lm.weights import AT_ONCE, LOOKED_AT, Matrix
from pimllm_lib.catalog import gguf, gguf_models, headers
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import require
from pimllm_lib.workload.decoder import Decoder

#: Architectures that are computed here -> whether rows of queries and keys lie pair by pair, as ggml turns them there.
FAMILIES = {"llama": True, "bitnet": False, "bitnet-25": False, "bitnet-b1.58": False, "qwen3": False}
TABLES = {
    layout.EMBEDDING: gguf_models.EMBEDDING,
    layout.HEAD: gguf_models.HEAD,
    layout.FINAL_NORM: "output_norm.weight",
}
PROJECTIONS = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip
NORMS = {
    "input": "attn_norm", "post": "ffn_norm", "query": "attn_q_norm", "key": "attn_k_norm", "attention": "attn_sub_norm",
    "ffn": "ffn_sub_norm",
}  # fmt: skip
#: Factors by which pairs of coordinates turn more slowly.
FREQUENCIES = "rope_freqs.weight"
#: The type whose blocks of 128 weights leave their one scale to the end of the matrix.
ONE_SCALE = "I2_S"


@dataclass(frozen=True)
class Packed:
    """Tensors of a GGUF file, by their names in the Hugging Face layout.

    heads: of matrices whose rows lie pair by pair; few: whether projections in floats have values that are few.
    """

    tensors: Mapping[str, gguf.Tensor]
    heads: Mapping[str, int] = field(default_factory=dict)
    few: bool = False

    def __contains__(self, name: str) -> bool:
        """Return whether there is such a tensor."""
        return name in self.tensors

    def floats(self, name: str, rows: Rows = None) -> np.ndarray:
        """Return a norm, or rows of a table, in float32."""
        found = numbers(self.tensors[name], rows)
        return found[0] if len(self.tensors[name].shape) == 1 else found

    def matrix(self, name: str) -> Matrix:
        """Return a projection. Raises BadInput for other values than -1, 0 and 1, and scales that are not finite."""
        tensor = self.tensors[name]
        rows = slice(0, tensor.shape[0])
        ternary = self.few or tensor.kind.name not in FLOATS
        found = _few(tensor, rows) if ternary else (np.ascontiguousarray(numbers(tensor, rows).T), 1.0)
        values, scale = found
        if name in self.heads:
            order = np.arange(tensor.shape[0]).reshape(self.heads[name], -1, 2).swapaxes(1, 2).reshape(-1)
            values, scale = values[:, order], scale[:, order] if isinstance(scale, np.ndarray) else scale
        return Matrix(values, scale, ternary)

    def part(self, name: str, rows: slice) -> Matrix:
        """Return those outputs of a table as a matrix."""
        tensor = self.tensors[name]
        if is_whole(tensor) or (self.few and few.group_of(numbers(tensor, slice(0, LOOKED_AT))) is not None):
            return Matrix(*_few(tensor, rows), True)
        return Matrix(numbers(tensor, rows).T, 1.0, False)


def is_whole(tensor: gguf.Tensor) -> bool:
    """Return whether a tensor holds whole numbers of few bits with scales that `whole` reads."""
    return tensor.kind.name in (*blocks.WHOLE, ONE_SCALE)


def _few(tensor: gguf.Tensor, rows: slice) -> tuple[np.ndarray, float | np.ndarray]:
    """Return outputs of a matrix as -1, 0, 1, (fan_in, outputs), and what products with them are multiplied by."""
    values, scales = np.empty((tensor.shape[-1], rows.stop - rows.start), np.int8), []
    group = None if is_whole(tensor) else few.group_of(numbers(tensor, slice(0, LOOKED_AT)))
    for part in steps(tensor, rows):
        found = whole(tensor, part) if is_whole(tensor) else few.split(numbers(tensor, part), group) if group else None
        if found is None or np.abs(found[0]).max() > 1:
            wanted = "wanted -s, 0 and s, or two of them, in each group of inputs that share a scale"
            raise BadInput(f"{tensor.path}: {tensor.name} has other weights than those of few bits; {wanted}")
        values[:, part.start - rows.start : part.stop - rows.start] = found[0].T
        scales.append(found[1])
    return values, few.joined(np.concatenate(scales))


def steps(tensor: gguf.Tensor, rows: slice | None = None) -> Iterator[slice]:
    """Yield rows of a tensor that are read at a time, of all or of some."""
    first, last, _ = (rows or slice(None)).indices(prod(tensor.shape[:-1]))
    step = max(AT_ONCE // tensor.shape[-1], 1)
    return (slice(at, min(at + step, last)) for at in range(first, last, step))


def whole(tensor: gguf.Tensor, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of a matrix as whole numbers, int8 (outputs, inputs), and their scales (outputs, groups)."""
    raw = _raw(tensor, rows)
    if tensor.kind.name == ONE_SCALE:
        values = blocks.pairs(raw.reshape(-1, blocks.RUN), run=blocks.RUN, high=True).reshape(len(raw), -1)
        last = headers.Tensor(tensor.name, tensor.path, "F32", (1,), tensor.start + tensor.size - tensor.kind.tail)
        scale = float(tensors.read(last)[0])
        require(scale > 0, f"{tensor.path}: scale of {tensor.name}", scale, "a positive number")
        return values, np.full((len(raw), 1), scale, np.float32)
    values, scales = blocks.whole(tensor.kind.name, raw.reshape(-1, tensor.kind.size))
    tensors.require_finite(scales, f"{tensor.path}: {tensor.name}")
    return values.reshape(len(raw), -1), scales.reshape(len(raw), -1)


def numbers(tensor: gguf.Tensor, rows: Rows = None) -> np.ndarray:
    """Return rows of a tensor, float32 (rows, inputs). Raises BadInput for a type that is not read, NaN and infinity."""
    kind = tensor.kind
    if kind.name in FLOATS:
        return tensors.read(_as_rows(tensor, kind.name, tensor.shape[-1]), rows)
    if kind.name == ONE_SCALE:
        values, scales = whole(tensor, slice(0, tensor.shape[0]))
        return np.asarray((values * scales)[slice(None) if rows is None else rows])
    if kind.name not in blocks.READ:
        raise BadInput(f"{tensor.path}: {tensor.name} is {kind.name}; wanted one of {', '.join(sorted(blocks.READ))}")
    raw = _raw(tensor, rows)
    with np.errstate(invalid="ignore", over="ignore"):
        found = blocks.floats(kind.name, raw.reshape(-1, kind.size))
    tensors.require_finite(found, f"{tensor.path}: {tensor.name}")
    return found.reshape(*raw.shape[:-1], -1)


def _raw(tensor: gguf.Tensor, rows: Rows) -> np.ndarray:
    """Return rows of a tensor as bytes. Raises BadInput where a block of I2_S is in two of them."""
    width = 4 * blocks.RUN if tensor.kind.name == ONE_SCALE else 1
    require(
        tensor.shape[-1] % width == 0,
        f"{tensor.path}: inputs of {tensor.name}",
        tensor.shape[-1],
        f"a multiple of {width}",
    )
    return tensors.read(_as_rows(tensor, "U8", tensor.shape[-1] // tensor.kind.weights * tensor.kind.size), rows)


def _as_rows(tensor: gguf.Tensor, dtype: str, width: int) -> headers.Tensor:
    return headers.Tensor(tensor.name, tensor.path, dtype, (prod(tensor.shape[:-1]), width), tensor.start)


def read(path: Path) -> tuple[settings.Settings, Packed]:
    """Return what a GGUF file says of its model, and its weights: its header is read, and some of them looked at.

    Raises BadInput for an architecture that is not computed here, a tensor that is missing, of another shape, or without a
    place in the layout, and weights in another basis than the model's own.
    """
    found = gguf.header(path)
    if found.family not in FAMILIES:
        raise BadInput(f"{path} has the architecture {clip(found.family)}; wanted one of {', '.join(FAMILIES)}")
    for key in found.values:
        require(
            not key.startswith("prism.hadamard"), f"{path}: {key}", "there", "weights that no transform is folded into"
        )
    decoder, config = gguf_models.decoder(found), gguf_models.configuration(found)
    if FREQUENCIES in found.tensors:
        config["rope_scaling"] = _factors(found)
    said = settings.of(decoder, config, str(path))
    named = names(decoder)
    _require_tensors(found, decoder, named)
    packed = {name: found.tensors[ours] for name, ours in named.items() if ours in found.tensors}
    one = packed[layout.projection(0, "k")]
    few_floats = one.kind.name in FLOATS and few.group_of(numbers(one, slice(0, LOOKED_AT))) is not None
    storage = Storage("found" if few_floats or is_whole(one) else "full")
    return replace(said, storage=storage), Packed(packed, _heads(found, decoder), few_floats)


def _heads(found: gguf.Header, decoder: Decoder) -> dict[str, int]:
    """Return the heads of matrices whose rows lie pair by pair."""
    if not FAMILIES[found.family]:
        return {}
    heads = {"q": int(decoder.n_heads), "k": int(decoder.n_kv_heads)}
    return {layout.projection(i, key): count for i in range(int(decoder.n_layers)) for key, count in heads.items()}


def names(decoder: Decoder) -> dict[str, str]:
    """Return names of the Hugging Face layout -> names in a GGUF file."""
    found = dict(TABLES)
    for index in range(int(decoder.n_layers)):
        found |= {layout.projection(index, key): f"blk.{index}.{ours}.weight" for key, ours in PROJECTIONS.items()}
        norms = layout.widths(decoder)
        found |= {layout.norm(index, key, Storage()): f"blk.{index}.{NORMS[key]}.weight" for key in norms}
    return found


def _require_tensors(found: gguf.Header, decoder: Decoder, named: Mapping[str, str]) -> None:
    wanted = {named[name]: shape for name, _, shape in layout.expected(decoder, Storage())}
    for name, shape in wanted.items():
        got = found.tensors[name].shape if name in found.tensors else None
        require(got == shape, f"{found.path}: {name}", None if got is None else list(got), f"a tensor of {list(shape)}")
    for name in found.tensors.keys() - wanted.keys() - {FREQUENCIES}:
        raise BadInput(f"{found.path} has the tensor {clip(name)}; its architecture has no place for it here")


def _factors(found: gguf.Header) -> dict[str, object]:
    """Return rotary positions that are slowed by factors of the file, as a configuration says it."""
    by = numbers(found.tensors[FREQUENCIES])[0].tolist()
    longest = found.value("context_length")
    return {
        "rope_type": "longrope", "factor": 1.0, "attention_factor": 1.0, "short_factor": by, "long_factor": by,
        "original_max_position_embeddings": longest,
    }  # fmt: skip
