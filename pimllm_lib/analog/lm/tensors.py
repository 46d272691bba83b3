"""Tensors of safetensors files, one at a time or some rows of it, and files written tensor by tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pimllm_lib.catalog.headers import Tensor
from pimllm_lib.core.errors import BadInput

#: The format's name of a number type -> how numpy reads its bytes. A bfloat16 is the upper half of a float32.
STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1", "U32": "<u4"}
FLOATS, BYTES, WORDS = ("F16", "BF16", "F32"), ("U8",), ("U32",)
#: Rows of a tensor: from one up to another, some by number, or all.
Rows: TypeAlias = slice | np.ndarray | None


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
