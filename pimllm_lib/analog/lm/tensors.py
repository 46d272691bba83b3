"""Safetensors files: what they hold, one tensor of it at a time, and files written tensor by tensor.

The library's own reader judges a file. It gives no bfloat16 to numpy, so bytes are read here, and widened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from safetensors import SafetensorError, safe_open

from pimllm_lib.catalog.quantities import read_text
from pimllm_lib.core.errors import BadInput, clip, one_line

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
#: Files that a checkpoint was kept in before, as Python objects.
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
#: The format's name of a number type -> how numpy reads its bytes. A bfloat16 is the upper half of a float32.
STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1", "U32": "<u4"}
FLOATS, BYTES, WORDS = ("F16", "BF16", "F32"), ("U8",), ("U32",)
#: Rows of a tensor: from one up to another, some by number, or all.
Rows: TypeAlias = slice | np.ndarray | None


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: its file, number type and shape, and the first of its bytes."""

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


def find(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, from the headers of its one file or of its shards.

    Raises BadInput for a folder with pickled weights only or none at all, a damaged file, and an index that is wrong.
    """
    if (folder / SINGLE).is_file():
        return header(folder / SINGLE)
    if (folder / INDEX).is_file():
        return _sharded(folder / INDEX)
    for pickled in (path for pattern in PICKLES for path in sorted(folder.glob(pattern))):
        raise BadInput(f"{pickled} holds pickled weights, which can run code; wanted safetensors: {SINGLE}")
    raise BadInput(f"{folder} has no {SINGLE} and no {INDEX}; wanted one of them")


def header(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one file by name. Raises BadInput for a file that is no whole safetensors file."""
    try:
        with safe_open(path, framework="numpy"):
            pass  # it has compared header, sizes and the file's end
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries: dict[str, Any] = json.loads(file.read(length))
    except SafetensorError as error:
        reason = one_line(str(error)).removeprefix("Error while deserializing header: ")
        raise BadInput(f"{path} is truncated or no safetensors file: {reason}") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None
    entries.pop("__metadata__", None)
    return {
        name: Tensor(name, path, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        for name, entry in entries.items()
    }


def _sharded(index: Path) -> dict[str, Tensor]:
    """Return the tensors of all shards. Raises BadInput where the index and a shard disagree."""
    places, found = _places(index), {}
    for file in sorted(set(places.values())):
        if not (index.parent / file).is_file():
            raise BadInput(f"{index} names {clip(file)}, which is not there; wanted all shards")
        for name, tensor in header(index.parent / file).items():
            if places.get(name) != file:
                raise BadInput(f"{tensor.path} holds {clip(name)}, which {INDEX} puts in {clip(places.get(name))}")
            found[name] = tensor
    for name in places.keys() - found.keys():
        raise BadInput(f"{index.parent / places[name]} has no tensor {clip(name)}; {INDEX} says it has")
    return found


def _places(index: Path) -> dict[str, str]:
    """Return the file of each tensor. Raises BadInput for an index that is none, or leads out of its folder."""
    text = read_text(index)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{index} is not JSON: {clip(str(error), 100)}") from None
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict):
        raise BadInput(f"{index}: weight_map is {clip(places)}; wanted file names by tensor")
    for file in places.values():
        if not isinstance(file, str) or Path(file).name != file or "\\" in file or not file.endswith(".safetensors"):
            raise BadInput(f"{index} names the file {clip(file)}; wanted a .safetensors file beside it")
    return places


def read(tensor: Tensor, rows: Rows = None) -> np.ndarray:
    """Return a tensor, or rows of it: bytes and words as they are, floats of any width as float32.

    rows: a slice without steps, or their numbers in any shape, which is then that of the first axes. Raises BadInput for NaN
    and infinity among what is read.
    """
    shape, kind = tensor.shape, np.dtype(STORED[tensor.dtype])
    width = math.prod(shape[1:])
    if isinstance(rows, np.ndarray):
        which, places = np.unique(rows, return_inverse=True)
        runs, places = [(int(row), 1) for row in which], places.reshape(rows.shape)
    else:
        first, last, _ = (rows or slice(None)).indices(shape[0] if shape else 1)
        runs, places = [(first, last - first)], None
    raw = _raw(tensor, kind, [(tensor.start + at * width * kind.itemsize, count * width) for at, count in runs])
    values = raw if tensor.dtype in BYTES + WORDS else _widened(tensor, raw)
    values = values.reshape(-1, *shape[1:]) if shape else values.reshape(shape)
    return values if places is None else values[places]


def _raw(tensor: Tensor, kind: np.dtype[Any], parts: list[tuple[int, int]]) -> np.ndarray:
    """Return numbers as they are stored, from places in the file and counts."""
    out = np.empty(sum(count for _, count in parts), kind)
    done = 0
    try:
        with tensor.path.open("rb") as file:
            for place, count in parts:
                file.seek(place)
                done += file.readinto(out[done : done + count].data) // kind.itemsize
    except OSError as error:
        raise BadInput(f"{tensor.path} cannot be read: {error.strerror or error}") from None
    if done != out.size:
        raise BadInput(f"{tensor.path} ends within {tensor.name}; wanted the file as it was when first opened")
    return out


def _widened(tensor: Tensor, raw: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # what is no number is refused below
        if tensor.dtype == "BF16":
            wide = raw.astype(np.uint32)
            wide <<= 16
            raw = wide.view(np.float32)
        values = raw.astype(np.float32, copy=False)
        require_finite(values, f"{tensor.path}: {tensor.name}")
    return values


def require_finite(values: np.ndarray, what: str) -> None:
    """Raise BadInput where NaN or infinity is among the values. The extremes tell, without an array of flags."""
    for extreme in (values.min(), values.max()):
        if not np.isfinite(extreme):
            raise BadInput(f"{what} holds {extreme}; wanted finite numbers")


def write(
    path: Path, kinds: Mapping[str, tuple[str, tuple[int, ...]]], parts: Iterable[tuple[str, np.ndarray]]
) -> None:
    """Write a file of the tensors in `kinds`, name -> (number type, shape), from `parts`, taken in any order.

    Wide numbers come first, so that each lies where its width divides its address. The same tensors give the same bytes.
    """
    width = {name: np.dtype(STORED[dtype]).itemsize for name, (dtype, _) in kinds.items()}
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers refuses a file without it
    end, starts = 0, {}
    for name in sorted(kinds, key=lambda name: (-width[name], name)):
        dtype, shape = kinds[name]
        starts[name], end = end, end + math.prod(shape) * width[name]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [starts[name], end]}
    head = json.dumps(entries, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name, values in parts:
            file.seek(8 + len(head) + starts[name])
            file.write(np.ascontiguousarray(values, STORED[kinds[name][0]]).data)
