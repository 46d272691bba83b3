"""A decoder block as numbers: its matrices and norms, and the tensors that a checkpoint stores of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pimllm_lib.analog.lm import layout, packing
from pimllm_lib.analog.lm.layout import Storage
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.workload.decoder import Decoder


@dataclass(frozen=True)
class Matrix:
    """The weights of a projection.

    values: (fan_in, fan_out), int8 -1, 0, 1 where ternary, else float32; scale: what a product with them is multiplied by,
    1 where not ternary.
    """

    values: np.ndarray
    scale: float
    ternary: bool


@dataclass(frozen=True)
class Block:
    """One decoder block.

    matrices: "q", "k", "v", "o", "gate", "up", "down"; norms: gains in float32, "input" and "post" before attention and
    FFN, and where the model has them "attention" and "ffn" before the two output projections.
    """

    matrices: Mapping[str, Matrix]
    norms: Mapping[str, np.ndarray]


def stored(blocks: Iterable[Block], decoder: Decoder, storage: Storage) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and content of what is stored of each block. Raises BadInput unless there are n_layers, all alike."""
    count = 0
    for index, block in enumerate(blocks):
        count += 1
        if count > decoder.n_layers or block.norms.keys() != layout.widths(decoder).keys():
            got = f"{count} blocks, the last with the norms {clip(sorted(block.norms))}"
            raise BadInput(
                f"{decoder.name} gets {got}; wanted {decoder.n_layers} with {sorted(layout.widths(decoder))}"
            )
        for key, gains in block.norms.items():
            yield layout.norm(index, key, storage), gains
        for key in layout.PROJECTIONS:
            yield from _projection(layout.projection(index, key), block.matrices[key], storage)
    if count < decoder.n_layers:
        raise BadInput(f"{decoder.name} gets {count} blocks; wanted {decoder.n_layers}")


def _projection(name: str, matrix: Matrix, storage: Storage) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what is stored of a projection."""
    if matrix.ternary != storage.ternary:
        raise BadInput(f"{name} is {'' if matrix.ternary else 'not '}ternary; wanted it as those of the first block")
    if not storage.packed:
        yield name, matrix.values.T * np.float32(matrix.scale)
        return
    if not 0 < matrix.scale < math.inf:
        raise BadInput(f"{name}: scale is {matrix.scale}; wanted a positive number")
    yield name, packing.pack(matrix.values, name)
    yield f"{name}_scale", np.array([matrix.scale])
