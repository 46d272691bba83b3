"""Safetensors files by their headers: which tensors there are, of which types and shapes, and where they lie.

The library's own reader judges a file. It gives no bfloat16 to numpy, so `analog.lm.tensors` reads bytes by these places.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pimllm_lib.catalog.quantities import read_text
from pimllm_lib.core.errors import BadInput, clip, one_line

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
#: What lies beside a model that was trained here: how, and the SHA-256 of its files.
RECORD = "training.json"
#: Files that a checkpoint was kept in before, as Python objects.
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: its file, number type and shape, and the first of its bytes."""

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


def require_model(*folders: Path) -> None:
    """Raise BadInput for folders of which the record alone is here, as an installed package has most of them."""
    lacking = [at for at in folders if (at / RECORD).is_file() and not (at / SINGLE).is_file()]
    if lacking:
        first, names = lacking[0], " ".join(at.name for at in lacking)
        how = f"'pimllm train {names} --into {first.parent}', or the folder from data/checkpoints of a checkout"
        raise BadInput(f"{first} has the record of a model and no model, to keep packages small; wanted {how}")


def find(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, from the headers of its one file or of its shards.

    Raises BadInput for a folder with pickled weights only or none at all, a damaged file, and an index that is wrong.
    """
    if (folder / SINGLE).is_file():
        return header(folder / SINGLE)
    if (folder / INDEX).is_file():
        return _sharded(folder / INDEX)
    require_model(folder)
    for pickled in (path for pattern in PICKLES for path in sorted(folder.glob(pattern))):
        raise BadInput(f"{pickled} holds pickled weights, which can run code; wanted safetensors: {SINGLE}")
    raise BadInput(f"{folder} has no {SINGLE} and no {INDEX}; wanted one of them")


def header(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one file by name. Raises BadInput for a file that is no whole safetensors file."""
    from safetensors import SafetensorError, safe_open  # a catalog of sizes alone needs none of it

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
