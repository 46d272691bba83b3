"""Checkpoints of language models of few-bit weights in the Hugging Face layout, read block by block.

A model of 2 billion weights thus needs the memory of one block. Nothing in a checkpoint is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pimllm_lib.analog.lm import gguf_weights, layout, settings
from pimllm_lib.analog.lm.settings import Settings
from pimllm_lib.analog.lm.tensors import Rows
from pimllm_lib.analog.lm.weights import Block as Block
from pimllm_lib.analog.lm.weights import Matrix as Matrix
from pimllm_lib.analog.lm.weights import Safetensors, Source
from pimllm_lib.analog.lm.writing import write as write
from pimllm_lib.catalog import headers
from pimllm_lib.core.errors import BadInput, clip

#: Weights of the head that are read at a time.
HEAD_PART = 1 << 25


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Settings):
    """A checkpoint on disk: shape and settings in memory, tensors read when asked for, at each call.

    act_bits: bits of the activations that meet ternary weights.
    """

    source: Source = field(repr=False)
    act_bits: int = 8

    @property
    def name(self) -> str:
        """Return the name of its decoder."""
        return self.decoder.name

    @property
    def ternary(self) -> bool:
        """Return whether its projections compute as -1, 0, 1 with scales."""
        return self.storage.kind != "full"

    def embedding(self, tokens: Rows = None) -> np.ndarray:
        """Return the embedding (vocab, d_model), float32, or that of tokens. Raises BadInput for NaN, as all below."""
        return self.source.floats(layout.EMBEDDING, tokens)

    def block(self, index: int) -> Block:
        """Return a block. Raises BadInput for a wrong packing or a scale that is not positive."""
        if not 0 <= index < self.decoder.n_layers:
            raise BadInput(f"block {clip(index)} of {self.name}; wanted 0 to {self.decoder.n_layers - 1}")
        matrices = {key: self.source.matrix(layout.projection(index, key)) for key in layout.PROJECTIONS}
        norms = {key: self.source.floats(layout.norm(index, key, self.storage)) for key in layout.widths(self.decoder)}
        return Block(matrices, norms)

    def final_norm(self) -> np.ndarray:
        """Return the gains of the last norm (d_model,), float32."""
        return self.source.floats(layout.FINAL_NORM)

    def head(self) -> Iterator[tuple[int, Matrix]]:
        """Yield the output head in parts: the first token of each, and its weights (d_model, tokens).

        Raises BadInput for a tied head that is stored too, and differs.
        """
        vocabulary, tied = int(self.decoder.vocab_size), self.decoder.tied_embeddings
        step = max(HEAD_PART // int(self.decoder.d_model), 1)
        for at in range(0, vocabulary, step):
            rows = slice(at, min(at + step, vocabulary))
            if tied and layout.HEAD in self.source:
                self._require_tied(rows)
            yield at, self.source.part(layout.EMBEDDING if tied else layout.HEAD, rows)

    def _require_tied(self, rows: slice) -> None:
        one, other = (self.source.floats(name, rows) for name in (layout.EMBEDDING, layout.HEAD))
        if not np.array_equal(one, other):
            raise BadInput(f"{self.name} ties its head to the embedding, and {layout.HEAD} differs; wanted them equal")


def require_ternary(checkpoint: Checkpoint) -> None:
    """Raise BadInput for a checkpoint in full precision."""
    if not checkpoint.ternary:
        what = f"{checkpoint.name} has weights in full precision; wanted ternary ones, as crossbars hold"
        mark = '{"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}'
        raise BadInput(f"{what}; masters of BitNet are marked by quantization_config {mark}")


def read(folder: Path) -> Checkpoint:
    """Return the checkpoint in a GGUF file, or in a folder: config.json, and model.safetensors or the shards of its index.

    Only configuration and headers are read, and where the configuration marks nothing some weights, to see whether their
    values are few. Those come packed, as numbers, or as master weights that are rounded when a block is read.

    Raises BadInput for a folder without them, pickled weights, a damaged file, a configuration that is incomplete or asks
    for what is not modelled here, and a tensor that is missing, of another type or shape, or has no place in the layout.
    """
    if folder.suffix == ".gguf" and not folder.is_dir():
        said, source = gguf_weights.read(folder)
        return Checkpoint(**vars(said), source=source)
    if not folder.is_dir():
        got = "is a file" if folder.exists() else "does not exist"
        raise BadInput(f"{folder} {got}; wanted a GGUF file, or a folder with config.json and {headers.SINGLE}")
    headers.require_model(folder)
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder} has no config.json; wanted a checkpoint in the Hugging Face layout")
    found = settings.settings(folder / "config.json")
    stored, storage = headers.find(folder), found.storage
    if storage.kind == "mlx":
        coded = [name for name in (layout.EMBEDDING, layout.HEAD) if layout.beside(name, "scales") in stored]
        storage = replace(storage, tables=tuple(coded))
    layout.require_tensors(folder, stored, found.decoder, storage)
    if storage.kind == "full" and Safetensors(stored, storage).few(layout.projection(0, "k")):
        storage = replace(storage, kind="found")
    return Checkpoint(**vars(found) | {"storage": storage}, source=Safetensors(stored, storage))
