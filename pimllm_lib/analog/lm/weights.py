"""Weights of a checkpoint by name, read when asked for: projections and blocks, and the safetensors files that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pimllm_lib.analog.lm import few, packing, tensors
from pimllm_lib.analog.lm.layout import Storage, beside
from pimllm_lib.analog.lm.tensors import Rows
from pimllm_lib.catalog.headers import Tensor
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import require

#: Weights that are decoded at a time.
AT_ONCE = 1 << 24
#: Outputs that are looked at to find how many inputs share a scale.
LOOKED_AT = 8


@dataclass(frozen=True)
class Matrix:
    """The weights of a projection.

    values: (fan_in, fan_out), int8 -1, 0, 1 where ternary (or binary), else float32; scale: what a product with them is
    multiplied by, 1 where not ternary, or float32 (groups, fan_out): what the products of each group of inputs are.
    """

    values: np.ndarray
    scale: float | np.ndarray
    ternary: bool


@dataclass(frozen=True)
class Block:
    """One decoder block.

    matrices: "q", "k", "v", "o", "gate", "up", "down"; norms: gains in float32, "input" and "post" before attention and
    FFN, and where the model has them "attention" and "ffn" before the two output projections, "query" and "key" of heads.
    """

    matrices: Mapping[str, Matrix]
    norms: Mapping[str, np.ndarray]


class Source(Protocol):
    """What holds the tensors of a checkpoint, by their names in the Hugging Face layout."""

    def __contains__(self, name: str) -> bool:
        """Return whether there is such a tensor."""

    def floats(self, name: str, rows: Rows = None) -> np.ndarray:
        """Return a norm, or rows of a table, in float32. Raises BadInput where they are not finite, as all below."""

    def matrix(self, name: str) -> Matrix:
        """Return a projection."""

    def part(self, name: str, rows: slice) -> Matrix:
        """Return those outputs of a table as a matrix: ternary where its values are few, else float32."""


@dataclass(frozen=True)
class Safetensors:
    """Safetensors files. tensors: by name; storage: how projections are stored in them."""

    tensors: Mapping[str, Tensor]
    storage: Storage

    def __contains__(self, name: str) -> bool:
        """Return whether there is such a tensor."""
        return name in self.tensors

    def floats(self, name: str, rows: Rows = None) -> np.ndarray:
        """Return a norm, or rows of a table, in float32."""
        return self._decoded(name, rows) if name in self.storage.tables else tensors.read(self.tensors[name], rows)

    def matrix(self, name: str) -> Matrix:
        """Return a projection. Raises BadInput for a wrong packing, a scale that is not positive, and too many values."""
        kind = self.storage.kind
        if kind in ("found", "mlx"):
            return self._few(name, slice(0, self.tensors[name].shape[0]), self._group(name))
        values, what = tensors.read(self.tensors[name]), f"{self.tensors[name].path}: {name}"
        if kind != "packed":
            values = np.ascontiguousarray(values.T)
            return Matrix(*packing.ternarise(values), True) if kind == "masters" else Matrix(values, 1.0, False)
        scale = float(self.floats(f"{name}_scale")[0])
        require(scale > 0, f"{what}_scale", scale, "a positive number")
        return Matrix(packing.unpack(values, what), 1 / scale if self.storage.divided else scale, True)

    def part(self, name: str, rows: slice) -> Matrix:
        """Return those outputs of a table as a matrix."""
        coded = name in self.storage.tables
        group = self._group(name) if coded or self.storage.kind == "found" else None
        if group is None:
            return Matrix(tensors.read(self.tensors[name], rows).T, 1.0, False)
        return self._few(name, rows, group)

    def few(self, name: str) -> bool:
        """Return whether a matrix stored as numbers has few values, as far as some of its outputs tell."""
        return few.group_of(tensors.read(self.tensors[name], slice(0, LOOKED_AT))) is not None

    def _group(self, name: str) -> int | None:
        """Return how many inputs share a scale."""
        if self.storage.kind == "mlx":
            return self.storage.group
        return few.group_of(tensors.read(self.tensors[name], slice(0, LOOKED_AT)))

    def _few(self, name: str, rows: slice, group: int | None) -> Matrix:
        """Return outputs of a matrix whose values are few, decoded some at a time."""
        what, coded = f"{self.tensors[name].path}: {name}", self.storage.kind == "mlx"
        fan_in = self.tensors[name].shape[1] * (32 // self.storage.bits if coded else 1)
        values, scales = np.empty((fan_in, rows.stop - rows.start), np.int8), []
        for at, stop in _steps(rows, max(AT_ONCE // fan_in, 1)):
            numbers = (self._decoded if coded else self.floats)(name, slice(at, stop))
            found = few.split(numbers, group) if group else None
            if found is None:
                wanted = "wanted -s, 0 and s, or two of them, in each group of inputs that share a scale"
                raise BadInput(f"{what} has other weights than those of few bits; {wanted}")
            values[:, at - rows.start : stop - rows.start] = found[0].T
            scales.append(found[1])
        return Matrix(values, few.joined(np.concatenate(scales)), True)

    def _decoded(self, name: str, rows: Rows) -> np.ndarray:
        """Return rows of codes as numbers."""
        words, scales, biases = (
            tensors.read(self.tensors[each], rows) for each in (name, beside(name, "scales"), beside(name, "biases"))
        )
        require(
            (scales != 0).all(), f"{self.tensors[name].path}: {beside(name, 'scales')}", 0.0, "a number other than 0"
        )
        flat, *affine = (a.reshape(-1, a.shape[-1]) for a in (words, scales, biases))
        numbers = packing.dequantise(flat, affine[0], affine[1], self.storage.bits)
        return numbers.reshape(*words.shape[:-1], -1)


def _steps(rows: slice, step: int) -> Iterator[tuple[int, int]]:
    for at in range(rows.start, rows.stop, step):
        yield at, min(at + step, rows.stop)
