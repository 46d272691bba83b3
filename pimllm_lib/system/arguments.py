"""The arguments of an evaluation, checked and brought into the form it works on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.core.axes import Frame
from pimllm_lib.core.conventions import Conventions
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.schema import EXTENSIVE
from pimllm_lib.workload.decoder import Decoder, PublishedShape
from pimllm_lib.workload.shapes import as_published, at_pim_width

#: The longest context that is taken: beyond it counts would leave the whole numbers of a float64.
MAX_CONTEXT = 10**9


def listed(value: Any) -> list[Any]:
    """Return a list of at least one item."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items:
        raise BadInput("an empty list was given; wanted at least one name")
    return items


def wanted(variables: Sequence[str] | None) -> set[str]:
    """Return the extensive variables asked for; raises UnknownName for one that is none."""
    if isinstance(variables, str) or not isinstance(variables, Iterable | None):
        raise BadInput(f"variables is {clip(variables)}; wanted a list of names")
    for name in variables or ():
        if not isinstance(name, str) or name not in EXTENSIVE:
            raise unknown("variable", name, EXTENSIVE)
    return set(EXTENSIVE if variables is None else variables)


def unique(what: str, items: list[Any]) -> list[Any]:
    """Return the items; raises BadInput when two share a name, since the name is their label in the result."""
    names = [item.name for item in items]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{what} {name!r} was given {names.count(name)} times; wanted distinct names")
    return items


def contexts(value: Any) -> list[int]:
    """Return context lengths as a list of distinct whole numbers from 1 to MAX_CONTEXT."""
    items = value.values.tolist() if isinstance(value, xr.DataArray) else value
    items = items.tolist() if hasattr(items, "tolist") else items
    items = list(items) if isinstance(items, Iterable) and not isinstance(items, str | bytes) else [items]
    for item in items or ["nothing"]:
        whole = isinstance(item, int | float) and not isinstance(item, bool) and item == item // 1
        if not whole or not 1 <= item <= MAX_CONTEXT:
            raise BadInput(f"context_len is {clip(item)}; wanted a whole number of tokens from 1 to {MAX_CONTEXT}")
    if len(set(items)) < len(items):
        raise BadInput(f"context_len is {clip(items)}; wanted distinct lengths")
    return [int(item) for item in items]


def shapes(frame: Frame, models: list[Decoder], counting: Conventions, *, decode: bool = True) -> dict[str, Any]:
    """Return the decoder each engine works on, sizes along the model dimension, shaped as the conventions say.

    decode: of a prompt, which is read with all that attention reaches, nothing is chosen.
    """
    shaped = [as_published(m, d_ff=counting.published_ffn_width, gated=counting.published_ffn_gate) for m in models]
    on_pim = [at_pim_width(m) if counting.published_pim_width else m for m in shaped]
    stacked = {"array": _stack(frame, shaped), "pim": _stack(frame, on_pim)}
    return stacked if decode else {engine: replace(d, top_tokens=np.inf) for engine, d in stacked.items()}


def _stack(frame: Frame, models: list[Decoder]) -> Decoder:
    """Return models as one, each size along the model dimension. What a study used in their place is applied already."""
    same = ("name", "published", "value_dim", "kv_shared", "mixer", "side", "once", "dense", "blocks")  # see `is_plain`
    sizes = [f.name for f in fields(models[0]) if f.name not in same]
    along = {name: frame.concat("model", [_aligned(frame, m, name) for m in models]) for name in sizes}
    return replace(models[0], name="stack", published=PublishedShape(), **along)


def _aligned(frame: Frame, decoder: Decoder, name: str) -> Any:
    """Return one size of a decoder along the frame: a number as float64, a name as it is."""
    value = getattr(decoder, name)
    if value is None and name == "embedding_dim":
        value = decoder.d_model
    value = frame.align(value)
    return np.asarray(value) if isinstance(value, str) else np.asarray(value, dtype=float)
