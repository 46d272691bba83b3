"""What a file holds: precision, size and share of zeros of each matrix, read some rows at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf, prod
from pathlib import Path
from typing import TypeAlias

import numpy as np

from pimllm_lib.analog.lm import blocks, checkpoint, gguf_weights, layout, tensors
from pimllm_lib.analog.lm.weights import AT_ONCE, Safetensors
from pimllm_lib.catalog import gguf, gguf_models, headers
from pimllm_lib.catalog.models import from_path
from pimllm_lib.catalog.quantities import read_as
from pimllm_lib.core.errors import BadInput
from pimllm_lib.workload.decoder import Decoder

#: Names in the Hugging Face layout, and in GGUF -> what they are, as `schema.OPS` calls projections.
OPS = {
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "x", "gate_proj": "gate", "up_proj": "ff1", "down_proj": "ff2",
    "embed_tokens": "embedding", "lm_head": "lm_head", "token_embd": "embedding", "output": "lm_head",
}  # fmt: skip
TABLES = ("embedding", "lm_head")
#: More values than these are no weights of few bits.
FEW = 4


@dataclass(frozen=True)
class Row:
    """A matrix: its name in the file, projection and type, (outputs, inputs), and bytes with its scales.

    levels: values beside the scale, 0 where floats; group: inputs that share one; negative, zero, positive: how many
    weights are, None where they are not read.
    """

    name: str
    op: str
    kind: str
    shape: tuple[int, ...]
    size: int
    levels: int = 0
    group: float = inf
    negative: int | None = None
    zero: int | None = None
    positive: int | None = None

    @property
    def weights(self) -> int:
        """Return how many numbers it has."""
        return prod(self.shape)


#: A matrix, and what reads its weights: numbers, and scales (outputs, groups) where they are whole ones.
Parts: TypeAlias = Iterator[tuple[np.ndarray, np.ndarray | None]]
Found: TypeAlias = tuple[Row, Callable[[], Parts]]


@dataclass(frozen=True)
class Description:
    """What a file holds. decoder: None where its configuration is none of a known model; note: what is not known of it;
    parameters, size in bytes: of all tensors.
    """

    name: str
    form: str
    family: str | None
    decoder: Decoder | None
    parameters: int
    size: int
    note: str | None
    rows: tuple[Row, ...]


def describe(path: Path, *, weights: bool = True) -> Description:
    """Return what a GGUF file, a safetensors file or a folder of them holds; weights: whether to read them, too.

    Raises BadInput for a file that is none of these, or is damaged.
    """
    made, found = _of_gguf(path) if path.suffix == ".gguf" and not path.is_dir() else _of_safetensors(path)
    return replace(made, rows=tuple(_counted(row, parts()) if weights else row for row, parts in found))


def zeros(rows: Iterable[Row]) -> float | None:
    """Return the share of zeros among the weights of few bits, those of tables left out; None where none was read."""
    read = [row for row in rows if 0 < row.levels <= FEW and row.zero is not None and row.op not in TABLES]
    return sum(row.zero or 0 for row in read) / sum(row.weights for row in read) if read else None


def _counted(row: Row, parts: Iterable[tuple[np.ndarray, np.ndarray | None]]) -> Row:
    """Return a matrix with its weights counted by sign, and with the levels and groups that they have."""
    counts, largest, grouped = np.zeros(3, np.int64), 0, False
    for values, scales in parts:
        negative, zero = np.count_nonzero(values < 0), np.count_nonzero(values == 0)
        counts += (negative, zero, values.size - negative - zero)
        if scales is not None:
            largest = max(largest, int(values.max()), -int(values.min()))
            filled = np.where(scales == 0, scales.max(axis=1, keepdims=True), scales)  # of zeros alone, any will do
            grouped |= bool((filled != filled[:, :1]).any())
            row = replace(row, group=row.shape[-1] // scales.shape[1])
    if not counts.sum():
        return row
    row = replace(row, negative=int(counts[0]), zero=int(counts[1]), positive=int(counts[2]))
    if not largest:
        return row
    levels = FEW if largest > 1 else 3 if counts[1] else row.levels
    return replace(row, levels=levels, group=row.group if grouped else inf)


def _of_gguf(path: Path) -> tuple[Description, list[Found]]:
    found = gguf.header(path)
    decoder = note = None
    try:
        decoder = gguf_models.decoder(found)
    except BadInput as error:
        note = str(error)
    if any(tensor.kind.name == gguf_weights.ONE_SCALE for tensor in found.tensors.values()):
        note = note or f"{gguf_weights.ONE_SCALE} has three orders that no file tells apart; blocks of 128 are read"
    rows = [_packed(tensor) for tensor in found.tensors.values() if len(tensor.shape) > 1]
    size, family = sum(tensor.size for tensor in found.tensors.values()), found.values.get("general.architecture")
    return Description(path.stem, "GGUF", family, decoder, gguf_models.parameters(found), size, note, ()), rows


def _packed(tensor: gguf.Tensor) -> Found:
    whole = gguf_weights.is_whole(tensor)

    def parts() -> Parts:
        for rows in gguf_weights.steps(tensor) if tensor.kind.name in (*blocks.READ, gguf_weights.ONE_SCALE) else ():
            yield gguf_weights.whole(tensor, rows) if whole else (gguf_weights.numbers(tensor, rows), None)

    name, (levels, group) = tensor.name.removesuffix(".weight"), gguf_models.looked_at(tensor)
    op = "+".join(gguf_models.operations(tensor.name)) or OPS.get(name, name)
    return Row(tensor.name, op, tensor.kind.name, tensor.shape, tensor.size, levels, group if levels else inf), parts


def _of_safetensors(path: Path) -> tuple[Description, list[Found]]:
    folder = path if path.is_dir() else path.parent
    stored = headers.find(path) if path.is_dir() else headers.header(path)
    decoder = note = source = family = None
    if (folder / "config.json").is_file():
        config = read_as("JSON", json.loads, folder / "config.json")
        family = config.get("model_type") if isinstance(config, dict) else None
        try:
            decoder = from_path(folder)
            source = checkpoint.read(folder).source if path in (folder, folder / headers.SINGLE) else None
        except BadInput as error:
            note = f"weights are those that are stored: {error}"
    rows = _decoded(stored, source) if isinstance(source, Safetensors) else _as_stored(stored)
    name, size = folder.resolve().name, sum(_bytes(tensor) for tensor in stored.values())
    held = sum(row.weights for row, _ in rows) + _others(stored, {row.name for row, _ in rows})
    return Description(name, "safetensors", family, decoder, held, size, note, ()), rows


def _others(stored: Mapping[str, headers.Tensor], rows: set[str]) -> int:
    """Return the numbers of norms and biases: of what belongs to no matrix."""
    beside = {layout.beside(name, what) for name in rows for what in ("scales", "biases")} | {
        f"{name}_scale" for name in rows
    }
    return sum(prod(tensor.shape) for name, tensor in stored.items() if name not in rows | beside)


def _as_stored(stored: Mapping[str, headers.Tensor]) -> list[Found]:
    """Return matrices of floats as numbers, others unread."""

    def parts(tensor: headers.Tensor) -> Parts:
        step = max(AT_ONCE // prod(tensor.shape[1:]), 1)
        for at in range(0, tensor.shape[0] if tensor.dtype in tensors.FLOATS else 0, step):
            yield tensors.read(tensor, slice(at, at + step)), None

    matrices = [tensor for tensor in stored.values() if len(tensor.shape) > 1]
    return [(Row(of.name, _op(of.name), of.dtype, of.shape, _bytes(of)), partial(parts, of)) for of in matrices]


def _decoded(stored: Mapping[str, headers.Tensor], source: Safetensors) -> list[Found]:
    """Return matrices as a checkpoint computes with them: projections whole, tables some rows at a time."""

    def matrix(name: str) -> Parts:
        made = source.matrix(name)
        one = np.full((1, 1), made.scale) if isinstance(made.scale, float) else made.scale.T
        yield made.values, one if made.ternary else None

    def table(name: str, rows: int, step: int) -> Parts:
        for at in range(0, rows, step):
            yield source.floats(name, slice(at, at + step)), None

    kind, bits = source.storage.kind, source.storage.bits
    found: list[Found] = []
    for name, tensor in stored.items():
        if len(tensor.shape) < 2 or not name.endswith(".weight"):
            continue
        codes, packed = tensor.dtype in tensors.WORDS, tensor.dtype in tensors.BYTES
        outputs, inputs = tensor.shape[0] * (4 if packed else 1), tensor.shape[1] * (32 // bits if codes else 1)
        beside = (name, f"{name}_scale", layout.beside(name, "scales"), layout.beside(name, "biases"))
        size = sum(_bytes(stored[each]) for each in beside if each in stored)
        few = codes or (kind != "full" and name not in (layout.EMBEDDING, layout.HEAD))
        form = f"MLX {bits}-bit" if codes else "ternary" if packed else tensor.dtype
        row = Row(name, _op(name), form, (outputs, inputs), size, (1 << bits if codes else 3) if few else 0,
                  source.storage.group if codes else inf)  # fmt: skip
        step = max(AT_ONCE // inputs, 1)
        found.append((row, partial(table, name, outputs, step) if row.op in TABLES else partial(matrix, name)))
    return found


def _op(name: str) -> str:
    stem = name.removesuffix(".weight")
    return OPS.get(stem.rsplit(".", 1)[-1], stem)


def _bytes(tensor: headers.Tensor) -> int:
    bits = re.search(r"\d+", tensor.dtype)
    return prod(tensor.shape) * (int(bits[0]) if bits else 8) // 8
