"""Whole machines with uncertain constants: their headline numbers, and in which draws a published number is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_lib.analysis import influence
from pimllm_lib.analysis.claims import in_print, merits, published
from pimllm_lib.analysis.standing import CELLS, with_cells, with_temperature
from pimllm_lib.analysis.uncertainty import SYSTEMS, Constant, ends, factors, laid, machines
from pimllm_lib.core import joining
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.schema import annotate
from pimllm_lib.hardware import System
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import compare, summary

#: The headline numbers that are followed through the draws.
OUTPUTS = ("tokens_per_s", "tokens_per_j", "power_w", "speedup", "energy_gain", "tile_area_m2")
#: Band -> share of the draws below it.
BANDS = {"5 %": 0.05, "50 %": 0.5, "95 %": 0.95}
#: Temperatures of a cool and of a hot chip.
CORNERS_K = (300, 360)
#: Quantity -> on which side of the printed number it is kept, and why that side.
SIDES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("tokens_per_s", "tokens_per_j"), ("at least", "the machine named does as well as printed")),
    "words_per_battery": ("at least", "the machine named does as well as printed"),
    **dict.fromkeys(("speedup", "energy_gain"), ("at least", "PIM-LLM gains as much as printed, or loses no more")),
    **dict.fromkeys(("ops_per_s", "ops_per_j"), ("at least", "the machine named does as well as printed")),
    **dict.fromkeys(("ops_per_s_lead", "ops_per_j_lead"), ("at least", "PIM-LLM leads by as much as printed")),
    "array_share": ("at least", "crossbars and all around them are no larger a part of the time"),
    "analog_share": ("below", "crossbars and converters are no larger a part of the time"),
    **dict.fromkeys(("projection_share", "projection_cycle_share"), ("at least", "what crossbars take over dominates")),
}
#: Variables and detail of an evaluation -> the claimed quantities that it can answer.
_EVALUATIONS: tuple[tuple[tuple[str, ...], str, frozenset[str]], ...] = (
    (("macs", "cycles", "array_products"), "op", frozenset({"projection_share", "projection_cycle_share"})),
    (("latency_s",), "component", frozenset({"array_share", "analog_share"})),
    (
        ("latency_s", "energy_j", "macs", "program_j"), "total",
        frozenset(SIDES) - {"projection_share", "projection_cycle_share", "array_share", "analog_share"},
    ),
)  # fmt: skip


def headlines(values: Mapping[str, Any], *, model: Any, context_len: Any) -> xr.Dataset:
    """Return `OUTPUTS` of the whole machines for constants at the given values (the catalog's where not given).

    speedup, energy_gain and tile_area_m2 are of pim-llm, the first two against tpu-llm. Both machines have the same digital
    parts, so tiles and what serves them take the difference of the areas.
    """
    found = compare(
        summary(_evaluated(values, model, context_len, ("latency_s", "energy_j", "area_m2", "program_j"))), SYSTEMS[0]
    )
    found["power_w"] = found.energy_j / found.latency_s
    found["tile_area_m2"] = found.area_m2 - found.area_m2.sel(system=SYSTEMS[0], drop=True)
    against = found[["speedup", "energy_gain", "tile_area_m2"]].sel(system=SYSTEMS[1], drop=True)
    return annotate(found[["tokens_per_s", "tokens_per_j", "power_w"]].assign(against.data_vars))


def _evaluated(
    values: Mapping[str, Any], model: Any, context_len: Any, variables: tuple[str, ...], detail: str = "total"
) -> xr.Dataset:
    return _of(machines(values), model, context_len, variables, detail)


def _of(
    both: list[System], model: Any, context_len: Any, variables: tuple[str, ...], detail: str = "total"
) -> xr.Dataset:
    return evaluate(
        system=both, model=model, context_len=context_len, conventions="full-system", variables=variables, detail=detail
    )


def bands(drawn: xr.Dataset, nominal: xr.Dataset) -> xr.Dataset:
    """Return headlines along `band`: at the catalog's own values, and the values below which `BANDS` of the draws lie."""
    spread = drawn.quantile(list(BANDS.values()), "sample", keep_attrs=True).rename(quantile="band")
    both = joining.concat(
        [nominal.assign_coords(band="catalog"), spread.assign_coords(band=list(BANDS))], "band", join="exact"
    )
    return annotate(both.transpose(..., "band"))


def signs(drawn: xr.Dataset) -> xr.Dataset:
    """Return the share of draws in which pim-llm decodes faster, and more tokens for each joule."""
    found = {"faster_share": drawn.speedup > 1, "thriftier_share": drawn.energy_gain > 0}
    return annotate(xr.Dataset({name: holds.mean("sample") for name, holds in found.items()}))


def corners(values: Mapping[str, Any], *, model: Any, context_len: Any) -> xr.Dataset:
    """Return the share of draws in which pim-llm decodes more tokens a joule, with the cells and the temperature of a corner
    in both machines, and all else as drawn: dimensions cells and temperature_k before those of the draws.
    """
    drawn, rows = machines(values), []
    for cells, kelvin in product(CELLS, CORNERS_K):
        both = [with_temperature(with_cells(one, cells), kelvin) for one in drawn]
        ds = compare(summary(_of(both, model, context_len, ("latency_s", "energy_j", "program_j"))), SYSTEMS[0])
        thriftier = (ds.energy_gain.sel(system=SYSTEMS[1], drop=True) > 0).mean("sample")
        rows.append(
            thriftier.expand_dims(cells=[cells], temperature_k=[kelvin]).to_dataset(name="corner_thriftier_share")
        )
    return annotate(joining.by_coords(rows))


def gain(ds: xr.Dataset, name: str) -> xr.DataArray:
    """Return a headline of pim-llm as a positive number, energy_gain with one added, for logarithms and ratios.

    Raises UnknownName for no headline.
    """
    if name not in OUTPUTS:
        raise unknown("output", name, OUTPUTS)
    value = ds[name].sel(system=SYSTEMS[1], drop=True) if "system" in ds[name].dims else ds[name]
    return value + 1 if name == "energy_gain" else value


def kept(claim: Mapping[str, str], computed: Any) -> Any:
    """Return where computed values, in the unit of print, keep a claim: on its side of `SIDES` of the printed number.

    What would be printed as the number reaches it: a rounded one may lie half a step of its last digit below, a truncated
    one and a bound are what they say. Raises BadInput for a quantity without a side.
    """
    if claim["quantity"] not in SIDES:
        raise BadInput(f"claims of {clip(claim['quantity'])} have no side; wanted one in robustness.SIDES")
    computed, printed = np.asarray(computed), float(claim["value"])
    if SIDES[claim["quantity"]][0] == "below":
        return computed < printed
    half = 0.5 * 10.0 ** -int(claim["decimals"]) if claim["rounding"] == "rounded" else 0.0
    return computed >= printed - half


def holding(values: Mapping[str, Any]) -> xr.Dataset:
    """Return for every published number the share of draws in which it is kept, and its nominal ratio to print.

    values: constants along `sample`. NaN where the memory does not hold the model.
    """
    rows = published()
    found = dict.fromkeys(rows.id, (float("nan"), float("nan"))) | dict(_judged(rows, values))
    table = np.array(list(found.values()))
    claims = {"holding_share": ("claim", table[:, 0]), "claim_ratio": ("claim", table[:, 1])}
    return annotate(xr.Dataset(claims, coords={"claim": list(found)}))


def _judged(rows: pd.DataFrame, values: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, float]]]:
    for variables, detail, quantities in _EVALUATIONS:
        asked = rows[rows.quantity.isin(quantities)]
        held = [model for model in asked.model.unique() if _fits(model, max(asked.context_len, key=int))]
        for models in [[model] for model in held] if detail == "component" else [held]:  # a dense table is large
            yield from _batch(asked[asked.model.isin(models)], values, variables, detail)


