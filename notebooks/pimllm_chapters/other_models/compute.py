"""What chapter 14 evaluates: families of models, both machines at several bits of a weight, and verdicts on conclusions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.core import joining
from pimllm_lib.core.axes import axis
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import with_field
from pimllm_lib.core.schema import annotate
from pimllm_lib.hardware import System
from pimllm_lib.hardware.weights import with_weight_bits
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import compare, summary
from pimllm_lib.workload.decoder import Decoder, kinds
from pimllm_lib.workload.shapes import parameter_count

#: What is evaluated where nothing else is asked for.
SYSTEMS = ("tpu-llm", "pim-llm")
#: Both ways to count, the slips of the study left out of each, and their colours.
COUNTED = {"corrected": "#D55E00", "full-system": "#0072B2"}
#: Bits of the published machine's weights: a sign and one of magnitude, ternary.
PUBLISHED_BITS = 2
#: Side of a grid that holds a block of every model here; a side changes no result of a block that fits a smaller one.
GRID_SIDE = 128
_KEPT = (
    "latency_s", "energy_j", "macs", "tiles", "kv_bytes", "dram_bytes", "tokens_per_s", "tokens_per_j", "speedup",
    "energy_gain", "projection_share", "array_share", "analog_share",
)  # fmt: skip
_FAMILIES = ("as studied", "grouped heads", "window", "other mixers", "experts")


def family(decoder: Decoder) -> str:
    """Return the family of a model: what it has that the studied ones have not, the farthest from them first."""
    each = kinds(decoder)
    if any(np.any(kind.n_experts > 1) for kind in each):
        return "experts"
    if any(kind.mixer != "attention" for kind in each):
        return "other mixers"
    if any(np.any(np.isfinite(kind.window)) for kind in each):
        return "window"
    return "grouped heads" if any(np.any(kind.n_kv_heads < kind.n_heads) for kind in each) else "as studied"


def families(models: list[str]) -> dict[str, list[Decoder]]:
    """Return the models by family, those of each from the smallest to the largest."""
    found = sorted((catalog.model(name) for name in models), key=parameter_count)
    grouped = {name: [model for model in found if family(model) == name] for name in _FAMILIES}
    return {name: members for name, members in grouped.items() if members}


def named(groups: dict[str, list[Decoder]]) -> list[str]:
    """Return the names of all models."""
    return [model.name for members in groups.values() for model in members]


def published_bits(ds: xr.Dataset) -> int:
    """Return the published bits of a weight, or the fewest where those were not evaluated."""
    known = ds.weight_bits.values
    return PUBLISHED_BITS if PUBLISHED_BITS in known else int(known.min())


def counterparts(groups: dict[str, list[Decoder]]) -> dict[str, tuple[Decoder, Decoder]]:
    """Return for the largest model of each family but the first what it changes: the model without it, and the model.

    A mixture is held against one FFN as wide as its active experts together, which does as much work.
    """
    made = {}
    for name, members in groups.items():
        one = members[-1]
        if name == "grouped heads":
            made["as many KV heads as heads"] = _with(one, n_kv_heads=one.n_heads), one
        elif name == "window":
            made["no window"] = _with(one, window=np.inf), one
        elif name == "other mixers" and (attending := [kind for kind in kinds(one) if kind.mixer == "attention"]):
            made["attention in every block"] = replace(attending[0], n_layers=one.n_layers), one
        elif name == "experts":
            dense = _with(one, n_experts=1, experts_per_token=1, d_ff=one.d_ff * one.experts_per_token)
            made["one FFN as wide as the active experts"] = dense, one
    return {what: (replace(without, name=f"{one.name}, {what}"), one) for what, (without, one) in made.items()}


def _with(one: Decoder, **changed: Any) -> Decoder:
    """Return a model with some fields changed, in each kind of its blocks that has its own."""
    blocks = tuple({**kind, **{name: changed[name] for name in changed.keys() & kind.keys()}} for kind in one.blocks)
    return replace(one, blocks=blocks, **changed)


def machines(weight_bits: list[int], systems: Sequence[str] = SYSTEMS) -> list[System]:
    """Return two systems, a baseline and a rival, with weights of each number of bits, along an axis, on grids that hold any
    block here. Raises BadInput for other than two.
    """
    if len(systems) != 2:
        raise BadInput(f"systems are {clip(list(systems))}; wanted two, a baseline and a rival")
    bits = axis(weight_bits=weight_bits) if len(weight_bits) > 1 else weight_bits[0]
    found = (catalog.system(name) for name in systems)
    wide = (one if one.pim is None else with_field(one, "pim.grid_side", GRID_SIDE) for one in found)
    return [with_weight_bits(system, bits) for system in wide]


def evaluated(
    groups: dict[str, list[Decoder]], context_len: list[int], weight_bits: list[int], systems: Sequence[str] = SYSTEMS
) -> xr.Dataset:
    """Return both machines on every model and counterpart, context and number of weight bits.

    Dimensions: system, model, conventions, context_len and weight_bits. NaN where memory does not hold weights and cache of
    TPU-LLM, and with it no comparison.
    """
    models = [model for members in groups.values() for model in members]
    models += [without for without, _ in counterparts(groups).values()]
    tables = [
        joining.concat(
            [_of_model(model, context_len, weight_bits, counted, systems) for counted in COUNTED], "conventions"
        )
        for model in models
    ]
    whole = joining.concat(tables, "model")
    whole["weight_bits"].attrs.update(long_name="bits of a weight", units="1")
    return annotate(whole.transpose("system", "model", "conventions", "context_len", "weight_bits"))


def _of_model(
    model: Decoder, context_len: list[int], weight_bits: list[int], counted: str, systems: Sequence[str]
) -> xr.Dataset:
    """Return everything at once where memory holds it, else point by point."""
    whole = _held(model, context_len, weight_bits, counted, systems)
    if whole is None:
        whole = xr.Dataset(coords={"context_len": context_len, "weight_bits": weight_bits})
        for context, bits in product(context_len, weight_bits):
            if (point := _held(model, [context], [bits], counted, systems)) is not None:
                attrs = joining.united([whole.attrs, point.attrs])
                whole = whole.combine_first(point).assign_attrs(attrs)
    if "speedup" not in whole:
        raise BadInput(f"memory holds {model.name} at none of {context_len} tokens; wanted a smaller model or context")
    return whole


def _held(
    model: Decoder, context_len: list[int], weight_bits: list[int], counted: str, systems: Sequence[str]
) -> xr.Dataset | None:
    """Return the results, None where memory does not hold weights and cache of every point."""
    try:
        asked: dict[str, Any] = {"model": model, "context_len": context_len, "conventions": [counted]}
        ds = evaluate(system=machines(weight_bits, systems), detail="component", **asked)
    except BadInput as error:
        if "weights and key-value cache need" in str(error):
            return None
        raise
    bits = xr.DataArray(weight_bits, dims="weight_bits", coords={"weight_bits": weight_bits})
    kept = compare(summary(ds), str(ds.system.values[0]))[list(_KEPT)]
    return kept.broadcast_like(bits) if len(weight_bits) > 1 else kept.expand_dims(weight_bits=weight_bits)


@dataclass(frozen=True)
class Conclusion:
    """A conclusion of the study, where it stands, and what is true of a model and context if it holds.

    test: PIM-LLM's results of one family and one way to count, and those of the studied family -> one truth a point.
    """

    says: str
    stands: str
    test: Callable[[xr.Dataset, xr.Dataset], xr.DataArray]


def _grows(ds: xr.Dataset, studied: xr.Dataset) -> xr.DataArray:
    """Return for each pair of models whether the larger is sped up more; each is paired with the studied ones too."""
    both = ds if set(ds.model.values) == set(studied.model.values) else joining.concat([studied, ds], "model")
    own = set(ds.model.values)
    first = both.isel(context_len=0)
    size, gain, names = first.parameters.values, first.speedup.values, first.model.values
    pairs = [(i, j) for i in range(len(names)) for j in range(i) if size[i] != size[j] and own & {names[i], names[j]}]
    return xr.DataArray([bool((size[i] > size[j]) == (gain[i] > gain[j])) for i, j in pairs], dims="pair")


def _near(ds: xr.Dataset, tokens: int) -> xr.Dataset:
    """Return the results at the longest context up to so many tokens, at the shortest where all are longer."""
    within = [n for n in ds.context_len.values if n <= tokens]
    return ds.sel(context_len=max(within, default=ds.context_len.values.min()))


#: Thresholds are the printed ones: 97 % and 1 % of latency, 99 % of operations.
CONCLUSIONS = (
    Conclusion("faster than TPU-LLM", "rate chart", lambda ds, _: ds.speedup > 1),
    Conclusion("the larger the model, the larger the speed-up", "text", _grows),
    Conclusion(
        "the longer the context, the smaller the speed-up", "text", lambda ds, _: ds.speedup.diff("context_len") < 0
    ),
    Conclusion(
        "the array takes at least 97 % of latency at 4096 tokens",
        "text",
        lambda ds, _: _near(ds, 4096).array_share >= 0.97,
    ),
    Conclusion("crossbars, DACs and ADCs take less than 1 % of latency", "text", lambda ds, _: ds.analog_share < 0.01),
    Conclusion(
        "projections are at least 99 % of the operations at 128 tokens",
        "text, of larger models",
        lambda ds, _: _near(ds, 128).projection_share >= 0.99,
    ),
    Conclusion("more tokens/J than TPU-LLM", "abstract", lambda ds, _: ds.energy_gain > 0),
)


def verdict(true: xr.DataArray) -> str:
    """Return "holds" when a conclusion is true of every point, "fails" when of none, and else of how many it is.

    >>> verdict(xr.DataArray([True, False, True]))
    'depends: 2 of 3'
    """
    count, size = int(true.sum()), true.size
    return {size: "holds", 0: "fails"}.get(count, f"depends: {count} of {size}") if size else ""


def verdicts(ds: xr.Dataset, groups: dict[str, list[Decoder]], weight_bits: int = PUBLISHED_BITS) -> pd.DataFrame:
    """Return for each conclusion and each way to count the verdict in each family, with weights of some bits.

    Points that memory does not hold are left out.
    """
    rows = []
    for conclusion, counted in product(CONCLUSIONS, COUNTED):
        row = {"conclusion": conclusion.says, "where": conclusion.stands, "counted": counted}
        for name, members in groups.items():
            own, studied = (_pim(ds, counted, models, weight_bits) for models in (members, next(iter(groups.values()))))
            row[name] = verdict(conclusion.test(own, studied))
        rows.append(row)
    return pd.DataFrame(rows)


def _pim(ds: xr.Dataset, counted: str, models: list[Decoder], weight_bits: int) -> xr.Dataset:
    """Return PIM-LLM's results of some models under one way to count, where all of them are known, with their sizes."""
    at = {"conventions": counted, "model": [model.name for model in models]}
    here = ds.isel(system=-1, drop=True).sel(at, drop=True).sel(weight_bits=weight_bits).drop_vars("weight_bits")
    sizes = ("model", [float(parameter_count(model)) for model in models])
    return here.dropna("context_len", subset=["speedup"]).assign(parameters=sizes)
