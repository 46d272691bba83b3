"""Checkpoints written in the Hugging Face layout, block by block: ternary weights packed, or numbers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pimllm_lib.analog.lm import layout, packing, tensors
from pimllm_lib.analog.lm.layout import Storage
from pimllm_lib.analog.lm.settings import positive, require_modelled
from pimllm_lib.analog.lm.weights import Block, Matrix
from pimllm_lib.catalog import headers
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import require
from pimllm_lib.workload.decoder import Decoder

#: Number types that `write` stores floats in.
WRITTEN = {"float16": "F16", "float32": "F32"}
#: Family and class of a decoder, by whether it has norms before output projections, and norms of queries and keys.
FAMILIES = {
    (True, False): ("bitnet", "BitNetForCausalLM"), (False, False): ("llama", "LlamaForCausalLM"),
    (False, True): ("qwen3", "Qwen3ForCausalLM"),
}  # fmt: skip


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
    require_modelled(decoder, str(folder))
    both = bool(decoder.sub_norms and decoder.qk_norm)
    require(not both, f"{decoder.name}: norms of queries and keys beside sub_norms", both, "one of the two kinds")
    floats = WRITTEN.get(np.dtype(float_dtype).name)
    if floats is None:
        raise BadInput(f"float_dtype is {clip(np.dtype(float_dtype).name)}; wanted one of {', '.join(WRITTEN)}")
    first = next(blocks := iter(blocks), None)
    ternary = first is not None and first.matrices["q"].ternary
    storage = Storage("packed" if ternary else "full")
    kinds = {
        name: (dtypes[0] if dtypes == tensors.BYTES else "F32" if name.endswith("_scale") else floats, shape)
        for name, dtypes, shape in layout.expected(decoder, storage)
    }
    tables = {layout.EMBEDDING: embedding, layout.FINAL_NORM: final_norm} | _head(decoder, embedding, head)
    rest = _stored(blocks if first is None else chain([first], blocks), decoder, storage)
    parts = ((name, _fitted(name, values, *kinds[name])) for name, values in chain(tables.items(), rest))
    config = _config(decoder, storage, theta=theta, eps=eps, dtype=np.dtype(float_dtype).name)
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
    if matrix.ternary != (storage.kind == "packed"):
        raise BadInput(f"{name} is {'' if matrix.ternary else 'not '}ternary; wanted it as those of the first block")
    if not matrix.ternary:
        yield name, matrix.values.T
        return
    one = np.ndim(matrix.scale) == 0 and 0 < matrix.scale < math.inf
    require(one, f"{name}: scale", matrix.scale, "a positive number")
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
    weights, described = folder / headers.SINGLE, folder / "config.json"
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


def _config(decoder: Decoder, storage: Storage, *, theta: float, eps: float, dtype: str) -> dict[str, Any]:
    """Return the config.json of a model with squared ReLU."""
    family, kind = FAMILIES[bool(decoder.sub_norms), bool(decoder.qk_norm)]
    config: dict[str, Any] = {
        "_name_or_path": decoder.name, "architectures": [kind], "attention_bias": False, "bos_token_id": None,
        "dtype": dtype, "eos_token_id": None, "head_dim": int(decoder.head_dim), "hidden_act": "relu2",
        "hidden_size": int(decoder.d_model), "intermediate_size": int(decoder.d_ff), "model_type": family,
        "num_attention_heads": int(decoder.n_heads), "num_hidden_layers": int(decoder.n_layers),
        "num_key_value_heads": int(decoder.n_kv_heads),
        "rms_norm_eps": positive(decoder.name, "rms_norm_eps", {"rms_norm_eps": float(eps)}),
        "rope_theta": positive(decoder.name, "rope_theta", {"rope_theta": float(theta)}),
        "tie_word_embeddings": bool(decoder.tied_embeddings), "vocab_size": int(decoder.vocab_size),
    }  # fmt: skip
    if storage.kind == "packed":
        config["quantization_config"] = {
            "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline",
        }  # fmt: skip
    return config
