"""Contexts at which one thing outgrows another, on whole numbers of tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.schema import ATTENTION_OPS, annotate
from pimllm_lib.system.arguments import contexts, listed
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import share, total

#: Contexts tried at once in each round of a search.
_TRIED = 64


def crossings(
    *, system: Any, model: Any, conventions: Any = "corrected", reference: int = 128, longest: int = 2**15
) -> xr.Dataset:
    """Return the contexts at which decoding changes its character, for each system and model.

    attention_half_tokens: the first context at which attention takes half of the latency or more. rate_half_tokens: the
    first at which tokens/s are at most half of those at `reference` tokens. NaN where neither happens up to `longest`.
    """
    args = {"system": system, "model": model, "conventions": conventions}
    slow = 2 * latency(evaluate(context_len=reference, **args)).isel(context_len=0)
    half = first_context(attention_share, 0.5, longest=longest, **args)
    halved = first_context(latency, slow, longest=longest, **args)
    return annotate(xr.Dataset({"attention_half_tokens": half, "rate_half_tokens": halved}))


def latency(ds: xr.Dataset) -> xr.DataArray:
    """Return the time of a step."""
    return total(ds)["latency_s"]


def attention_share(ds: xr.Dataset) -> xr.DataArray:
    """Return the share of attention in the time of a step."""
    return share(ds, "latency_s", "op").sel(op=list(ATTENTION_OPS)).sum("op")


def first_context(
    measure: Callable[[xr.Dataset], xr.DataArray], level: Any, *, system: Any, model: Any,
    conventions: Any = "corrected", longest: int = 2**15,
) -> xr.DataArray:  # fmt: skip
    """Return the smallest context length at which a measure reaches a level, for each system and model; NaN where it does
    not up to `longest`.

    measure: from a dataset split by op, with the one variable latency_s, to one number a context, which must not fall with
    context. level: a number, or a DataArray along system and model.
    """
    last = contexts(longest)[0]
    systems = [catalog.system(item) for item in listed(system)]
    models = [catalog.model(item) for item in listed(model)]
    labels = {"system": [s.name for s in systems], "model": [m.name for m in models]}
    wanted = xr.DataArray(level).broadcast_like(xr.Dataset(coords=labels)).transpose("system", "model").values

    def reached(tried: Any) -> Any:
        """Return where the measure is at its level: (system, model, context)."""
        ds = evaluate(
            system=systems,
            model=models,
            conventions=conventions,
            context_len=tried,
            detail="op",
            variables=["latency_s"],
        )
        found = measure(ds).broadcast_like(ds.latency_s.isel(op=0, drop=True))
        for dim in set(found.dims) - {*labels, "context_len"}:
            raise BadInput(f"{dim} is an axis of a system or a model; wanted one value of each number")
        return found.transpose(*labels, "context_len").values >= wanted[..., None]

    ever = reached([last])[..., 0]
    return xr.DataArray(np.where(ever, _first(reached, ever, last), np.nan), labels, tuple(labels))


def _first(reached: Callable[[Any], Any], ever: Any, last: int) -> Any:
    """Return the first of 1 ... last that is reached: many at once for all, then between the two that enclose each."""
    low, high = np.zeros(ever.shape, dtype=int), np.full(ever.shape, last)
    while (open_ := ever & (high - low > 1)).any():
        ends = set(zip(low[open_].tolist(), high[open_].tolist(), strict=True))
        tried = np.unique([np.linspace(*pair, _TRIED + 2).round().astype(int) for pair in ends])
        tried = tried[(tried > 0) & (tried < last)]
        there = reached(tried)
        high = np.minimum(high, np.where(there, tried, last).min(axis=-1))
        low = np.maximum(low, np.where(there, 0, tried).max(axis=-1))
    return high