def _fits(model: str, context_len: str) -> bool:
    """Return whether the machines' memory holds a model and its cache; no draw changes that."""
    try:
        _evaluated({}, model, int(context_len), ("macs",))
    except BadInput:
        return False
    return True


def _batch(
    rows: pd.DataFrame, values: Mapping[str, Any], variables: tuple[str, ...], detail: str
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield for each claim the share of draws in which it is kept, and its nominal value over the printed one."""
    models, contexts = list(rows.model.unique()), sorted({int(n) for n in rows.context_len})
    both = [summary(_evaluated(x, models, contexts, variables, detail)) for x in (values, {})]
    drawn, nominal = (merits(compare(ds, SYSTEMS[0])) if "energy_j" in ds else ds for ds in both)
    for claim in rows.to_dict("records"):
        each, own = (in_print(claim, ds) for ds in (drawn, nominal))
        yield claim["id"], (float(np.mean(kept(claim, each))), float(own) / float(claim["value"]))


#: What indices and swings are for; of pim-llm, or of pim-llm against tpu-llm.
MAIN = ("speedup", "energy_gain", "tokens_per_s", "tokens_per_j")
Case = tuple[str, int]


def cases(ds: xr.Dataset) -> list[Case]:
    """Return the first and the last model of a result at its first and its last context."""
    ends = [(str(ds.model.values[m]), int(ds.context_len.values[n])) for m in (0, -1) for n in (0, -1)]
    return list(dict.fromkeys(ends))


def explained(drawn: Sequence[Constant], at: Sequence[Case], *, points: int, seed: int) -> xr.Dataset:
    """Return Sobol's indices of the logarithm of each of `MAIN`: dimensions output, case and factor.

    Logarithms, because the outputs are products and quotients of constants that spread by factors. Raises BadInput where
    an output does not vary.
    """
    names = factors(drawn)
    values = laid(drawn, influence.plan(names, points=points, seed=seed))

    def judge(output: Any) -> xr.Dataset:
        influence.require_spread(output)
        return influence.indices(names, np.log(output), seed=seed)

    return _over(at, values, judge)


def swings(drawn: Sequence[Constant], at: Sequence[Case]) -> xr.Dataset:
    """Return each of `MAIN` with one constant at an end of its range, over the nominal: output, case, constant and end."""
    coords = {"constant": [constant.name for constant in drawn], "end": ["low", "high"]}

    def pairs(values: Any) -> xr.Dataset:  # the last sample has every constant at the catalog's value
        return xr.Dataset({"swing": (("constant", "end"), (values[:-1] / values[-1]).reshape(-1, 2))}, coords=coords)

    return _over(at, ends(drawn), pairs)


def _over(at: Sequence[Case], values: Mapping[str, Any], judge: Callable[[Any], xr.Dataset]) -> xr.Dataset:
    """Return what is found from the values of each of `MAIN` along the samples, in each case."""
    models, contexts = (list(dict.fromkeys(labels)) for labels in zip(*at, strict=True))
    ds = headlines(values, model=models, context_len=contexts)
    rows = [
        joining.concat([judge(gain(ds, name).sel(model=m, context_len=n).values) for m, n in at], "case")
        for name in MAIN
    ]
    labels = {"output": list(MAIN), "case": [f"{model} at {context} tokens" for model, context in at]}
    return annotate(joining.concat(rows, "output").assign_coords(labels))
