"""Checkpoints of ternary language models in the Hugging Face BitNet layout, read and written block by block.

A model of 2 billion weights thus needs the memory of its embedding and of one block. Nothing in a checkpoint is run.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from pimllm_lib.analog.lm import layout, packing, tensors
from pimllm_lib.analog.lm.layout import Settings, Storage
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import require
from pimllm_lib.workload.decoder import Decoder

#: Number types that `write` stores floats in.
WRITTEN = {"float16": "F16", "float32": "F32"}


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


@dataclass(frozen=True)
class Checkpoint(Settings):
    """A checkpoint on disk: shape and settings in memory, tensors read when asked for, at each call.

    act_bits: bits of the activations that meet ternary weights.
    """

    stored: Mapping[str, tensors.Tensor] = field(repr=False)
    act_bits: int = 8

    @property
    def name(self) -> str:
        """Return the name of its decoder."""
        return self.decoder.name

    def embedding(self) -> np.ndarray:
        """Return the embedding (vocab, d_model), float32. Raises BadInput where it holds NaN or infinity, as all below."""
        return self._floats(layout.EMBEDDING)

    def block(self, index: int) -> Block:
        """Return a block. Raises BadInput for a wrong packing or a scale that is not positive."""
        if not 0 <= index < self.decoder.n_layers:
            raise BadInput(f"block {clip(index)} of {self.name}; wanted 0 to {self.decoder.n_layers - 1}")
        matrices = {key: self._matrix(layout.projection(index, key)) for key in layout.PROJECTIONS}
        norms = {key: self._floats(layout.norm(index, key, self.storage)) for key in layout.widths(self.decoder)}
        return Block(matrices, norms)

    def final_norm(self) -> np.ndarray:
        """Return the gains of the last norm (d_model,), float32."""
        return self._floats(layout.FINAL_NORM)

    def head(self) -> np.ndarray:
        """Return the output head (vocab, d_model), float32: the embedding where tied.

        Raises BadInput for a tied head that is stored too, and differs.
        """
        if not self.decoder.tied_embeddings:
            return self._floats(layout.HEAD)
        embedding = self.embedding()
        if layout.HEAD in self.stored and not np.array_equal(embedding, self._floats(layout.HEAD)):
            raise BadInput(f"{self.name} ties its head to the embedding, and {layout.HEAD} differs; wanted them equal")
        return embedding

    def _floats(self, name: str) -> np.ndarray:
        return tensors.read(self.stored[name])

    def _matrix(self, name: str) -> Matrix:
        """Return a projection, transposed to (fan_in, fan_out)."""
        values, what = tensors.read(self.stored[name]), f"{self.stored[name].path}: {name}"
        if not self.storage.packed:
            values = np.ascontiguousarray(values.T)
            return Matrix(*packing.ternarise(values), True) if self.storage.ternary else Matrix(values, 1.0, False)
        scale = float(self._floats(f"{name}_scale")[0])
        require(scale > 0, f"{what}_scale", scale, "a positive number")
        return Matrix(packing.unpack(values, what), 1 / scale if self.storage.divided else scale, True)


def read(folder: Path) -> Checkpoint:
    """Return the checkpoint in a folder: config.json, and model.safetensors or the shards that its index names.

    Only configuration and headers are read. Ternary weights come packed, or as master weights that are rounded when a
    block is read; a configuration without a mark of either is a model in full precision.

    Raises BadInput for a folder without them, pickled weights, a damaged file, a configuration that is incomplete or asks
    for what is not modelled here, and a tensor that is missing, of another type or shape, or has no place in the layout.
    """
    if not folder.is_dir():
        got = "is a file" if folder.exists() else "does not exist"
        raise BadInput(f"{folder} {got}; wanted a folder with config.json and {tensors.SINGLE}")
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder} has no config.json; wanted a checkpoint in the Hugging Face layout")
    found = layout.settings(folder / "config.json")
    stored = tensors.find(folder)
    layout.require_tensors(folder, stored, found.decoder, found.storage)
    return Checkpoint(**vars(found), stored=stored)


def write(
    folder: Path,
    decoder: Decoder,
    *,
    embedding: np.ndarray,
    blocks: Iterable[Block],
    final_norm: np.ndarray,
    head: np.ndarray | None,
    theta: float,
    eps: float,
    float_dtype: np.typing.DTypeLike = np.float16,
) -> None:
    """Write a model with squared ReLU as config.json and model.safetensors; blocks are taken one at a time.

    embedding, head: (vocab, d_model), the head may be None where tied; float_dtype: float16 or float32, for all but
    scales, which stay float32. Files appear whole or not at all, and the same model gives the same bytes.

    Raises BadInput for shapes that are not the decoder's, values float_dtype cannot hold, and ternary blocks among others.
    """
    layout.require_modelled(decoder, str(folder))
    floats = WRITTEN.get(np.dtype(float_dtype).name)
    if floats is None:
        raise BadInput(f"float_dtype is {clip(np.dtype(float_dtype).name)}; wanted one of {', '.join(WRITTEN)}")
    first = next(blocks := iter(blocks), None)
    ternary = first is not None and first.matrices["q"].ternary
    storage = Storage(ternary=ternary, packed=ternary)
    kinds = {
        name: (dtypes[0] if dtypes == tensors.BYTES else "F32" if name.endswith("_scale") else floats, shape)
        for name, dtypes, shape in layout.expected(decoder, storage)
    }
    tables = {layout.EMBEDDING: embedding, layout.FINAL_NORM: final_norm} | _head(decoder, embedding, head)
    rest = _stored(blocks if first is None else chain([first], blocks), decoder, storage)
    parts = ((name, _fitted(name, values, *kinds[name])) for name, values in chain(tables.items(), rest))
    config = layout.config_of(decoder, storage, theta=theta, eps=eps, dtype=np.dtype(float_dtype).name)
    _put(folder, kinds, parts, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _stored(blocks: Iterable[Block], decoder: Decoder, storage: Storage) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and content of what is stored of each block. Raises BadInput unless there are n_layers, all alike."""
    count, norms = 0, layout.widths(decoder).keys()
    for index, block in enumerate(blocks):
        count += 1
        if count > decoder.n_layers or block.norms.keys() != norms:
            got = f"{count} blocks, the last with the norms {clip(sorted(block.norms))}"
            raise BadInput(f"{decoder.name} gets {got}; wanted {decoder.n_layers} with {sorted(norms)}")
        for key, gains in block.norms.items():
            yield layout.norm(index, key, storage), gains
        for key in layout.PROJECTIONS:
            yield from _projection(layout.projection(index, key), block.matrices[key], storage)
    if count < decoder.n_layers:
        raise BadInput(f"{decoder.name} gets {count} blocks; wanted {decoder.n_layers}")


