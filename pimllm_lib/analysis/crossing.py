"""Contexts at which one thing outgrows another, on whole numbers of tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    last, levels = contexts(longest)[0], xr.DataArray(level)
    systems = [catalog.system(item) for item in listed(system)]
    models = [catalog.model(item) for item in listed(model)]
    found = np.full((len(systems), len(models)), np.nan)
    for i, machine in enumerate(systems):
        for j, decoder in enumerate(models):
            here = {"system": machine.name, "model": decoder.name}
            wanted = float(levels.sel({dim: here[str(dim)] for dim in levels.dims}))
            values = partial(_values, measure, {"system": machine, "model": decoder, "conventions": conventions})
            found[i, j] = _search(values, wanted, last)
    names = {"system": [s.name for s in systems], "model": [m.name for m in models]}
    return xr.DataArray(found, names, ("system", "model"))


def _values(measure: Callable[[xr.Dataset], xr.DataArray], args: dict[str, Any], tried: Any) -> Any:
    """Return a measure of one system and model at the contexts to try. Raises BadInput when one of them is swept."""
    found = measure(evaluate(context_len=tried, detail="op", variables=["latency_s"], **args)).values.reshape(-1)
    if found.size != len(tried):
        raise BadInput(f"{args['system'].name} or {args['model'].name} has an axis; wanted one value of each number")
    return found


def _search(values: Callable[[Any], Any], level: float, last: int) -> float:
    """Return the first of 1 ... last at which values reach a level: many at once, then between the two that enclose it."""
    if values([last]) < level:
        return float("nan")
    low, high = 0, last  # below the level at low, if low is a context at all; not below it at high
    while high - low > 1:
        tried = np.unique(np.linspace(low, high, _TRIED + 2).round().astype(int))[1:-1]
        above = tried[values(tried) >= level]
        high = int(above[0]) if above.size else high
        low = int(max([low, *tried[tried < high]]))
    return float(high)
