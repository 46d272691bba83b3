"""Decoders from files: the catalog's own TOML tables, and the config.json of Hugging Face checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pimllm_lib.catalog import precision, reading
from pimllm_lib.catalog.quantities import name_of, read_as, read_toml, require_known
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.workload.decoder import Decoder, PublishedShape

#: Keys of a model table that say where it comes from, not what shape it has.
ABOUT = ("summary", "source", "status", "where", "card_parameters", "name")


def from_table(name: str, table: Mapping[str, Any], where: str) -> Decoder:
    """Return the decoder that a table of sizes describes. Raises BadInput naming the file and the field."""
    known = {f.name for f in fields(Decoder)} - {"name"}
    shape = {key: value for key, value in table.items() if key not in ABOUT}
    require_known(where, f"field of {name}", shape, known)
    if not isinstance(published := shape.pop("published", {}), dict):
        raise BadInput(f"{where}: published of {name} is {clip(published)}; wanted a table such as {{ d_ff = 1024 }}")
    try:
        shape["published"] = PublishedShape(**published)
        return Decoder(name=name, **shape)
    except TypeError as error:
        raise BadInput(f"{where}: {name} cannot be a decoder: {str(error).split('__() ')[-1]}") from None
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def from_path(path: Path) -> Decoder:
    """Return the decoder in a TOML, GGUF or config.json file, or the latter of a folder or beside a safetensors file."""
    if os.path.isdir(path):  # unlike Path.is_dir, this takes any text for an answer
        path = path / "config.json"
    elif path.suffix == ".safetensors":
        path = path.with_name("config.json")
    if path.suffix == ".toml":
        table = read_toml(path)
        return from_table(name_of(table, path), table, str(path))
    if path.suffix == ".gguf":
        from pimllm_lib.catalog.gguf_models import from_gguf  # which makes a configuration of it, and asks this module

        return from_gguf(path)
    return from_config(path)


def from_config(path: Path) -> Decoder:
    """Return the decoder that a Hugging Face config.json describes, of a family that `families.FAMILIES` knows.

    Raises BadInput, in one line that names the file and the field, for anything that is not such a file.
    """
    config = read_as("JSON", json.loads, path)
    if not isinstance(config, dict):
        raise BadInput(f"{path} holds {clip(config)}; wanted a JSON object with model_type and sizes")
    name = str(config.get("_name_or_path") or path.resolve().parent.name).rstrip("/").split("/")[-1] or path.stem
    marks = precision.of(config, path.parent, str(path))
    if config.get("model_type") == "minicpm":  # LLaMA's shapes; what it multiplies by costs nothing that is counted
        config = {"tie_word_embeddings": True} | config | {"model_type": "llama"}
    return replace(from_mapping(config, str(path), name), **marks)


def from_mapping(config: dict[str, Any], path: str, name: str) -> Decoder:
    """Return the decoder that such a configuration describes; path: where it is from, which errors say."""
    return from_table(name, reading.shape(config, path), path)