def _projection(name: str, matrix: Matrix, storage: Storage) -> Iterator[tuple[str, np.ndarray]]:
    if matrix.ternary != storage.ternary:
        raise BadInput(f"{name} is {'' if matrix.ternary else 'not '}ternary; wanted it as those of the first block")
    if not storage.packed:
        yield name, matrix.values.T * np.float32(matrix.scale)
        return
    require(0 < matrix.scale < math.inf, f"{name}: scale", matrix.scale, "a positive number")
    yield name, packing.pack(matrix.values, name)
    yield f"{name}_scale", np.array([matrix.scale])


def _head(decoder: Decoder, embedding: np.ndarray, head: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the head by its name, nothing where it is the embedding. Raises BadInput where it should be and is not."""
    if not decoder.tied_embeddings and head is None:
        raise BadInput(f"{decoder.name} gets no head; wanted one, since it is not tied to the embedding")
    if decoder.tied_embeddings and head is not None and not np.array_equal(head, embedding):
        raise BadInput(f"{decoder.name} ties its head to the embedding, and gets another; wanted None")
    return {} if decoder.tied_embeddings or head is None else {layout.HEAD: head}


def _fitted(name: str, values: np.ndarray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return values as they are stored. Raises BadInput for another shape and what the number type cannot hold."""
    if values.shape != shape:
        raise BadInput(f"{name} has shape {list(values.shape)}; wanted {list(shape)}")
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = values.astype(tensors.STORED[dtype])
        tensors.require_finite(fitted, f"{name} as {dtype}")
    return fitted


def _put(
    folder: Path, kinds: Mapping[str, tuple[str, tuple[int, ...]]], parts: Iterable[tuple[str, np.ndarray]], config: str
) -> None:
    """Write both files beside their places, then rename them. A folder without config.json holds no checkpoint."""
    weights, described = folder / tensors.SINGLE, folder / "config.json"
    scratch = [path.with_name(f"{path.name}.{os.getpid()}.part") for path in (weights, described)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tensors.write(scratch[0], kinds, parts)
        scratch[1].write_text(config, encoding="utf-8")
        described.unlink(missing_ok=True)
        scratch[0].replace(weights)
        scratch[1].replace(described)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            for path in scratch:
                path.unlink(missing_ok=True)
